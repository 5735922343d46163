"""Frame rate: times every runtime of each student in turn, measures what each costs in quality, runs a pose track.

Writes results.csv (a row a measurement), region.csv, track.csv and startup.csv, from which report.py makes table.md and
plot.png. Nothing in those is typed. A part that is switched off leaves its file as it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from peers import PEERS
from startup import measure_startup
from students import Student, default_for, open_students, usable
from track import TeacherPairs, run_track

from thadistill.data.poses import load_poses, sample_poses
from thadistill.errors import UserError
from thadistill.metrics.benchmark import Candidate, hardware, measure_speeds
from thadistill.metrics.image import psnr
from thadistill.outputs import StudentOutput
from thadistill.runtime import Runtime, compile_model, resolve
from thadistill.student import CharacterModel

HERE = Path(__file__).parent
DTYPE = {"int16": "int16", "half": "float16"}
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
            ["git", "status", "--porcelain", "--", ":/thadistill"], capture_output=True, text=True, cwd=HERE
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return name.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def build(model: CharacterModel, runtime: str, visible: np.ndarray | None) -> Runtime:
    """A runtime or a peer; every one that can skip tiles skips the same ones as the native one, where that runs."""
    if runtime in PEERS:
        return PEERS[runtime](model)
    options = {"visible": visible} if runtime == "folded" and visible is not None else {}
    return compile_model(model, runtime, **options)


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
    student: Student, runtimes: list[str], frames: int, warmup: int, checked: int
) -> list[dict[str, object]]:
    """One row per runtime: frame times from pose to 8-bit RGBA, interleaved in this process, and deviations from eager."""
    model = student.model
    visible = compile_model(model, "native").visible if usable(student, ["native"]) else None
    built: dict[str, Runtime] = {}

    def candidate(runtime: str) -> Candidate:
        def make() -> object:
            built[runtime] = build(model, runtime, visible)
            return built[runtime].rgba8

        kind = runtime if runtime in PEERS else resolve(runtime)
        return Candidate(make, DTYPE.get(kind, "float32"))  # type: ignore[arg-type]

    speeds = measure_speeds(
        {runtime: candidate(runtime) for runtime in runtimes}, sample_poses(40, seed=31), frames=frames, warmup=warmup
    )
    poses = sample_poses(checked, HELD_OUT_SEED)
    with torch.no_grad():
        eager = [model(pose) for pose in poses.split(1)]
    rows = []
    for runtime, speed in speeds.items():
        decibels, pixels = deviation(built[runtime], eager, poses)
        row = {"model": student.name, "runtime": runtime, "default_for": default_for(runtime), **speed.row()}
        row |= {"psnr_to_eager": round(decibels, 2), "grid_max_px": round(pixels, 4), "commit": commit()}
        row["times_eager"] = round(speeds["eager"].ms_median / speed.ms_median, 2) if "eager" in speeds else ""
        rows.append(row | student.about())
    return rows


def check_region(
    name: str, model: CharacterModel, runtime: str, sets: Mapping[str, torch.Tensor]
) -> list[dict[str, object]]:
    """How often poses that the region was not made from paint a skipped tile, by more than half an 8-bit level."""
    fast = compile_model(model, runtime)
    skipped = torch.from_numpy(~getattr(fast, "visible", np.ones((512, 512), bool)))
    whole = compile_model(model, runtime, visible=False) if skipped.any() else None
    rows = []
    for kind, poses in sets.items():
        worst = [0.0]  # nothing is skipped
        if whole is not None:
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


def speed_rows(students: list[Student], given: argparse.Namespace) -> Iterator[list[dict[str, object]]]:
    """A student's rows of results.csv at a time."""
    for student in students:
        runtimes = usable(student, given.runtimes)
        if runtimes:
            yield time_runtimes(student, runtimes, given.frames, given.warmup, given.checked)


def region_rows(
    students: list[Student], given: argparse.Namespace, track: torch.Tensor | None
) -> Iterator[list[dict[str, object]]]:
    """A student's rows of region.csv at a time."""
    sets = {"held-out, sampled": sample_poses(given.held_out, HELD_OUT_SEED + 1)}
    if track is not None:
        sets["recorded track"] = track[:: max(1, len(track) // given.held_out)]
    for student in students:
        for runtime in ("exact", "reduced"):
            yield check_region(student.name, student.model, runtime, sets)


def track_rows(
    students: list[Student], given: argparse.Namespace, track: torch.Tensor
) -> Iterator[list[dict[str, object]]]:
    """A row of track.csv at a time."""
    pairs = None
    if given.teacher_pairs:
        pictures = given.out / "outputs" / "teacher"
        pairs = TeacherPairs(given.teacher, given.character, track, given.teacher_pairs, pictures)
        pairs.draw_all()
    flickered = min(given.flicker_frames, len(track))
    for student in students:
        for runtime in given.track_runtimes:
            row = run_track(student.name, student.model, runtime, track, pairs, flickered)
            own = student.metrics.get("teacher")
            if "teacher" in row and own:
                row["own_teacher"] = "yes" if own == row["teacher"] else "no"
            yield [row | {"hardware": hardware(), "commit": commit()}]


def startup_rows(student: Student, given: argparse.Namespace) -> Iterator[list[dict[str, object]]]:
    """A row of startup.csv at a time."""
    for row in measure_startup(student.folder, usable(student, given.startup), given.threads):
        about = {"model": student.name, "runtime": row["runtime"], "default_for": default_for(str(row["runtime"]))}
        yield [about | row | {"hardware": hardware(), "commit": commit()}]


def keep(path: Path, made: Iterable[list[dict[str, object]]], add: bool) -> list[dict[str, object]]:
    """Writes rows as they come, so that an interruption loses only what was being measured; gives all of them.

    ``add``: the file's rows stay where they are; a new one of the same model, runtime and poses takes the old one's place.
    """

    def key(row: Mapping[str, object]) -> tuple[object, ...]:
        return row["model"], row["runtime"], row.get("poses")

    kept: dict[tuple[object, ...], dict[str, object]] = {}
    if add and path.is_file():
        with path.open(newline="") as file:
            kept = {key(row): dict(row) for row in csv.DictReader(file)}
    rows: list[dict[str, object]] = []
    for more in made:
        rows += more
        kept |= {key(row): row for row in more}
        write(path, kept.values())
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "models", nargs="+", type=Path, help="folders of models or of distill's runs, or names of conf/student"
    )
    parser.add_argument(
        "--runtimes",
        nargs="*",
        default=["eager", "folded", "onnx", "native", "int16", *PEERS],
        help="those to time, peers.py's too; none: results.csv stays",
    )
    parser.add_argument("--track", type=Path, help="a file of recorded poses; without it track.csv stays")
    parser.add_argument(
        "--startup",
        nargs="*",
        default=["eager", "folded", "native", "int16", "onnx"],
        help="runtimes to start in processes of their own, with the first model; none: startup.csv stays",
    )
    parser.add_argument("--teacher", default="tha3", help="of conf/teacher: what the track's flicker is held against")
    parser.add_argument("--character", default="lambda_00", help="of conf/character: whom that teacher draws")
    parser.add_argument("--teacher-pairs", type=int, default=24, help="pairs of successive frames it draws; 0: none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--checked", type=int, default=6, help="held-out poses compared with eager")
    parser.add_argument("--track-runtimes", nargs="+", default=["reduced", "exact"])
    parser.add_argument("--track-frames", type=int, help="default: all")
    parser.add_argument("--flicker-frames", type=int, default=200, help="of the track, reduced against exact")
    parser.add_argument("--held-out", type=int, default=200, help="poses to look at for painted skipped tiles; 0: none")
    parser.add_argument("--out", type=Path, default=HERE, help="where the files go")
    parser.add_argument("--add", action="store_true", help="keep the files' rows of other models and runtimes")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        students = open_students(given.models)
        track = load_poses(given.track) if given.track else None
        rows = keep(given.out / "results.csv", speed_rows(students, given), given.add) if given.runtimes else []
        if given.startup:
            rows += keep(given.out / "startup.csv", startup_rows(students[0], given), given.add)
        if given.held_out:
            rows += keep(given.out / "region.csv", region_rows(students, given, track), given.add)
        if track is not None:
            rows += keep(given.out / "track.csv", track_rows(students, given, track[: given.track_frames]), given.add)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(json.dumps(rows[-1] if rows else {}))


if __name__ == "__main__":
    main()

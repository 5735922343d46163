"""Table 4: frame times of a student and its teacher, interleaved.

    python experiments/table4_student_speed/run.py [scale=full|cpu|small|smoke] [model=DIR] [runtimes=exact,reduced]

model: a character-model folder; without it the student has random weights, and only the forms whose time does not depend
on them are timed. Writes results.csv and table.md next to itself.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from thadistill.data.character import puppet, sample
from thadistill.data.poses import sample_poses
from thadistill.devices import resolve_device
from thadistill.metrics.benchmark import Candidate, Frame
from thadistill.runtime import resolve
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher
from thadistill.tables import Claim, Paper, Row, Run, make_rows, read_command, run_table, speed_rows, write_table
from thadistill.teacher import load_teacher

HERE = Path(__file__).parent
FRAMES = {"full": 1000, "cpu": 30, "small": 10, "smoke": 2}
CLAIMS = [
    Claim(
        "The student, layer by layer, is faster than THA3", lambda r: r["THA3"]["ms_median"] - r["student"]["ms_median"]
    ),
    Claim(
        "Its exact runtime is faster still",
        lambda rows: rows["student"]["ms_median"] - rows["student, exact"]["ms_median"],
    ),
]


def student(model: CharacterModel, runtime: str) -> Frame:
    """The frames that a viewer gets: 8-bit straight RGBA."""
    return model.compile(runtime=runtime, reuse=False).rgba8  # type: ignore[return-value]


def teacher(name: str, device: str) -> Frame:
    """The teacher's tensors: the time to 8 bits is left out."""
    made = load_teacher(name, device=device)
    image = (puppet() if name == "puppet" else sample("lambda_00")).image[None].to(device)

    def frame(pose: Tensor) -> object:
        with torch.inference_mode():
            return made(image, pose)

    return frame


def main() -> None:
    command = read_command(HERE, __doc__)
    options = dict(override.split("=", 1) for override in command.overrides)
    folder = options.get("model")
    device = str(resolve_device("cuda" if command.scale == "full" else "cpu"))
    torch.manual_seed(0)
    if folder is None:
        rotator = BodyRotator(width_scale=0.1 if command.scale == "smoke" else 1.0)
        model = CharacterModel(torch.full((4, 512, 512), -1.0), FaceMorpher(), rotator).to(device).eval()
    else:
        model = CharacterModel.load(folder, device)
    named = options.get("runtimes", "folded" if folder is None else "exact,reduced").split(",")
    runtimes = {"student": "eager", **{f"student, {name}": name for name in named}}
    candidates = {"puppet" if command.scale == "smoke" else "THA3": Candidate(
        partial(teacher, "puppet" if command.scale == "smoke" else "tha3", device)
    )}  # fmt: skip
    candidates |= {name: Candidate(partial(student, model, kind)) for name, kind in runtimes.items()}
    measured: dict[str, Row] = {}

    def row(name: str) -> Row:
        if not measured:  # interleaved, with the first that is missing
            poses = sample_poses(64, seed=31).to(device)
            measured.update(speed_rows(candidates, poses, FRAMES[command.scale], warmup=2))
        about: dict[str, object] = {"kind": "teacher"}
        if name in runtimes:
            about = {"kind": resolve(runtimes[name], device)}
            about |= {"size_mb": model.size_mb, "weights": "random" if folder is None else "trained"}
        return {**measured[name], **about}

    rows = make_rows(HERE / "results.csv", command.scale, [Run(name, partial(row, name)) for name in candidates])
    write_table(
        HERE / "table.md",
        "Table 4: frame times of the student",
        "Milliseconds per frame, one pose per frame, interleaved. Students up to 8-bit straight RGBA; the teacher up to its "
        "tensors, its image's own layers kept from frame to frame. `kind`: what the runtime's name stood for; "
        "`cpu_ms_median`: processor time of all threads, which other work on the machine hardly moves; `load`: its load "
        "average.",
        Paper(
            HERE / "paper.csv",
            "Why figures differ: the paper's are of GPUs, and its THA3 is the *standard* network; ours is "
            "*separable_float*, whose weights are on a registry (sizes and times of all three: table2_teacher_speed).",
        ),
        rows,
        ["ms_median", "ms_p95", "cpu_ms_median", "kind", "size_mb", "weights", "frames", "device", "threads", "load"],
        CLAIMS,
    )


if __name__ == "__main__":
    run_table(main)

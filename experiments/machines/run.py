"""Machines: what a processor makes of a teacher's pose, training steps and a student's frames, by instruction set.

    python experiments/machines/run.py [--seconds 2] [--threads 1 2]

Five minutes on whatever machine it is started. Kernels are built for every instruction set that the processor has and
timed in a process each; its own matrix products, by PyTorch, say what could be had. One thread is timed besides all of
them, with the kernels that users get: what does not get shorter by threads says what more cores would do. Rows go to
results.csv, those of this machine replaced, and table.md is made of all rows: send yours in.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import torch

from thadistill.config import compose
from thadistill.data.poses import sample_poses
from thadistill.files import write_csv, write_text
from thadistill.kernels.build import compiler, cpu_flags
from thadistill.metrics.benchmark import Candidate, hardware, measure_speeds
from thadistill.pipeline.fit import student_module
from thadistill.pipeline.report import environment
from thadistill.pipeline.targets import TargetSets
from thadistill.pipeline.worker import share_threads
from thadistill.runtime import compile_model, resolve
from thadistill.student import CharacterModel
from thadistill.tables.ledger import markdown, read_rows

HERE = Path(__file__).parent
# name: what the processor must have, what the compiler is told. The kernels read their way from what the compiler defines.
INSTRUCTIONS = {
    "x86-64": ((), "-march=x86-64"),
    "AVX2": (("avx2", "fma"), "-march=x86-64-v3"),
    "AVX2, VNNI": (("avx2", "fma", "avx_vnni"), "-march=x86-64-v3 -mavxvnni"),
    "AVX-512": (("avx512bw", "avx512vl", "avx512dq"), "-march=x86-64-v4"),
    "AVX-512, VNNI": (("avx512bw", "avx512vl", "avx512dq", "avx512_vnni"), "-march=x86-64-v4 -mavx512vnni"),
    "AVX-512, VNNI, BF16": (
        ("avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16"),
        "-march=x86-64-v4 -mavx512vnni -mavx512bf16",
    ),
}
POSES = 16  # of the targets that steps are timed on
COLUMNS = (
    *("instructions", "threads", "teacher_ms", "teacher_low_ms", "face_step_ms", "rotator_step_ms"),
    *("paper_exact_ms", "paper_reduced_ms", "slim_exact_ms", "slim_reduced_ms", "float32_gflops", "bfloat16_gflops"),
)

Row = dict[str, Any]


def instruction_sets() -> dict[str, str]:
    """Those that this processor has, and what was chosen without a word: name -> compiler flags."""
    have = {name: flags for name, (needed, flags) in INSTRUCTIONS.items() if set(needed) <= cpu_flags()}
    return {"native": "-march=native"} | (have if cpu_flags() else {})


def median_ms(call: Callable[[], object], seconds: float, least: int = 3) -> float:
    """The median time of a call in milliseconds; the first does not count."""
    call()
    times, began = [], time.perf_counter()
    while len(times) < least or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def matrix_products(seconds: float) -> Row:
    """What PyTorch makes of a product of 1,024 x 360 x 360, the size of the rotator's, in GFLOP/s."""
    row: Row = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = torch.randn(1024, 360, dtype=dtype), torch.randn(360, 360, dtype=dtype)
        row[f"{name}_gflops"] = 2e-6 * 1024 * 360 * 360 / median_ms(lambda a=a, b=b: a @ b, seconds / 4)
    return row


def teacher_times(seconds: float) -> Row:
    """A pose of THA3, in float32 and as training targets have it."""
    config = compose("distill", [])
    teacher = hydra.utils.instantiate(config.teacher, device="cpu")
    image, poses = hydra.utils.instantiate(config.character).image[None], iter(sample_poses(10_000, seed=1).split(1))

    def draw() -> object:
        with torch.inference_mode():
            return teacher(image, next(poses))

    plain = median_ms(draw, seconds)
    with teacher.low_precision():
        return {"teacher_ms": plain, "teacher_low_ms": median_ms(draw, seconds)}


def step_times(seconds: float) -> Row:
    """Training steps of both networks at the paper's size, drawing of their batches included, on the puppet's targets."""
    config = compose("distill", ["teacher=puppet", "character=puppet", "recipe=warm"])
    config.recipe.targets.posed = config.recipe.targets.face = POSES
    character, teacher = (
        hydra.utils.instantiate(config.character),
        hydra.utils.instantiate(config.teacher, device="cpu"),
    )
    sets = TargetSets(config, teacher, character.image, None).complete("posed", "face")
    streams = {
        "face": hydra.utils.instantiate(config.recipe.face_morpher.stream)(sets["face"], torch.ones(1, 128, 128)),
        "rotator": hydra.utils.instantiate(config.recipe.body_rotator.stream)(sets["posed"]),
    }
    modules = {
        "face": student_module(config, "face_morpher"),
        "rotator": student_module(config, "body_rotator", image=character.image),
    }
    row = {}
    for name, module in modules.items():
        optimizer, batches = module.configure_optimizers(), iter(streams[name])

        def step(module: Any = module, optimizer: Any = optimizer, batches: Iterator[Any] = batches) -> None:
            optimizer.zero_grad()
            module.losses(next(batches))["loss"].backward()
            optimizer.step()

        row[f"{name}_step_ms"] = median_ms(step, seconds)
    return row


def frame_times(seconds: float) -> Row:
    """Frames of the pretrained students on the sample character, from pose to RGBA, all interleaved."""
    image = hydra.utils.instantiate(compose("distill", []).character).image
    candidates = {}
    for student in ("paper", "slim"):
        config = compose("distill", [f"student={student}"])
        face, body = student_module(config, "face_morpher"), student_module(config, "body_rotator", image=image)
        model = CharacterModel(image, face.network, body.student()).eval()
        for runtime in ("exact", "reduced"):
            candidates[f"{student}_{runtime}"] = Candidate(
                lambda model=model, runtime=runtime: compile_model(model, runtime).rgba8
            )
    speeds = measure_speeds(candidates, sample_poses(40, seed=31), frames=200, max_seconds=4 * seconds)
    row: Row = {f"{name}_ms": speed.ms_median for name, speed in speeds.items()}
    return row | {"reduced_is": resolve("reduced")}


def measure_here(threads: int, seconds: float) -> Row:
    """All of it in this process, whose kernels are built for THADISTILL_NATIVE_FLAGS."""
    torch.set_num_threads(threads)
    row = matrix_products(seconds) | teacher_times(seconds) | step_times(seconds) | frame_times(seconds)
    return {key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}


def measure(flags: str, threads: int, seconds: float) -> Row:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--seconds", str(seconds), "--threads", str(threads), "--here"]
    environ = {**os.environ, "THADISTILL_NATIVE_FLAGS": flags, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, text=True)
    made: Row = json.loads(done.stdout.splitlines()[-1])
    return made


def scaling(rows: list[dict[str, str]]) -> list[list[str]]:
    """What more cores would do, by Amdahl's law from one thread and several; nothing without both."""
    natives = {int(row["threads"]): row for row in rows if row["instructions"] == "native"}
    several = max(natives, default=1)
    if 1 not in natives or several == 1:
        return []

    def milliseconds(key: str, threads: int) -> float:
        one, many = float(natives[1][key]), float(natives[several][key])
        serial = min(1.0, max(0.0, (several * many / one - 1) / (several - 1)))
        return one * (serial + (1 - serial) / threads)

    lines = []
    for threads in (2, 4, 8, 16):
        shares = share_threads(threads)
        poses = 6e4 / milliseconds("teacher_low_ms", shares.worker)
        poses += shares.helpers * 6e4 / milliseconds("teacher_low_ms", 1)
        step = milliseconds("rotator_step_ms", shares.rotator)
        cells = (threads, shares.rotator, shares.worker, shares.helpers, round(step), round(poses))
        lines.append([str(cell) for cell in cells])
    return lines


def write_table(rows: list[dict[str, str]], path: Path) -> None:
    """table.md: a section for each machine."""
    parts = [
        "# Machines",
        "Generated by run.py from results.csv. Medians in milliseconds: a pose of THA3 (`teacher_ms`; `teacher_low_ms` as "
        "training targets have it), a training step of either network at the paper's size, a frame of either student. "
        "`native`: kernels built as they are for users, the other rows for less. GFLOP/s: PyTorch's product of 1,024 x 360 "
        "by 360 x 360.",
    ]
    for machine in dict.fromkeys(row["hardware"] for row in rows):
        own = [row for row in rows if row["hardware"] == machine]
        parts += [f"## {machine}", markdown(COLUMNS, [[row.get(column, "") for column in COLUMNS] for row in own])]
        native = own[0]
        if lines := scaling(own):
            parts += [
                "With more cores, worked out from one thread and all, not measured: threads of the body rotator, of the "
                "worker (teacher, then face morpher), helpers that run the teacher; milliseconds of a step, the teacher's "
                "poses per minute.",
                markdown(("cores", "rotator", "worker", "helpers", "rotator_step_ms", "poses_per_minute"), lines),
            ]
        parts.append(
            f"`reduced` is `{native['reduced_is']}`. {native['date']}, load {native['load']}, commit {native['commit']}."
        )
    write_text(path, "\n\n".join(parts) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({torch.get_num_threads(), 1}, reverse=True))
    parser.add_argument("--instructions", nargs="+", help="only these; else all that the processor has")
    parser.add_argument("--out", type=Path, default=HERE, help="where results.csv and table.md go")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measure_here(given.threads[0], given.seconds)))
        return
    if compiler() is None:
        sys.exit("there is no C++ compiler here; expected one to time: pip install 'thadistill[compiler]'")
    have = instruction_sets()
    unknown = [name for name in given.instructions or [] if name not in have]
    if unknown:
        sys.exit(f"--instructions {unknown[0]}; expected some of {', '.join(have)}")
    about = environment()
    rows: list[Row] = []
    for threads in given.threads:
        for name in given.instructions or (have if threads == max(given.threads) else ["native"]):
            row = {"instructions": name, "threads": threads, **measure(have[name], threads, given.seconds)}
            load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else ""
            rows.append(
                {
                    "hardware": hardware(),
                    **row,
                    "load": load,
                    "date": time.strftime("%Y-%m-%d"),
                    "commit": about["commit"],
                }
            )
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    path = given.out / "results.csv"
    others = [row for row in read_rows(path) if row["hardware"] != hardware()]
    write_csv(path, [*others, *rows])
    write_table(read_rows(path), given.out / "table.md")


if __name__ == "__main__":
    main()

"""Start-up: a fresh process from nothing to the first 8-bit frame, with empty caches and with the same ones again.

Run by run.py, a process a measurement; imports nothing before the clock runs, so that importing is part of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PARTS = ("import", "load", "compile_model", "first_frame")
REFUSED = "refused"


def measure_startup(folder: Path, runtimes: Sequence[str], threads: int) -> Iterator[dict[str, object]]:
    """One row per runtime: seconds of each part and in all, cold (caches empty) and warm (the same caches again).

    Cold means the caches of this package and of torch.compile. Python's own and the system's, of the installed files,
    are warm in both: a process that is not counted goes first. A runtime that refuses is left out, and says so.
    """
    with tempfile.TemporaryDirectory() as caches:
        run_once(folder, "eager", threads, Path(caches))
    for runtime in runtimes:
        with tempfile.TemporaryDirectory() as caches:
            cold = run_once(folder, runtime, threads, Path(caches))
            if REFUSED in cold:
                print(f"start-up: {runtime} is left out: {cold[REFUSED]}", file=sys.stderr)
                continue
            warm = run_once(folder, runtime, threads, Path(caches))
        row: dict[str, object] = {"runtime": runtime, "threads": threads}
        for kind, seconds in (("cold", cold), ("warm", warm)):
            row |= {f"{kind}_{part}_s": seconds[part] for part in (*PARTS, "total")}
        yield row


def run_once(folder: Path, runtime: str, threads: int, caches: Path) -> dict[str, float]:
    """Seconds of each part, in a process of its own that has only these caches."""
    environment = {
        **os.environ,
        "THADISTILL_CACHE": str(caches / "thadistill"),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
    }
    command = [sys.executable, __file__, str(folder), runtime, str(threads), repr(time.time())]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def start(folder: str, runtime: str, threads: int, started: float) -> dict[str, object]:
    """What a program does until it can show its first frame; ``started`` is when its process was asked for."""
    marks = [started]
    import torch

    from thadistill.errors import UserError
    from thadistill.pose import POSE_PARAMETERS
    from thadistill.runtime import compile_model
    from thadistill.student import CharacterModel

    torch.set_num_threads(threads)
    marks.append(time.time())
    try:
        model = CharacterModel.load(folder)
        marks.append(time.time())
        fast = compile_model(model, runtime)
        marks.append(time.time())
        frame = fast.rgba8(POSE_PARAMETERS.rest())
    except UserError as error:
        return {REFUSED: str(error)}
    marks.append(time.time())
    assert frame.shape == (512, 512, 4)
    seconds = {part: round(marks[i + 1] - marks[i], 3) for i, part in enumerate(PARTS)}
    return {**seconds, "total": round(marks[-1] - started, 3)}


if __name__ == "__main__":
    print(json.dumps(start(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))

"""Kill -9 at random moments: the same command continues, its results are whole, its caches bit-equal, nothing runs on.

    python experiments/reliability/kills.py kills=6 seed=0 [verbs=prepare,cache,distill]

Each verb runs at toy size on the puppet, which needs no weights. It is killed at random moments of the time that it takes
undisturbed; after the last kill the same command runs to its end. What it then leaves is held against an undisturbed run.
``kills.csv`` has a row per verb.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from thadistill.files import cache_folder, write_csv

HERE = Path(__file__).parent
PUPPET = ("teacher=puppet", "trainer=cpu")
VERBS: dict[str, tuple[str, ...]] = {
    "prepare": ("prepare", "image=a.png", "head=[300,100,500,300]", "teacher=puppet", "face_mask=false", "out=mine"),
    "cache": ("cache", "kind=face", "n=64", *PUPPET, "targets=targets"),
    "distill": (
        *(
            "distill",
            *PUPPET,
            "budget_minutes=0.15",
            "student.body_rotator.width_scale=0.2",
            "student.face_morpher.width=32",
        ),
        *("recipe.targets.posed=32", "recipe.targets.face=32", "evaluation.poses=3", "validation.poses=1"),
        *("validation.checks=1", "evaluation.speed=false", "targets=targets", "out=run"),
    ),
}


def start(verb: str, folder: Path) -> subprocess.Popen[bytes]:
    """The command in a session of its own, so that all of it can be killed and looked for."""
    return subprocess.Popen(
        [sys.executable, "-c", "from thadistill.cli import main; main()", *VERBS[verb]],
        cwd=folder,
        env={**os.environ, "THADISTILL_CACHE": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=(folder / "stderr").open("wb"),
        start_new_session=True,
    )


def finish(verb: str, folder: Path) -> None:
    """Runs the command to its end.

    Raises: RuntimeError with what it said, where its status is not 0.
    """
    if start(verb, folder).wait() != 0:
        raise RuntimeError(f"{verb}: {(folder / 'stderr').read_text()[-2000:]}")


def left(folder: Path) -> dict[str, str]:
    """Hashes of what has to be the same however often a command was killed: targets, and what prepare wrote."""
    files = [*folder.glob("targets/**/*.npy"), *folder.glob("mine/*.png")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def is_whole(found: dict[str, str], meant: dict[str, str], verb: str) -> bool:
    """Whether both runs left the same files; of distill, whose clock decides how many there are, those in common."""
    if verb != "distill":
        return found == meant
    common = set(found) & set(meant)
    return bool(common) and all(found[name] == meant[name] for name in common)


def runs_on(group: int) -> bool:
    """Whether a process of a session is still there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def prepared(folder: Path) -> None:
    """An empty folder with what prepare is given, and the kernels that were built before: they take as long as a verb."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "cache").mkdir(parents=True)
    kernels = cache_folder() / "native"
    kernels.mkdir(parents=True, exist_ok=True)
    (folder / "cache" / "native").symlink_to(kernels.resolve(), target_is_directory=True)
    given = Image.new("RGBA", (800, 1200))
    given.paste("orange", (300, 100, 500, 1100))
    given.save(folder / "a.png")


def run(kills: int, seed: int, verbs: list[str]) -> bool:
    """Kills and judges; whether all was well."""
    rows = []
    for verb in verbs:
        generator = np.random.default_rng([seed, list(VERBS).index(verb)])
        with tempfile.TemporaryDirectory() as name:
            plain, disturbed = Path(name) / "plain", Path(name) / "disturbed"
            for folder in (plain, disturbed):
                prepared(folder)
            started = time.monotonic()
            finish(verb, plain)
            seconds = time.monotonic() - started
            done, orphans = 0, 0
            while done < kills:
                process = start(verb, disturbed)
                time.sleep(float(generator.uniform(0.2, 0.95)) * seconds)
                if process.poll() is not None:  # it was through, as what was saved is kept: from the beginning
                    prepared(disturbed)
                    continue
                os.kill(process.pid, signal.SIGKILL)  # itself alone: its children have to notice
                process.wait()
                done += 1
                deadline = time.monotonic() + 5
                while runs_on(process.pid) and time.monotonic() < deadline:
                    time.sleep(0.1)
                orphans += runs_on(process.pid)
            finish(verb, disturbed)
            same = is_whole(left(disturbed), left(plain), verb)
        rows.append({"verb": verb, "kills": done, "orphans": orphans, "same": int(same), "seconds": round(seconds, 1)})
        print(rows[-1], flush=True)
    if kills >= 6 and verbs == list(VERBS):
        write_csv(HERE / "kills.csv", rows)
    return all(row["same"] and not row["orphans"] for row in rows)


if __name__ == "__main__":
    given = dict(argument.split("=") for argument in sys.argv[1:])
    chosen = given.get("verbs", ",".join(VERBS)).split(",")
    sys.exit(not run(int(given.get("kills", 6)), int(given.get("seed", 0)), chosen))

"""Full disks: the disk is full after a random number of bytes; one line, nothing half-written, and with room it goes on.

    python experiments/reliability/disks.py disks=40 seed=0 [verbs=prepare,cache]

The fills are shared out over the verbs, which run at toy size on the puppet, in a tmpfs of their own (which root may
mount). A verb is given a random share of the room that it takes undisturbed, and has to end with status 2 and one line, or
well, where what did not fit is only kept to save time later. Then there is room, and the same command has to finish and
leave what an undisturbed run leaves. ``disks.csv`` has a row per verb.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from record import record
from verbs import VERBS, damage, difference, finish, orphans, prepare_folder, share_out, start

FULL = 40
FILLED = ("prepare", "cache", "distill", "export", "animate", "evaluate")
_ROOM = "512m"


@contextmanager
def disk(place: Path) -> Iterator[Path]:
    """A tmpfs; its size can be changed while it is in use.

    Raises: PermissionError where it may not be mounted.
    """
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", place], capture_output=True, text=True
    )
    if done.returncode != 0:
        raise PermissionError(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def resize(place: Path, size: int | str) -> None:
    """Changes how large a tmpfs is, in bytes or words of mount's."""
    subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)


def used(place: Path) -> int:
    """Bytes of a tmpfs that are in use."""
    found = subprocess.run(["df", "-B1", "--output=used", place], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[-1])


def fill(verb: str, disks: int, seed: int) -> dict[str, object]:
    """A row: full disks, how many were reported in one line with status 2, how many did no harm, and what was wrong."""
    generator = np.random.default_rng([seed, FILLED.index(verb)])
    refused = harmless = 0
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name, disk(Path(name) / "disk") as place:
        plain, log, folder = Path(name) / "plain", Path(name) / "stderr", place / "work"
        prepare_folder(plain)
        finish(verb, plain, log)
        prepare_folder(folder)
        before = used(place)
        finish(verb, folder, log)
        need = used(place) - before
        for _ in range(disks):
            resize(place, _ROOM)
            prepare_folder(folder)
            resize(place, used(place) + max(4096, int(generator.uniform(0, 0.97) * need)))
            process = start(verb, folder, log)
            status, said = process.wait(), log.read_text()
            lines = [line for line in said.splitlines() if line.startswith("thadistill: ")]
            refused += status == 2
            harmless += status == 0
            if "Traceback" in said or status not in (0, 2) or (status == 2 and len(lines) != 1):
                wrong.append(f"{verb}: status {status}, {said[-1500:]}")
            elif status == 2 and not any(word in lines[0] for word in ("full", "room", "No space")):
                wrong.append(f"{verb}: a full disk is reported as {lines[0]}")
            wrong += [f"{verb}: runs on: {line}" for line in orphans(process.pid)]
            wrong += damage(folder)
            resize(place, _ROOM)
            try:
                finish(verb, folder, log)
                wrong += filter(None, [difference(verb, folder, plain)])
            except RuntimeError as error:
                wrong.append(f"with room: {error}")
    print(*wrong, sep="\n", end="\n" if wrong else "", flush=True)
    return {"verb": verb, "disks": disks, "one line": refused, "no harm": harmless, "wrong": len(wrong), "bytes": need}


def run(disks: int, seed: int, verbs: list[str]) -> bool:
    """Fills and judges; whether all was well."""
    rows = share_out(disks, seed, verbs, fill)
    if disks * len(FILLED) >= FULL * len(verbs):  # as many of each as a whole run has
        record("disks", rows, seed)
    return not any(row["wrong"] for row in rows)


if __name__ == "__main__":
    given = dict(argument.split("=") for argument in sys.argv[1:])
    chosen = given.get("verbs", ",".join(FILLED)).split(",")
    assert set(chosen) <= set(VERBS)
    sys.exit(not run(int(given.get("disks", FULL)), int(given.get("seed", 0)), chosen))

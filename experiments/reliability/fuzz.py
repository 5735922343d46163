"""Fuzz: spoiled files to every loader of strangers' files; each is read rightly or refused in one line.

    python experiments/reliability/fuzz.py n=200000 seed=0 [loaders=track,picture] [first=0]

Inputs are made by number: the same number and seed give the same file. Each loader runs in a process of its own, on one
thread, with a limit on its memory. An input is wrong where it ends in anything but a result that holds or a UserError of
one line; where it takes more than five seconds, or asks for memory before it looks at a size; where a file appears, code
runs, or a file outside the folder is read; and where a damaged byte changes what a format with checksums gives.
``fuzz.csv`` has a row per loader.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from fuzz_models import MODEL_LOADERS
from fuzz_pictures import PICTURE_LOADERS
from fuzz_poses import POSE_LOADERS
from fuzz_runs import RUN_LOADERS
from loaders import Files, Loader, Wrong
from mutants import RAN, Mutant, pick
from record import record

from thadistill.errors import UserError

FULL = 200_000
LOADERS: dict[str, Loader] = {**MODEL_LOADERS, **POSE_LOADERS, **PICTURE_LOADERS, **RUN_LOADERS}
_SECONDS = 5.0
_STUCK_S = 60.0  # then the process is ended
_MEMORY = 2 << 30  # bytes above what the process has when it begins


@dataclass
class Outcome:
    """What became of a loader's inputs."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    slowest_ms: float = 0.0
    grown_mb: float = 0.0  # how much more memory the process had at most
    wrong: list[str] = field(default_factory=list)


class Bench:
    """A loader with its valid files, in the current folder: in/ for the spoiled ones, other/ beside it.

    Raises: RuntimeError where a valid file is refused.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.seed, self.loader = name, seed, LOADERS[name]
        self.files: Files = self.loader.files()
        self.place = Path("in")
        for file, content in self.files.items():
            for folder in ("in", "other"):
                (Path(folder) / file).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / file).write_bytes(content)
        self.written = set(self.files)
        self.meant: dict[str, object] = {}
        for file in self.files:
            self._write({file: self.files[file]} if self.loader.alone else self.files)
            try:
                self.meant[file] = self.loader.read(self.place)
            except UserError as error:
                raise RuntimeError(f"{name}: the valid {file} is refused: {error}") from error
        self.root = sorted(os.listdir())

    def _write(self, files: Files) -> None:
        for file in self.written - set(files):
            (self.place / file).unlink(missing_ok=True)
        for file, content in files.items():
            path = self.place / file
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        self.written = set(files)

    def judge(self, number: int) -> str:
        """Gives input ``number`` to the loader: accepted, refused, or what is wrong."""
        generator = np.random.default_rng([self.seed, number])
        file = pick(generator, sorted(self.files))
        mutant = self.loader.spoil(file, self.files[file], generator)
        made = {file: mutant.content}
        self._write(made if self.loader.alone else {**self.files, **made})
        started = time.perf_counter()
        try:
            result = self.loader.read(self.place)
        except UserError as error:
            became = _refusal(str(error))
        except Wrong as wrong:
            became = f"accepted with {wrong}"
        except Exception as error:
            became = f"{type(error).__name__}: {error}"
        else:
            became = self._acceptance(file, mutant, result)
        seconds = time.perf_counter() - started
        if seconds > _SECONDS:
            became = f"{seconds:.1f} seconds, {became}"
        return self._traces() or became

    def _acceptance(self, file: str, mutant: Mutant, result: object) -> str:
        if mutant.refuse:
            return "accepted though it leads out of its folder or runs code"
        if mutant.bytes_only and result is not None and result != self.meant[file]:
            return "accepted though damaged: other values than the valid file's"
        return "accepted"

    def _traces(self) -> str | None:
        """What the input left behind that it should not have."""
        if sorted(os.listdir()) != self.root:
            odd = sorted({*os.listdir()} ^ {*self.root})
            if Path(RAN).is_dir():
                Path(RAN).rmdir()
            return f"code was run, or files were made outside: {odd[:3]}"
        if self.loader.changes:
            for path in sorted(self.place.rglob("*"), reverse=True):
                if path.is_file() and str(path.relative_to(self.place)) not in self.written:
                    path.unlink()
        elif {str(p.relative_to(self.place)) for p in self.place.rglob("*") if p.is_file()} != self.written:
            return "files were made or deleted in the folder"
        return None


def _refusal(message: str) -> str:
    if "\n" in message or len(message) > 1020:
        return f"refused in more than one line: {message[:200]}"
    if any(word in message.lower() for word in ("allocate", "memoryerror", "out of memory")):
        return f"refused only for want of memory: {message[:200]}"
    return "refused"


def fuzz(name: str, numbers: Iterator[int] | range, seed: int, progress: Path | None = None) -> Outcome:
    """Gives numbered inputs to a loader, in an empty current folder."""
    warnings.simplefilter("ignore")
    bench, outcome = Bench(name, seed), Outcome()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open(progress or os.devnull, "wb", buffering=0) as told:
        for number in numbers:
            told.seek(0)
            told.write(b"%20d" % number)
            started = time.perf_counter()
            became = bench.judge(number)
            outcome.slowest_ms = max(outcome.slowest_ms, 1e3 * (time.perf_counter() - started))
            outcome.inputs += 1
            outcome.accepted += became == "accepted"
            outcome.refused += became == "refused"
            if became not in ("accepted", "refused"):
                outcome.wrong.append(f"{name} {number}: {' '.join(became.split())[:300]}")
    outcome.grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    return outcome


def _child(name: str, numbers: range, seed: int, folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    place = folder / "work"
    place.mkdir()
    os.chdir(place)
    os.environ["THADISTILL_CACHE"] = str(place)
    os.dup2(os.open(folder / "printed", os.O_WRONLY | os.O_CREAT), 2)  # of libraries
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    outcome = fuzz(name, numbers, seed, folder / "progress")
    (folder / "outcome.json").write_text(json.dumps(asdict(outcome)))


def alone(name: str, numbers: range, seed: int) -> Outcome:
    """:func:`fuzz` in processes of its own; an input that ends one, or holds it up, is wrong, and the next goes on."""
    total = Outcome()
    while numbers:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as text:
            folder = Path(text)
            process = multiprocessing.get_context("fork").Process(target=_child, args=(name, numbers, seed, folder))
            process.start()
            progress, since = b"", time.monotonic()
            while process.is_alive():
                process.join(2)
                now = (folder / "progress").read_bytes() if (folder / "progress").exists() else b""
                progress, since = (now, time.monotonic()) if now != progress else (progress, since)
                if process.is_alive() and time.monotonic() - since > _STUCK_S:
                    os.kill(process.pid or 0, signal.SIGKILL)
            if (folder / "outcome.json").exists():
                found = Outcome(**json.loads((folder / "outcome.json").read_text()))
                last = numbers[-1]
            elif not progress:
                raise RuntimeError(f"{name} did not begin: {(folder / 'printed').read_text()[-3000:]}")
            else:
                last = int(progress)
                found = Outcome(inputs=last - numbers[0] + 1)
                found.wrong = [
                    f"{name} {last}: ended the process, status {process.exitcode}; those before count as neither"
                ]
        total = Outcome(
            total.inputs + found.inputs,
            total.accepted + found.accepted,
            total.refused + found.refused,
            max(total.slowest_ms, found.slowest_ms),
            max(total.grown_mb, found.grown_mb),
            total.wrong + found.wrong,
        )
        numbers = range(last + 1, numbers.stop)
    return total


def run(n: int, seed: int, names: list[str], first: int = 0) -> list[str]:
    """Shares n inputs out, writes the counts; returns what went wrong."""
    parts = sum(LOADERS[name].share for name in names)
    rows, wrong, began = [], [], time.monotonic()
    for name in names:
        started = time.monotonic()
        count = -(-n * LOADERS[name].share // parts)
        found = alone(name, range(first, first + count), seed)
        row = {**asdict(found), "wrong": len(found.wrong), "seconds": time.monotonic() - started}
        rows.append({"loader": name, **{key: round(value, 1) for key, value in row.items()}})
        wrong += found.wrong
        print(rows[-1], *found.wrong[:8], sep="\n  ", flush=True)
    if sum(row["inputs"] for row in rows) >= FULL and names == list(LOADERS):
        record("fuzz", rows, seed)
    print(f"{sum(row['inputs'] for row in rows)} inputs in {time.monotonic() - began:.0f} s, {len(wrong)} wrong")
    return wrong


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    asked = given.get("loaders", "")
    chosen = [name for name in LOADERS if not asked or any(name.startswith(one) for one in asked.split(","))]
    sys.exit(bool(run(int(given.get("n", FULL)), int(given.get("seed", 0)), chosen, int(given.get("first", 0)))))

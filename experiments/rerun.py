"""Rerun: makes experiments' results again in a scratch copy, and says which differ from the committed ones.

    python experiments/rerun.py                                       # what is made again, and by which commands
    python experiments/rerun.py table2_teacher_speed prepare          # some of it
    python experiments/rerun.py all paper=DIR slim=DIR body=DIR upscaler=DIR face=DIR   # all of it; days on two cores

paper, slim: character-model folders; body, upscaler, face: trained as table1_teacher/README.md says. Rows are compared with
the committed ones of the same names. PSNR agrees within 0.5 dB, twice the run-to-run spread of a training (LOG.md); whole
numbers when they are the same; other figures within a tenth; and, where the processor is the same too, times within a
fifth. Ends with status 1 where a figure differs, a command fails, or no committed row was made again. Nothing here is
changed: the copy stays in outputs/rerun, to look at or to take over.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thadistill.errors import UserError
from thadistill.tables.ledger import read_rows

HERE = Path(__file__).parent
COPY = Path("outputs/rerun")
# what rows are made by; what stands in braces is given
COMMANDS: dict[str, tuple[str, ...]] = {
    "distill_speed": (
        "run.py default --minutes 10",
        "run.py warm5 --minutes 5 --keep 5 recipe=warm evaluation.speed=false",
        "run.py warm5_crypko_00 --minutes 5 --keep 5 recipe=warm character=crypko_00 evaluation.speed=false",
        "run.py slim_warm5_crypko_00 --minutes 5 --keep 5 recipe=warm student=slim character=crypko_00 "
        "evaluation.speed=false",
        *(f"run.py warm5_seed{seed} --minutes 5 --keep 5 seed={seed} evaluation.speed=false" for seed in range(5)),
    ),
    "latency": ("run.py {slim}",),
    "machines": ("run.py",),
    "prepare": ("run.py trials=30", "jpeg.py minutes=3"),
    "reliability": ("fuzz.py", "pictures.py", "kills.py", "disks.py"),
    "table1_teacher": ("run.py --teacher tha3 --trained {body} --trained {upscaler} --trained {face}",),
    "table2_teacher_speed": ("run.py",),
    "table4_student_speed": ("run.py scale=small model={paper}",),
    "table5_student_quality": ("run.py scale=cpu",),
    "table6_architecture": ("run.py scale=cpu",),
    "table7_phases": ("run.py scale=cpu",),
    "table8_unet": ("run.py",),
    "teacher_on_puppets": ("run.py --minutes 10 --train 128 --poses 8 --threads 2",),
    "web_player": ("run.py paper={paper} slim={slim} --webgpu slim",),
}
# columns that say where and when, or what else the machine did
ABOUT = re.compile(
    r"hardware|commit|date|load|steal\w*|chromium|overrides|lpips_reason|peak\w*|minutes|steps|threads|frames|cpu_share|"
    r"resident_mb|apart|.*worst|.*p95|.*least|.*most"
)
TIME = re.compile(r"(.*_)?(ms|fps|s|seconds|gflops)(_.*)?|arrived.*")
QUALITY = re.compile(r".*psnr.*|.*_db")
DECIBELS, SHARE, SHARE_OF_TIMES = 0.5, 0.1, 0.2


@dataclass(frozen=True)
class Difference:
    """A figure that is not what it was."""

    row: str
    column: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.row}: {self.column} {self.before} -> {self.now}"


def number(text: str) -> float | None:
    """A cell's number, if it is one."""
    try:
        return float(text)
    except ValueError:
        return None


def named(row: Mapping[str, str]) -> tuple[str, ...]:
    """What a row is of: its cells that are no figures."""
    return tuple(cell for key, cell in row.items() if cell and not ABOUT.fullmatch(key or "") and number(cell) is None)


def agree(column: str, before: str, now: str, same_machine: bool) -> bool:
    """Whether a figure is what it was; of other machines, times always are."""
    old, new = number(before), number(now)
    if old is None or new is None:
        return True
    if TIME.fullmatch(column):
        return not same_machine or abs(new - old) <= SHARE_OF_TIMES * abs(old)
    if QUALITY.fullmatch(column):
        return abs(new - old) <= DECIBELS
    whole = old.is_integer() and new.is_integer()
    return old == new if whole else abs(new - old) <= SHARE * abs(old)


def compared(before: Sequence[Mapping[str, str]], now: Sequence[Mapping[str, str]]) -> tuple[int, list[Difference]]:
    """How many rows both have, and their figures that disagree; rows of one name are compared in their order."""
    waiting, differences, count = list(before), list[Difference](), 0
    for row in now:
        found = next((other for other in waiting if named(other) == named(row)), None)
        if found is None:
            continue
        waiting.remove(found)
        count += 1
        same_machine = found.get("hardware") == row.get("hardware")
        for column, cell in row.items():
            was = found.get(column) or ""
            if not ABOUT.fullmatch(column) and not agree(column, was, cell or "", same_machine):
                differences.append(Difference(" ".join(named(row))[:80] or "the row", column, was, cell))
    return count, differences


def commands_of(folder: str, places: Mapping[str, str]) -> list[list[str]]:
    """A folder's commands, word by word.

    Raises: UserError when one needs what is not given.
    """
    try:
        return [[word.format(**places) for word in shlex.split(command)] for command in COMMANDS[folder]]
    except KeyError as missing:
        name = missing.args[0]
        raise UserError(f"{folder} needs {name}=; expected {name}=PATH on the command line") from None


def run(folder: str, commands: Sequence[Sequence[str]]) -> list[str]:
    """Runs a folder's commands in its copy, without the committed rows and runs; what failed or differs."""
    copy = (COPY / folder).resolve()
    tables = [path.name for path in (HERE / folder).glob("*.csv") if path.name != "paper.csv"]
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(HERE / folder, copy, ignore=shutil.ignore_patterns(*tables, "outputs", "__pycache__"))
    wrong, count = [], 0
    for script, *arguments in commands:
        print(f"{folder}: {shlex.join([script, *arguments])}", flush=True)
        # in the copy, so that no run is found in outputs/ and taken for done
        done = subprocess.run([sys.executable, str(copy / script), *arguments], cwd=copy, check=False)
        if done.returncode:
            wrong.append(f"{script} ended with status {done.returncode}")
    for table in tables:
        both, found = compared(read_rows(HERE / folder / table), read_rows(copy / table))
        count += both
        wrong += map(str, found)
    return wrong if count else [*wrong, "no committed row was made again"]


def main() -> None:
    places = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
    folders = [argument for argument in sys.argv[1:] if "=" not in argument]
    if not folders or set(folders) & {"-h", "--help"}:
        print(__doc__)
        for folder, commands in COMMANDS.items():
            print(f"{folder}:", *commands, sep="\n    ")
        return
    folders = list(COMMANDS) if folders == ["all"] else folders
    unknown = [folder for folder in folders if folder not in COMMANDS]
    if unknown:
        raise UserError(f"{unknown[0]} is not made again; expected some of {', '.join(COMMANDS)}, or all")
    places = {key: str(Path(value).resolve()) for key, value in places.items()}
    commands = {folder: commands_of(folder, places) for folder in folders}
    found = {folder: run(folder, commands[folder]) for folder in folders}
    for folder, wrong in found.items():
        print(f"{folder}: {'differs' if wrong else 'as committed'}", *wrong, sep="\n    ")
    sys.exit(1 if any(found.values()) else 0)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)

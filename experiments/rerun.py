"""Rerun: makes the experiments' results again in a scratch copy, and says which differ from the committed ones.

    python experiments/rerun.py                                       # what there is, and what each needs
    python experiments/rerun.py table2_teacher_speed prepare          # some
    python experiments/rerun.py all paper=DIR slim=DIR track=FILE     # all; days on two cores

paper, slim: character-model folders; track: recorded poses. A row's figures agree when quality lies within 0.3 dB, twice the
run-to-run spread of a training (LOG.md), counts are the same, and, where the processor is the same too, times lie within a
fifth. Rows of more than one machine are compared by their text, not by their order. Ends with status 1 where a figure
differs or a command fails. Nothing here is changed: the copy stays in outputs/rerun, to look at or to take over.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thadistill.errors import UserError
from thadistill.tables.ledger import read_rows

HERE = Path(__file__).parent
COPY = Path("outputs/rerun")
# what a folder's tables are made by, from nothing; {paper}, {slim} and {track} are given
COMMANDS: dict[str, tuple[str, ...]] = {
    "distill_speed": (
        "run.py default --minutes 10",
        "run.py warm5 --minutes 5 --keep 5 recipe=warm evaluation.speed=false",
        "run.py warm5_crypko_00 --minutes 5 --keep 5 recipe=warm character=crypko_00 evaluation.speed=false",
        "run.py slim_warm5_crypko_00 --minutes 5 --keep 5 recipe=warm student=slim character=crypko_00 "
        "evaluation.speed=false",
    ),
    "latency": ("run.py {slim}",),
    "machines": ("run.py",),
    "prepare": ("run.py trials=30",),
    "reliability": ("fuzz.py", "pictures.py", "kills.py", "disks.py"),
    "table1_teacher": ("run.py --teacher tha3",),
    "table2_teacher_speed": ("run.py",),
    "table4_student_speed": ("run.py scale=small model={paper}",),
    "table5_student_quality": ("run.py scale=cpu",),
    "table6_architecture": ("run.py scale=cpu",),
    "table7_phases": ("run.py scale=cpu",),
    "teacher_on_puppets": ("run.py",),
    "web_player": ("run.py paper={paper} slim={slim}", "unwatched.py paper={paper} slim={slim}"),
}
# columns that say where and when, or what else the machine did
ABOUT = re.compile(
    r"hardware|commit|date|load|steal\w*|chromium|overrides|lpips_reason|peak\w*|minutes|steps|.*worst|.*p95|.*least|.*most"
)
TIME = re.compile(r"(.*_)?(ms|fps|s|seconds|gflops)(_.*)?|arrived.*")
QUALITY = re.compile(r".*psnr.*|.*_db")
DECIBELS, SHARE = 0.3, 0.2


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


def differences(before: Sequence[Mapping[str, str]], now: Sequence[Mapping[str, str]]) -> Iterator[Difference]:
    """Figures of the rows that both have, where they disagree; rows of one name are compared in their order."""
    waiting = list(before)
    for row in now:
        found = next((other for other in waiting if named(other) == named(row)), None)
        if found is None:
            continue
        waiting.remove(found)
        same_machine = found.get("hardware") == row.get("hardware")
        for column, cell in row.items():
            old, new = number(found.get(column) or ""), number(cell or "")
            if old is None or new is None or ABOUT.fullmatch(column):
                continue
            if TIME.fullmatch(column):
                agree = not same_machine or abs(new - old) <= SHARE * abs(old)
            elif QUALITY.fullmatch(column):
                agree = abs(new - old) <= DECIBELS
            else:
                agree = abs(new - old) <= 0.02 * abs(old)
            if not agree:
                yield Difference(" ".join(named(row))[:80] or "the row", column, found[column], cell)


def run(folder: str, places: Mapping[str, str]) -> list[str]:
    """Runs a folder's commands in its copy, without the committed rows; what failed or differs.

    Raises: UserError when a command needs a model or a track that is not given.
    """
    try:
        commands = [command.format(**places) for command in COMMANDS[folder]]
    except KeyError as missing:
        raise UserError(
            f"{folder} needs {missing.args[0]}=; expected {missing.args[0]}=PATH on the command line"
        ) from None
    copy = COPY / folder
    tables = [path.name for path in (HERE / folder).glob("*.csv") if path.name != "paper.csv"]
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(HERE / folder, copy, ignore=shutil.ignore_patterns(*tables, "outputs", "__pycache__"))
    wrong = []
    for command in commands:
        print(f"{folder}: {command}", flush=True)
        script, *arguments = shlex.split(command)
        done = subprocess.run([sys.executable, str((copy / script).resolve()), *arguments], check=False)
        if done.returncode:
            wrong.append(f"{command} ended with status {done.returncode}")
    for table in tables:
        wrong += map(str, differences(read_rows(HERE / folder / table), read_rows(copy / table)))
    return wrong


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
        sys.exit(f"{unknown[0]} is no folder that is made again; expected some of {', '.join(COMMANDS)}, or all")
    places = {key: str(Path(value).resolve()) for key, value in places.items()}
    found = {folder: run(folder, places) for folder in folders}
    for folder, wrong in found.items():
        print(f"{folder}: {'as committed' if not wrong else 'differs'}", *wrong, sep="\n    ")
    sys.exit(1 if any(found.values()) else 0)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)

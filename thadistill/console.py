"""Console: what commands say to a person, on stderr and by one process only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def is_first_process(environment: Mapping[str, str]) -> bool:
    """Whether a process is the first of a training's, over all nodes; the others train along and neither speak nor write.

    torchrun and Lightning tell it ``RANK``, SLURM ``SLURM_PROCID`` (of a batch script itself, which starts no tasks, it is
    0 too); Lightning's own launcher ``LOCAL_RANK``, and a user of several nodes ``NODE_RANK`` or ``GROUP_RANK``.
    """
    for name in ("RANK", "SLURM_PROCID"):
        if environment.get(name, "").isdigit() and not (name == "SLURM_PROCID" and "LOCAL_RANK" in environment):
            return environment[name] == "0"
    return all(environment.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK"))


FIRST_PROCESS = is_first_process(os.environ)
# markup off: brackets in what is printed are those of folders' names
console = Console(stderr=True, highlight=False, markup=False, quiet=not FIRST_PROCESS)


def shown(folder: Path) -> Path:
    """A folder as a user would type it: relative to the current one where it lies in it."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def progress_bar(transient: bool = False) -> Progress:
    """The bar that every long step shows, on stderr so that stdout stays clean for JSON."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<16}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        transient=transient,
    )

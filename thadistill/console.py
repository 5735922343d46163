"""Console: what commands say to a person, on stderr and by one process only."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from thadistill.processes import is_first

# markup off: brackets in what is printed are those of folders' names
console = Console(stderr=True, highlight=False, markup=False, quiet=not is_first())


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

"""Console: what commands say to a person, on stderr and by one process only."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

# Lightning starts the further processes of trainer=ddp, which train along and neither speak nor write
FIRST_PROCESS = os.environ.get("LOCAL_RANK", "0") == "0"
console = Console(stderr=True, highlight=False, quiet=not FIRST_PROCESS)


def shown(folder: Path) -> Path:
    """A folder as a user would type it: relative to the current one where it lies in it."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder

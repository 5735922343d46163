"""thadistill assets: lists or fetches weights, sample characters, the face tracker and LPIPS's networks."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from thadistill import assets
from thadistill.errors import UserError
from thadistill.files import cache_folder


def run(config: DictConfig, out: Path) -> None:
    """Fetches ``pull=NAME`` if given and prints where it lies; else lists what can be had.

    Raises: UserError when it cannot be had, or for a ``path=`` without ``pull=``.
    """
    if config.pull is not None:
        print(assets.pull(config.pull, config.path))
        return
    if config.path is not None:
        raise UserError(f"path={config.path} without pull=; expected what it belongs to: add pull=NAME")
    table = Table("name", "kind", "MB", "here", "licence", "origin", "sha256 of the download")
    for row in assets.list_assets():
        here = "yes" if row.present else f"no: pull={row.pull}"
        table.add_row(row.name, row.kind, f"{row.size_mb:.1f}", here, row.licence, row.origin, row.sha256[:16] + "...")
    Console().print(table)
    print(f"cache folder: {cache_folder()}")

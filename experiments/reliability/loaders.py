"""Loaders: what opens strangers' files: a valid one to spoil, how to read it, what must hold of what is accepted."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mutants import Mutant
from torch import Tensor

Files = Mapping[str, bytes]


class Wrong(Exception):
    """What was accepted is not what it should be."""


class Loader(NamedTuple):
    """A loader of files.

    Args:
        share: inputs of 1,000 that it gets; the quick ones get more.
        files: valid files by name, of which one is spoiled.
        spoil: a name, the content, chance: the spoiled content.
        read: reads a folder; raises Wrong, and UserError as the loader does. Returns what it read where the format has
            checksums, so that a file with a damaged byte gives the same or is refused.
        alone: whether the folder has the spoiled file alone.
        changes: whether it may delete what is damaged, or write into the folder.
    """

    share: int
    files: Callable[[], Files]
    spoil: Callable[[str, bytes, np.random.Generator], Mutant]
    read: Callable[[Path], Any]
    alone: bool = True
    changes: bool = False


def hold(truth: bool, what: str) -> None:
    """Raises: Wrong, unless it is true."""
    if not truth:
        raise Wrong(what)


def hold_finite(*tensors: Tensor) -> None:
    """Raises: Wrong, unless all are finite and on the CPU."""
    for tensor in tensors:
        hold(tensor.device.type == "cpu" and bool(torch.isfinite(tensor).all()), "values that are not finite")


def saved(content: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()

"""The reference folder's fill rule: reproducible tensors for networks whose trained files cannot be had."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def filled(network: str, name: str, shape: list[int]) -> Tensor:
    """The tensor ``name`` of ``network``, as the reference folder's README says."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(f"{network}/{name}".encode())))
    x = generator.standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        x = x / np.float32(math.sqrt(math.prod(shape[1:])))
        if "grid_change" in name or "body.last.2" in name:
            x = x * np.float32(0.02)
    else:
        x = 1 + np.float32(0.1) * x if name.endswith("weight") else np.float32(0.1) * x
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))


def write_filled(tensors: Path, folder: Path) -> Path:
    """Writes ``<network>.pt`` for every network of a ``*_tensors.json`` file."""
    for network, shapes in json.loads(tensors.read_text()).items():
        torch.save({name: filled(network, name, shape) for name, shape in shapes.items()}, folder / f"{network}.pt")
    return folder

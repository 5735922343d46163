"""The golden files: outputs of the authors' own networks, sub-sampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def load_golden(path: Path) -> tuple[Tensor, dict[str, Tensor]]:
    """The poses [n, 45] of a golden file, and its sub-sampled outputs by name."""
    with np.load(path) as arrays:
        outputs = {name: torch.from_numpy(arrays[name]) for name in arrays}
    return outputs.pop("pose"), outputs


def subsample(output: Tensor) -> Tensor:
    """As the golden files were thinned: by 8 where an output is 256 or 512 wide, else by 4."""
    step = 8 if output.shape[-1] in (256, 512) else 4
    return output[..., step // 2 :: step, step // 2 :: step]


def differences(stages: dict[str, Tensor], golden: dict[str, Tensor]) -> dict[str, float]:
    """Largest absolute difference of each golden output; a missing one is a KeyError."""
    return {name: (subsample(stages[name]) - golden[name]).abs().max().item() for name in golden}


def over_tolerance(found: dict[str, float], image: float, grid_change: float) -> dict[str, float]:
    """The differences that are too large (or not numbers)."""
    return {
        name: value for name, value in found.items() if not value <= (grid_change if "grid_change" in name else image)
    }

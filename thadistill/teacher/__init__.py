"""Teachers: an image and a pose to named outputs; what the student is distilled from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from thadistill import assets
from thadistill.errors import UserError
from thadistill.teacher.base import Teacher
from thadistill.teacher.tha3 import Tha3Teacher
from thadistill.teacher.tha4 import Tha4Teacher
from thadistill.teacher.weights import load_networks

__all__ = ["Teacher", "load_teacher"]

_NAMES = ("tha3", "tha4", "puppet")


def load_teacher(
    name: str,
    variant: str | None = None,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
    **options: Any,
) -> Teacher:
    """A teacher with its trained weights, in evaluation mode, its parameters frozen.

    Raises: UserError.
    """
    precision = _precision(dtype)
    if name == "puppet":
        from thadistill.teacher.puppet import load_puppet  # its own path: no weights, no networks

        teacher: Teacher = load_puppet(**options)
        return teacher.to(device).requires_grad_(False).eval()
    if name == "tha3":
        variant = variant or "separable_float"
        source = Path(weights) if weights is not None else assets.tha3_weights(variant)
        with torch.device("meta"):
            teacher = Tha3Teacher(f"tha3/{variant}", separable=variant.startswith("separable"))
        load_networks(teacher, source, precision)
    elif name == "tha4":
        if weights is None:
            raise UserError(
                "THA4's weights are on no package registry; expected weights=PATH, a folder or the published ZIP with "
                "its five .pt files: download it from the authors' THA4 demo"
            )
        with torch.device("meta"):
            teacher = Tha4Teacher()
        load_networks(teacher, Path(weights), precision)
    else:
        raise UserError(f"no teacher is called '{name}'; expected one of: {', '.join(_NAMES)}")
    return teacher.to(device).requires_grad_(False).eval()


def _precision(dtype: torch.dtype | str) -> torch.dtype:
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    precision = known.get(str(dtype).removeprefix("torch."))
    if precision is None:
        raise UserError(f"dtype is {dtype}; expected one of: {', '.join(known)}")
    return precision

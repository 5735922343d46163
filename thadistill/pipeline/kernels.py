"""Kernels of a run: built before its clock counts, and said in one line which they are."""

from __future__ import annotations

import contextlib

import torch

from thadistill.console import console
from thadistill.kernels.build import NativeUnavailable, built_in, kernels_line
from thadistill.kernels.level.op import level_kernels
from thadistill.kernels.patches.op import patch_kernels
from thadistill.kernels.row_tiled.op import row_tiled_kernels
from thadistill.runtime.student_kernels import load_student


def ready_kernels(device: torch.device) -> float:
    """Builds the kernels that training and watching on ``device`` call; says which run; returns the seconds it took.

    A budget is the training's: those seconds, many on a machine's first run, are added to it.
    """
    if device.type != "cpu":
        return 0.0
    took = built_in([level_kernels, patch_kernels, row_tiled_kernels, _student])
    console.print(kernels_line(), soft_wrap=True)
    return took


def _student() -> None:
    with contextlib.suppress(NativeUnavailable):
        load_student()

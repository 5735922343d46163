"""The student with integer products in plain NumPy, whose sums are exact: what the C++ kernels are compared with."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from thadistill.runtime.packing import PackedLayer, PackedStage
from thadistill.warp import axis_positions

_ONE = 4095  # what sin = 1 becomes


def unpacked(layer: PackedLayer) -> np.ndarray:
    """The matrix [out, in] of a packed layer, of integers where its products are."""
    kind = np.float32 if layer.in_format == "f32" else np.int16
    main = layer.blocks * layer.in_words * layer.rows
    blocks = layer.weights[:main].reshape(layer.blocks, layer.in_words, layer.rows).transpose(0, 2, 1)
    tail = layer.weights[main:].reshape(layer.in_words, -1).T
    words = np.concatenate([blocks.reshape(-1, layer.in_words), tail])
    return np.ascontiguousarray(words).view(kind).astype(np.float64)


def rounded_sine(phases: np.ndarray) -> np.ndarray:
    """student.cpp's: its polynomial is off by up to 7e-5, which moves roundings."""
    turns = np.rint(phases)
    rest = phases - turns
    squared = rest * rest
    sines = rest * ((2.29954734 * squared - 5.13690534) * squared + 3.14064004)
    return np.rint(_ONE * np.where(turns % 2, -sines, sines))


def held(phases: np.ndarray, form: str, columns: int) -> np.ndarray:
    """Sines of half-turns [channels, p] as a layer's input holds them."""
    sines = np.sin(np.pi * phases[:columns]) if form == "f32" else rounded_sine(phases[:columns])
    return np.pad(sines, [(0, columns - len(sines)), (0, 0)])


def stage_output(stage: PackedStage, pose: np.ndarray, below: np.ndarray | None = None) -> np.ndarray:
    """What a stage hands on at a pose, [channels, size, size]; ``below``: what it was handed."""
    axis = axis_positions(stage.size, torch.device("cpu")).double().numpy()
    shift = stage.pose_matrix.astype(np.float64) @ pose[: stage.pose_matrix.shape[1]] + stage.pose_bias
    phases = stage.wx[:, None, None] * axis + stage.wy[:, None, None] * axis[:, None] + shift[:, None, None]
    if below is not None:
        doubled = F.interpolate(torch.from_numpy(below)[None], scale_factor=2, mode="bilinear", align_corners=False)
        phases += doubled[0, : len(phases)].numpy()
    phases = phases.reshape(len(phases), -1)
    for layer in stage.layers:
        matrix = unpacked(layer)
        sums = matrix @ held(phases, layer.in_format, matrix.shape[1])
        scale = 1.0 if layer.in_format == "f32" else layer.scale[:, None]
        phases = sums * scale + layer.bias[:, None]
    return phases.reshape(-1, stage.size, stage.size)

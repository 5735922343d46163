"""Pixels: network space to 8-bit RGBA or BGRA by table, for windows and cameras."""

from __future__ import annotations

import functools

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from thadistill.images import linear_to_srgb

_STEPS = 65536


@functools.cache
def srgb_table() -> UInt8[Tensor, " steps"]:
    """65,536 linear values in [0, 1] -> 8-bit sRGB. The curve's steepest part moves 0.05 of a level a step."""
    values = torch.linspace(0, 1, _STEPS, dtype=torch.float64)
    return (linear_to_srgb(values) * 255).round().to(torch.uint8)


def to_pixels(image: Float[Tensor, "4 h w"], bgra: bool = False) -> UInt8[np.ndarray, "h w 4"]:
    """Network space to straight 8-bit RGBA or BGRA: images.to_rgba8 without its powers, within one level of it."""
    unit = image.mul(0.5).add_(0.5).clamp_(0, 1)
    opaque = unit[3]
    over = (_STEPS - 1) / opaque.clamp_min(1e-6)
    index = unit[:3].mul(over).clamp_(max=_STEPS - 1).round_().to(torch.int32)
    color = srgb_table().to(image.device)[index] * (opaque > 0)
    planes = [color[2], color[1], color[0]] if bgra else list(color)
    return torch.stack([*planes, opaque.mul(255).round_().to(torch.uint8)], dim=-1).cpu().numpy()

"""Warp: position grids and image warping in the [-1, 1] coordinates of every network here."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def axis_positions(size: int, device: torch.device | str = "cpu") -> Float[Tensor, " size"]:
    """Pixel centres along one axis of ``size`` pixels: (2i + 1)/size - 1."""
    return (torch.arange(size, device=device, dtype=torch.float32) * 2 + 1) / size - 1


def position_grid(height: int, width: int, device: torch.device | str = "cpu") -> Float[Tensor, "2 h w"]:
    """Pixel centres, x then y, each (2i + 1)/size - 1: ``affine_grid`` of the identity, align_corners=False."""
    y, x = torch.meshgrid(axis_positions(height, device), axis_positions(width, device), indexing="ij")
    return torch.stack([x, y])


def warp(image: Float[Tensor, "n c h w"], grid_change: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n c h w"]:
    """Samples ``image`` at each pixel's own position plus ``grid_change`` (x, y; 2 spans the whole image).

    Bilinear; outside the image the border pixel repeats (zeros would be half-opaque grey in [-1, 1]).
    """
    height, width = grid_change.shape[-2:]
    grid = position_grid(height, width, grid_change.device).to(grid_change.dtype) + grid_change
    return F.grid_sample(image, grid.permute(0, 2, 3, 1), mode="bilinear", padding_mode="border", align_corners=False)


def blend(
    alpha: Float[Tensor, "n a h w"], painted: Float[Tensor, "n c h w"], kept: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n c h w"]:
    """``painted`` where alpha is 1, ``kept`` where it is 0."""
    return painted * alpha + kept * (1 - alpha)


def resize(image: Float[Tensor, "n c _h _w"], height: int, width: int) -> Float[Tensor, "n c {height} {width}"]:
    """Bilinear resizing, align_corners=False, no antialiasing: what the published networks were trained with."""
    return F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)

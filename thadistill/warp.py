"""Warp: position grids and image warping in the [-1, 1] coordinates of every network here."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
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


def warp_patches(
    image: Float[Tensor, "c h w"],
    insets: Float[Tensor, "m c ih iw"],
    which: Int[Tensor, " n"],
    inset_corner: tuple[int, int],
    grid_change: Float[Tensor, "n 2 p p"],
    corner: Int[Tensor, "n 2"],
) -> Float[Tensor, "n c p p"]:
    """:func:`warp` on one square a sample, of images that share all but an inset, without building those images.

    Args:
        image: the shared image; what it holds under the inset does not matter.
        insets: rectangles pasted at pixel ``inset_corner`` (top, left), in any precision; only what is sampled is read.
        which: the inset of each sample.
        grid_change: each sample's offsets on its square.
        corner: each square's top and left pixel; beyond a square image its border pixel repeats.
    """
    _, height, width = image.shape
    inset_height, inset_width = insets.shape[-2:]
    size = grid_change.shape[-1]
    pixel = (corner[:, :, None] + torch.arange(size, device=corner.device)).clamp(0, height - 1)
    # in pixels, clamped to the outermost centres: there the border repeats
    row = (pixel[:, 0, :, None] + grid_change[:, 1] * (height / 2)).clamp(0, height - 1)
    column = (pixel[:, 1, None, :] + grid_change[:, 0] * (width / 2)).clamp(0, width - 1)
    top, left = row.detach().long().clamp(max=height - 2), column.detach().long().clamp(max=width - 2)
    below, right = row - top, column - left
    y, x = torch.stack([top, top, top + 1, top + 1]), torch.stack([left, left + 1, left, left + 1])
    weight = torch.stack([(1 - below) * (1 - right), (1 - below) * right, below * (1 - right), below * right])
    inset_y, inset_x = y - inset_corner[0], x - inset_corner[1]
    inside = (inset_y >= 0) & (inset_y < inset_height) & (inset_x >= 0) & (inset_x < inset_width)
    place = inset_y.clamp(0, inset_height - 1) * inset_width + inset_x.clamp(0, inset_width - 1)
    own = insets.flatten(2)[which[:, None, None], :, place]
    shared = image.flatten(1)[:, y * width + x].permute(1, 2, 3, 4, 0)
    value = torch.where(inside[..., None], own, shared)
    return (value * weight[..., None]).sum(0).permute(0, 3, 1, 2)


def blend(
    alpha: Float[Tensor, "n a h w"], painted: Float[Tensor, "n c h w"], kept: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n c h w"]:
    """``painted`` where alpha is 1, ``kept`` where it is 0."""
    return painted * alpha + kept * (1 - alpha)


def resize(image: Float[Tensor, "n c _h _w"], height: int, width: int) -> Float[Tensor, "n c {height} {width}"]:
    """Bilinear resizing, align_corners=False, no antialiasing: what the published networks were trained with."""
    return F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)

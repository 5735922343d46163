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
    inset: Float[Tensor, "m c ih iw"],
    inset_corner: tuple[int, int],
    grid_change: Float[Tensor, "n 2 p p"],
    corner: Int[Tensor, "n 2"],
) -> Float[Tensor, "n c p p"]:
    """:func:`warp` on one square a sample, of images that share all but an inset, without building those images.

    Args:
        image: the shared image; what it holds under the inset does not matter.
        inset: each sample's own rectangle, pasted at pixel ``inset_corner`` (top, left). Of m insets each serves n/m
            squares in a row.
        grid_change: each sample's offsets on its square.
        corner: each square's top and left pixel.

    Bilinear sampling is linear in the image, so the shared part (zero under the inset) and the inset (zero around it)
    are sampled apart and added: equal to warping the pasted image, but for rounding.
    """
    channels, height, width = image.shape
    n = len(grid_change)
    m, _, inset_height, inset_width = inset.shape
    top, left = inset_corner
    size = grid_change.shape[-1]
    index = corner[:, :, None] + torch.arange(size, device=corner.device)
    x = axis_positions(width, corner.device)[index[:, 1]][:, None, :] + grid_change[:, 0]
    y = axis_positions(height, corner.device)[index[:, 0]][:, :, None] + grid_change[:, 1]
    around = image.clone()
    around[:, top : top + inset_height, left : left + inset_width] = 0
    grid = torch.stack([x, y], dim=-1)
    shared = F.grid_sample(
        around[None], grid.reshape(1, n * size, size, 2), mode="bilinear", padding_mode="border", align_corners=False
    )
    # border padding clamps to the outermost pixel centres; the inset has to see the same clamped positions
    column = (x.clamp(1 / width - 1, 1 - 1 / width) + 1) * (width / 2) - left
    row = (y.clamp(1 / height - 1, 1 - 1 / height) + 1) * (height / 2) - top
    local = torch.stack([column * (2 / inset_width) - 1, row * (2 / inset_height) - 1], dim=-1)
    local = local.reshape(m, n // m * size, size, 2)
    own = F.grid_sample(inset, local, mode="bilinear", padding_mode="zeros", align_corners=False)
    own = own.reshape(m, channels, n // m, size, size).transpose(1, 2).flatten(0, 1)
    return shared.reshape(channels, n, size, size).transpose(0, 1) + own


def blend(
    alpha: Float[Tensor, "n a h w"], painted: Float[Tensor, "n c h w"], kept: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n c h w"]:
    """``painted`` where alpha is 1, ``kept`` where it is 0."""
    return painted * alpha + kept * (1 - alpha)


def resize(image: Float[Tensor, "n c _h _w"], height: int, width: int) -> Float[Tensor, "n c {height} {width}"]:
    """Bilinear resizing, align_corners=False, no antialiasing: what the published networks were trained with."""
    return F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)

"""Visible region: which tiles of the image a character ever paints, and which pixels of each level they need."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int32

TILE = 8


def dilate(mask: Bool[np.ndarray, "h w"], pixels: int) -> Bool[np.ndarray, "h w"]:
    """The mask grown by ``pixels`` in each direction (a square)."""
    for axis in (0, 1):
        grown = mask.copy()
        for shift in range(1, pixels + 1):
            for source, target in (
                (slice(shift, None), slice(None, -shift)),
                (slice(None, -shift), slice(shift, None)),
            ):
                if axis == 0:
                    grown[target] |= mask[source]
                else:
                    grown[:, target] |= mask[:, source]
        mask = grown
    return mask


def tiles_of(painted: Bool[np.ndarray, "h w"], tile: int = TILE, border: int = 1) -> Bool[np.ndarray, "h w"]:
    """Pixels of the tiles that hold a painted pixel, and of ``border`` tiles around them."""
    height, width = painted.shape
    tiles = np.asarray(painted.reshape(height // tile, tile, width // tile, tile).any(axis=(1, 3)))
    return dilate(tiles, border).repeat(tile, 0).repeat(tile, 1)


def segments_of(mask: Bool[np.ndarray, "h w"], lanes: int, multiple: int) -> Int32[np.ndarray, "s 2"]:
    """Runs of ``lanes`` pixels (y, x; x even) that cover the mask; the last is repeated to make a ``multiple``."""
    width = mask.shape[1]
    found = []
    for y in np.flatnonzero(mask.any(axis=1)):
        columns = np.flatnonzero(mask[y])
        end = -1
        for x in columns:
            if x >= end:
                start = min(int(x) // 2 * 2, width - lanes)
                found.append((int(y), start))
                end = start + lanes
    if not found:
        found.append((0, 0))
    found += [found[-1]] * (-len(found) % multiple)
    return np.array(found, np.int32)


def covered(segments: Int32[np.ndarray, "s 2"], lanes: int, size: int) -> Bool[np.ndarray, "size size"]:
    """The pixels that segments hold."""
    mask = np.zeros((size, size), bool)
    columns = segments[:, 1:] + np.arange(lanes)
    mask[segments[:, :1], columns] = True
    return mask


def read_by_doubling(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "_h _w"]:
    """Pixels of the half-size image that bilinear upsampling reads for the pixels of ``mask``."""
    y, x = np.nonzero(mask)
    half = np.zeros((mask.shape[0] // 2, mask.shape[1] // 2), bool)
    rows = (y >> 1, np.clip((y >> 1) + np.where(y & 1, 1, -1), 0, half.shape[0] - 1))
    columns = (x >> 1, np.clip((x >> 1) + np.where(x & 1, 1, -1), 0, half.shape[1] - 1))
    for row in rows:
        for column in columns:
            half[row, column] = True
    return half

"""Half levels: a student's levels laid out for half precision, and the kernels' arithmetic in plain PyTorch.

The operands of matrix products are float16, their sums and every phase float32. Phases are in half-turns, t = W x + b
with omega / pi in W and b: a sine is then sin(pi t), whose range reduction is a subtraction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int32, UInt8
from torch import Tensor
from torch.nn import functional as F

from thadistill.images import IMAGE_SIZE
from thadistill.runtime.folded import Stage

PIXEL_MULTIPLE = 128  # pixel lists are whole blocks of every kernel
_BLOCKS = (128, 64, 32, 16)  # channels a product may take at once: powers of two, 16 at least
_MOST_BLOCKS = 3  # of fewer than 128 channels: small products leave a tensor core idle
_TILE_ROWS, _TILE_COLUMNS = 8, 16  # of the image in list order: a block's neighbours below lie together
_CHUNK = 1 << 16  # pixels the plain form takes at once


def channel_blocks(width: int) -> tuple[int, int]:
    """How a width is held: so many blocks of so many channels, the least padding; equal ones, the larger block.

    360, 180 and 90 channels become 3 blocks of 128, 64 and 32.
    """
    shapes = [(-(-width // block), block) for block in _BLOCKS]
    return min(
        ((count, block) for count, block in shapes if count <= _MOST_BLOCKS or block == _BLOCKS[0]),
        key=lambda shape: (shape[0] * shape[1], -shape[1]),
    )


@dataclass(frozen=True)
class HalfLevel:
    """One level (or the face): where it is evaluated, and its matrices padded with zeros to whole blocks of channels.

    A padded channel has phase 0 everywhere, thus sine 0, and meets rows of zeros: nothing needs a mask.

    Attributes:
        size: side of its image, pixels.
        pixels: flat indices of the pixels to evaluate, in tiles, the last repeated to whole blocks.
        rows: the row of the output that each pixel fills.
        by_pose, bias: pose -> what is added to the first layer's phases.
        by_position: the same for x and y.
        flat_matrices, flat_biases: of the later sine layers, then of the output, each [in, out], end to end.
        blocks: (count, channels) of the first layer, the later ones and the output, see :func:`channel_blocks`.
        channels: of the output that mean something.
    """

    size: int
    pixels: Int32[Tensor, " p"]
    rows: Int32[Tensor, " p"]
    by_pose: Float[Tensor, "c k"]
    bias: Float[Tensor, " c"]
    by_position: Float[Tensor, "2 c"]
    flat_matrices: Float16[Tensor, " m"]
    flat_biases: Float[Tensor, " n"]
    blocks: tuple[tuple[int, int], ...]
    channels: int

    @property
    def widths(self) -> list[int]:
        """Channels of the first layer, the later ones and the output, padding included."""
        return [count * block for count, block in self.blocks]

    @property
    def matrices(self) -> list[Float16[Tensor, "_ _"]]:
        """Of the later sine layers, then of the output; views."""
        shapes = list(pairwise(self.widths))
        flat = self.flat_matrices.split([given * made for given, made in shapes])
        return [matrix.view(shape) for matrix, shape in zip(flat, shapes, strict=True)]

    @property
    def biases(self) -> list[Float[Tensor, " _"]]:
        """As :attr:`matrices`."""
        return list(self.flat_biases.split(self.widths[1:]))


def tile_order(mask: Bool[np.ndarray, "h w"]) -> Int32[np.ndarray, " p"]:
    """Flat indices of a mask's pixels, small rectangles of the image one after the other."""
    y, x = np.nonzero(mask)
    order = np.lexsort((x, y, x // _TILE_COLUMNS, y // _TILE_ROWS))
    return (y * mask.shape[1] + x)[order].astype(np.int32)


def pack_level(stage: Stage, mask: Bool[np.ndarray, "h w"], rows: Int32[np.ndarray, "h w"] | None = None) -> HalfLevel:
    """Lays out a folded stage, which has omega inside.

    Args:
        stage: its layers; an output without a bias is the next level's first matrix, thus of phases.
        mask: the pixels to evaluate.
        rows: the output's row of every pixel of the image; None: the pixel's own flat index.
    """
    device = stage.bias.device
    pixels = tile_order(mask)
    if len(pixels):
        pixels = np.pad(pixels, (0, -len(pixels) % PIXEL_MULTIPLE), mode="edge")
    to_rows = pixels if rows is None else rows.ravel()[pixels]
    last, shift = stage.out
    products = [(matrix / math.pi, bias / math.pi) for matrix, bias in stage.hidden]
    products.append((last / math.pi, last.new_zeros(last.shape[1])) if shift is None else (last, shift))
    blocks = (channel_blocks(len(stage.bias)), *(channel_blocks(matrix.shape[1]) for matrix, _ in products))
    widths = [count * block for count, block in blocks]
    return HalfLevel(
        size=len(mask),
        pixels=torch.from_numpy(pixels).to(device),
        rows=torch.from_numpy(to_rows).to(device),
        by_pose=_pad(stage.by_pose / math.pi, widths[0], stage.by_pose.shape[1]),
        bias=_pad((stage.bias / math.pi)[None], 1, widths[0])[0],
        by_position=_pad(stage.by_position / math.pi, 2, widths[0]),
        flat_matrices=torch.cat(
            [_pad(matrix, *shape).flatten() for (matrix, _), shape in zip(products, pairwise(widths), strict=True)]
        ).half(),
        flat_biases=torch.cat([_pad(b[None], 1, made)[0] for (_, b), made in zip(products, widths[1:], strict=True)]),
        blocks=blocks,
        channels=last.shape[1],
    )


def _pad(matrix: Float[Tensor, "a b"], rows: int, columns: int) -> Float[Tensor, "{rows} {columns}"]:
    return F.pad(matrix, (0, columns - matrix.shape[1], 0, rows - matrix.shape[0])).contiguous()


def run_level(
    level: HalfLevel, shift: Float[Tensor, " c"], below: Float[Tensor, "q b"] | None, out: Float[Tensor, "r d"]
) -> None:
    """Takes the level's pixels from position to ``out``; what the Triton kernels do, in plain PyTorch.

    Args:
        shift: the pose's share of the first layer's phases, half-turns.
        below: the plane of the level below, a row a pixel, at least c channels; None for a level that has none.
        out: filled in the level's rows, the first ``level.channels`` columns.
    """
    for pixels, rows in zip(level.pixels.split(_CHUNK), level.rows.split(_CHUNK), strict=True):
        y, x = pixels // level.size, pixels % level.size
        position = torch.stack([x, y], 1).float().mul(2).add(1).div(level.size).sub(1)
        # Not a product: on a GPU it might be allowed ten bits of mantissa.
        phase = shift + position[:, :1] * level.by_position[0] + position[:, 1:] * level.by_position[1]
        if below is not None:
            phase += doubled(below[:, : len(shift)], y, x, level.size // 2)
        for matrix, bias in zip(level.matrices, level.biases, strict=True):
            phase = product(half_turn_sine(phase).half(), matrix) + bias
        out[rows.long(), : level.channels] = phase[:, : level.channels]


def doubled(
    plane: Float[Tensor, "q c"], y: Int32[Tensor, " p"], x: Int32[Tensor, " p"], half: int
) -> Float[Tensor, "p c"]:
    """Bilinear doubling (align_corners=False) of a plane of half x half pixels, read at pixels of the doubled image."""
    near_y, near_x = y // 2, x // 2
    far_y = (near_y + y % 2 * 2 - 1).clamp(0, half - 1)
    far_x = (near_x + x % 2 * 2 - 1).clamp(0, half - 1)
    near = 0.75 * plane[near_y * half + near_x] + 0.25 * plane[near_y * half + far_x]
    far = 0.75 * plane[far_y * half + near_x] + 0.25 * plane[far_y * half + far_x]
    return 0.75 * near + 0.25 * far


def product(x: Float16[Tensor, "p k"], matrix: Float16[Tensor, "k c"]) -> Float[Tensor, "p c"]:
    """The matrix product of float16 operands, summed and returned in float32."""
    if x.device.type == "cuda":
        return torch.mm(x, matrix, out_dtype=torch.float32)
    return x.float() @ matrix.float()


def half_turn_sine(phase: Float[Tensor, " *s"]) -> Float[Tensor, " *s"]:
    """sin(pi t), t reduced to one turn first."""
    return torch.sin(math.pi * (phase - 2 * torch.round(phase / 2)))


def sample_character(
    character: Float[Tensor, "512*512 4"], channels: Float[Tensor, "p 7"], pixels: Int32[Tensor, " p"]
) -> tuple[Float[Tensor, "p 4"], Float[Tensor, "p 4"]]:
    """The character image moved by the grid change of some pixels, and painted over: (warped, posed).

    Args:
        character: network space, a row a pixel.
        channels: grid change 2, alpha 1, colour change 4.
        pixels: their flat indices.
    """
    image = character.T.reshape(1, 4, IMAGE_SIZE, IMAGE_SIZE)
    position = torch.stack([pixels % IMAGE_SIZE, pixels // IMAGE_SIZE], 1).float().mul(2).add(1).div(IMAGE_SIZE).sub(1)
    grid = (position + channels[:, :2])[None, None]
    warped = F.grid_sample(image, grid, padding_mode="border", align_corners=False)[0, :, 0].T
    alpha = channels[:, 2:3]
    return warped, channels[:, 3:] * alpha + warped * (1 - alpha)


def paint(
    channels: Float[Tensor, "512*512 d"],
    character: Float[Tensor, "512*512 4"],
    pixels: Int32[Tensor, " p"],
    rows: Int32[Tensor, " p"],
    out: UInt8[Tensor, "r 4"],
    table: UInt8[Tensor, " steps"],
    bgra: bool,
) -> None:
    """Warps, paints over and converts some pixels, each to its row of ``out``; ``table`` is pixels.srgb_table."""
    _, posed = sample_character(character, channels[pixels.long(), :7], pixels)
    unit = posed.mul(0.5).add(0.5).clamp(0, 1)
    opaque = unit[:, 3:]
    last = len(table) - 1
    index = (unit[:, :3] * (last / opaque.clamp_min(1e-6))).clamp(max=last).round().long()
    color = table[index] * (opaque > 0)
    out[rows.long()] = torch.cat([color.flip(1) if bgra else color, opaque.mul(255).round().to(torch.uint8)], 1)

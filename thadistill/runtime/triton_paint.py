"""Triton paint: the last level's channels and the character image to 8-bit pixels in one kernel."""

from __future__ import annotations

from typing import no_type_check  # kernels are Triton's language: neither checker reads it

import triton
import triton.language as tl
from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from thadistill.images import IMAGE_SIZE

_PIXELS = 128


@triton.jit
@no_type_check
def _posed(character, channels, nw, ne, sw, se, fx, fy, alpha, C: tl.constexpr):
    """Channel C of the warped image, painted over, in [0, 1]; nw ... se are the four texels read."""
    north = tl.load(character + nw * 4 + C) * (1 - fx) + tl.load(character + ne * 4 + C) * fx
    south = tl.load(character + sw * 4 + C) * (1 - fx) + tl.load(character + se * 4 + C) * fx
    warped = north * (1 - fy) + south * fy
    posed = tl.load(channels + 3 + C) * alpha + warped * (1 - alpha)
    return tl.minimum(tl.maximum(posed * 0.5 + 0.5, 0.0), 1.0)


@triton.jit
@no_type_check
def _byte(unit, opaque, table, STEPS: tl.constexpr):
    """Premultiplied linear to straight 8-bit sRGB, see pixels.to_pixels."""
    index = tl.minimum(unit * ((STEPS - 1) / tl.maximum(opaque, 1e-6)), STEPS - 1.0)
    value = tl.load(table + (index + 0.5).to(tl.int32)).to(tl.int32)
    return tl.where(opaque > 0, value, 0)


@triton.jit
@no_type_check
def _paint(
    pixels,
    rows,
    channels,
    character,
    table,
    out,
    SIZE: tl.constexpr,
    WIDTH: tl.constexpr,
    STEPS: tl.constexpr,
    SWAP: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """A block of PIXELS; WIDTH: of a row of ``channels``; STEPS: entries of ``table``; SWAP: BGRA."""
    place = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    pixel = tl.load(pixels + place)
    channels += pixel * WIDTH
    # texel coordinates: position + grid change in [-1, 1], clamped to the outermost centres as border padding is
    across = (pixel % SIZE).to(tl.float32) + tl.load(channels) * (SIZE / 2)
    down = (pixel // SIZE).to(tl.float32) + tl.load(channels + 1) * (SIZE / 2)
    across = tl.minimum(tl.maximum(across, 0.0), SIZE - 1.0)
    down = tl.minimum(tl.maximum(down, 0.0), SIZE - 1.0)
    left = across.to(tl.int32)  # not negative: cutting is rounding down
    top = down.to(tl.int32)
    fx = across - left.to(tl.float32)
    fy = down - top.to(tl.float32)
    right = tl.minimum(left + 1, SIZE - 1)
    nw = top * SIZE + left
    ne = top * SIZE + right
    bottom = tl.minimum(top + 1, SIZE - 1) * SIZE
    sw = bottom + left
    se = bottom + right
    alpha = tl.load(channels + 2)
    opaque = _posed(character, channels, nw, ne, sw, se, fx, fy, alpha, 3)
    red = _byte(_posed(character, channels, nw, ne, sw, se, fx, fy, alpha, 0), opaque, table, STEPS)
    green = _byte(_posed(character, channels, nw, ne, sw, se, fx, fy, alpha, 1), opaque, table, STEPS)
    blue = _byte(_posed(character, channels, nw, ne, sw, se, fx, fy, alpha, 2), opaque, table, STEPS)
    first = blue if SWAP else red
    third = red if SWAP else blue
    out += tl.load(rows + place) * 4
    tl.store(out, first.to(tl.uint8))
    tl.store(out + 1, green.to(tl.uint8))
    tl.store(out + 2, third.to(tl.uint8))
    tl.store(out + 3, (opaque * 255 + 0.5).to(tl.int32).to(tl.uint8))


def paint(
    channels: Float[Tensor, "512*512 d"],
    character: Float[Tensor, "512*512 4"],
    pixels: Int32[Tensor, " p"],
    rows: Int32[Tensor, " p"],
    out: UInt8[Tensor, "r 4"],
    table: UInt8[Tensor, " steps"],
    bgra: bool,
) -> None:
    """Fills ``out`` at the rows of some pixels; see half_level.paint, which gives the same but for rounding."""
    if not len(pixels):
        return
    _paint[(len(pixels) // _PIXELS,)](
        pixels,
        rows,
        channels,
        character,
        table,
        out,
        SIZE=IMAGE_SIZE,
        WIDTH=channels.shape[1],
        STEPS=len(table),
        SWAP=bgra,
        PIXELS=_PIXELS,
        enable_fp_fusion=True,
    )

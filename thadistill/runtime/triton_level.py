"""Triton levels: a student's level in one kernel, or, where its activations do not fit a program, a layer a kernel.

A program of the level kernel takes a block of pixels from position to output: first phases (pose, position, the plane
below raised by two), sine, and each product, its sums and phases in float32, its operands in float16. The activations
of its pixels never leave the multiprocessor. Channels are held in blocks, see half_level.HalfLevel.
"""

from __future__ import annotations

from itertools import pairwise
from typing import no_type_check  # kernels are Triton's language: neither checker reads it

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from thadistill.runtime.half_level import HalfLevel

# On a CPU the kernels run in Triton's interpreter, and only where this was set before Triton was imported.
INTERPRETED = bool(triton.knobs.runtime.interpret)
_MAGIC = tl.constexpr(12582912.0)  # 1.5 * 2^23: adding it leaves the nearest integer in the low bits
# Activations of a program's pixels, those going into a layer and those coming out, stay in registers (tiles of weights
# pass through shared memory): bytes of the 256 KB that a multiprocessor of an H200 has; sums and addresses need the rest.
# The paper's 360 channels need just these, and are spilled a little (644 bytes a thread, says ptxas).
_ACTIVATION_BYTES = 96 * 1024
_PIXELS = 64  # a program's: the least a product of a Hopper warp group takes
_WIDE = 192  # channels from which on a program gets two warp groups instead of one


@triton.jit
@no_type_check
def _sine(t):
    """sin(pi t): odd minimax polynomial on half a turn, greatest error 7e-7; odd half-turns change the sign."""
    turned = t + _MAGIC
    r = t - (turned - _MAGIC)
    q = r * r
    s = r * (((-0.55463618 * q + 2.54189897) * q - 5.16714287) * q + 3.14158201)
    flip = turned.to(tl.int32, bitcast=True) << 31
    return (s.to(tl.int32, bitcast=True) ^ flip).to(tl.float32, bitcast=True)


@triton.jit
@no_type_check
def _first_phases(pixel, channel, below, shift, by_position, SIZE: tl.constexpr, BELOW: tl.constexpr, C: tl.constexpr):
    """Phases of the first layer [pixel, channel]; BELOW is the width of the plane below, 0 for none, C the layer's."""
    y = pixel // SIZE
    x = pixel % SIZE
    across = ((2 * x + 1).to(tl.float32) / SIZE - 1)[:, None]
    down = ((2 * y + 1).to(tl.float32) / SIZE - 1)[:, None]
    phase = tl.load(shift + channel)[None, :]
    phase = (
        phase + across * tl.load(by_position + channel)[None, :] + down * tl.load(by_position + C + channel)[None, :]
    )
    if BELOW > 0:
        HALF: tl.constexpr = SIZE // 2
        near_y = y // 2
        near_x = x // 2
        far_y = tl.minimum(tl.maximum(near_y + y % 2 * 2 - 1, 0), HALF - 1)
        far_x = tl.minimum(tl.maximum(near_x + x % 2 * 2 - 1, 0), HALF - 1)
        at = below + channel[None, :]
        near = 0.75 * tl.load(at + ((near_y * HALF + near_x) * BELOW)[:, None])
        near += 0.25 * tl.load(at + ((near_y * HALF + far_x) * BELOW)[:, None])
        far = 0.75 * tl.load(at + ((far_y * HALF + near_x) * BELOW)[:, None])
        far += 0.25 * tl.load(at + ((far_y * HALF + far_x) * BELOW)[:, None])
        phase += 0.75 * near + 0.25 * far
    return phase


@triton.jit
@no_type_check
def _level(
    pixels,
    rows,
    below,
    shift,
    by_position,
    matrices,
    biases,
    out,
    SIZE: tl.constexpr,
    BELOW: tl.constexpr,
    OUT: tl.constexpr,
    CHANNELS: tl.constexpr,
    LAYERS: tl.constexpr,
    COUNTS: tl.constexpr,
    BLOCKS: tl.constexpr,
    PIXELS: tl.constexpr,
):
    """A block of PIXELS through the first layer and LAYERS products, the last of which is the output.

    ``matrices`` and ``biases`` hold all products' one after the other. COUNTS and BLOCKS: HalfLevel.blocks; OUT: width
    of the output's rows; CHANNELS: how many of its columns are filled.
    """
    place = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    pixel = tl.load(pixels + place)
    row = tl.load(rows + place)
    active = ()
    for n in tl.static_range(COUNTS[0]):
        channel = n * BLOCKS[0] + tl.arange(0, BLOCKS[0])
        phase = _first_phases(pixel, channel, below, shift, by_position, SIZE, BELOW, COUNTS[0] * BLOCKS[0])
        active = active + (_sine(phase).to(tl.float16),)  # noqa: RUF005 - Triton has no starred items
    for layer in tl.static_range(1, LAYERS + 1):
        following = ()
        for n in tl.static_range(COUNTS[layer]):
            channel = n * BLOCKS[layer] + tl.arange(0, BLOCKS[layer])
            phase = tl.zeros((PIXELS, BLOCKS[layer]), tl.float32) + tl.load(biases + channel)[None, :]
            for k in tl.static_range(COUNTS[layer - 1]):
                inner = k * BLOCKS[layer - 1] + tl.arange(0, BLOCKS[layer - 1])
                tile = tl.load(matrices + inner[:, None] * (COUNTS[layer] * BLOCKS[layer]) + channel[None, :])
                phase = tl.dot(active[k], tile, phase)
            if layer < LAYERS:
                following = following + (_sine(phase).to(tl.float16),)  # noqa: RUF005
            else:
                tl.store(out + row[:, None] * OUT + channel[None, :], phase, mask=channel[None, :] < CHANNELS)
        active = following
        matrices += COUNTS[layer - 1] * BLOCKS[layer - 1] * (COUNTS[layer] * BLOCKS[layer])
        biases += COUNTS[layer] * BLOCKS[layer]


@triton.jit
@no_type_check
def _first(
    pixels,
    below,
    shift,
    by_position,
    active,
    SIZE: tl.constexpr,
    BELOW: tl.constexpr,
    C: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The first layer's sines alone, to ``active`` [place in the list, C]."""
    place = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    phase = _first_phases(tl.load(pixels + place), channel, below, shift, by_position, SIZE, BELOW, C)
    tl.store(active + place[:, None] * C + channel[None, :], _sine(phase).to(tl.float16))


@triton.jit
@no_type_check
def _layer(
    active,
    rows,
    matrix,
    bias,
    out,
    GIVEN: tl.constexpr,
    MADE: tl.constexpr,
    OUT: tl.constexpr,
    CHANNELS: tl.constexpr,
    LAST: tl.constexpr,
    PIXELS: tl.constexpr,
    INNER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One product with bias and sine, GIVEN channels to MADE; the LAST has no sine and goes to its pixels' rows."""
    place = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    phase = tl.zeros((PIXELS, BLOCK), tl.float32) + tl.load(bias + channel)[None, :]
    for start in range(0, GIVEN, INNER):
        inner = start + tl.arange(0, INNER)
        x = tl.load(active + place[:, None] * GIVEN + inner[None, :])
        phase = tl.dot(x, tl.load(matrix + inner[:, None] * MADE + channel[None, :]), phase)
    if LAST:
        row = tl.load(rows + place)
        tl.store(out + row[:, None] * OUT + channel[None, :], phase, mask=channel[None, :] < CHANNELS)
    else:
        tl.store(out + place[:, None] * MADE + channel[None, :], _sine(phase).to(tl.float16))


def fits(level: HalfLevel) -> bool:
    """Whether one program holds the activations of its pixels through the whole level."""
    widths = level.widths[:-1]
    return 2 * _PIXELS * max([widths[0], *(a + b for a, b in pairwise(widths))]) <= _ACTIVATION_BYTES


def warps_for(level: HalfLevel) -> int:
    """Warps of a program."""
    return 8 if max(level.widths) > _WIDE else 4


def run_level(
    level: HalfLevel, shift: Float[Tensor, " c"], below: Float[Tensor, "q b"] | None, out: Float[Tensor, "r d"]
) -> None:
    """Takes the level's pixels from position to ``out``; see half_level.run_level, which gives the same but for rounding.

    Tensors on a CUDA device, or on the CPU where INTERPRETED.
    """
    if not len(level.pixels):
        return
    read, width = (out, 0) if below is None else (below, below.shape[1])
    assert out.is_contiguous(), "kernels see rows end to end"
    assert read.is_contiguous(), "kernels see rows end to end"
    if not fits(level):
        _run_layers(level, shift, read, width, out)
        return
    _level[(len(level.pixels) // _PIXELS,)](
        level.pixels,
        level.rows,
        read,
        shift,
        level.by_position,
        level.flat_matrices,
        level.flat_biases,
        out,
        SIZE=level.size,
        BELOW=width,
        OUT=out.shape[1],
        CHANNELS=level.channels,
        LAYERS=len(level.matrices),
        COUNTS=tuple(count for count, _ in level.blocks),
        BLOCKS=tuple(block for _, block in level.blocks),
        PIXELS=_PIXELS,
        num_warps=warps_for(level),
        enable_fp_fusion=True,  # sines are sums of products; Triton 3.10 asks for it
    )


def _run_layers(level: HalfLevel, shift: Tensor, below: Tensor, width: int, out: Tensor) -> None:
    """A kernel a layer; activations go through memory."""
    places = len(level.pixels)
    count, block = level.blocks[0]
    given = count * block
    active = torch.empty(places, given, dtype=torch.float16, device=out.device)
    _first[(places // _PIXELS, count)](
        level.pixels,
        below,
        shift,
        level.by_position,
        active,
        SIZE=level.size,
        BELOW=width,
        C=given,
        PIXELS=_PIXELS,
        BLOCK=block,
        enable_fp_fusion=True,
    )
    for i, (matrix, bias) in enumerate(zip(level.matrices, level.biases, strict=True)):
        last = i == len(level.matrices) - 1
        inner, (count, block) = level.blocks[i][1], level.blocks[i + 1]
        made = out if last else torch.empty(places, count * block, dtype=torch.float16, device=out.device)
        _layer[(places // _PIXELS, count)](
            active,
            level.rows,
            matrix,
            bias,
            made,
            GIVEN=given,
            MADE=count * block,
            OUT=out.shape[1],
            CHANNELS=level.channels,
            LAST=last,
            PIXELS=_PIXELS,
            INNER=min(inner, 64),
            BLOCK=block,
            enable_fp_fusion=True,
        )
        active, given = made, count * block

"""Row tiles: the C++ kernels for what a tile of rows goes through besides its matrix product."""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from thadistill.kernels.build import NativeUnavailable, load_native
from thadistill.kernels.row_tiled.feature import Feature

_SOURCE = Path(__file__).with_name("row_tiled.cpp")


class RowTiledKernels:
    """The kernels, built on the first use on a machine. They run on the thread that calls, without Python's lock.

    Raises: NativeUnavailable when there is no compiler, or it fails.
    """

    def __init__(self) -> None:
        self._library = load_native(_SOURCE)
        p, i = ctypes.c_void_p, ctypes.c_int
        source: list[Any] = [p, p, p, ctypes.c_float, i, i, i, i]
        self._library.tile_depthwise.argtypes = [*source, i, p, *[i] * 4, p, p, i, i]
        self.projects = bool(self._library.tile_projects())
        if self.projects:
            self._library.tile_project.argtypes = [*source, p, p, i, i, i, p, p]
            self._library.tile_project.restype = None
        self._library.tile_moments.argtypes = [p, i, ctypes.c_int64, i, p, p]
        self._library.tile_enter.argtypes = [p, p, i, i, i, i, p]
        self._library.tile_add.argtypes = [*source, *source, i, i, p]
        for name in ("depthwise", "moments", "enter", "add"):
            getattr(self._library, f"tile_{name}").restype = None
        self.lanes = self._library.tile_lanes()

    def padded(self, channels: int) -> int:
        """The channels of a buffer's pixel: whole vectors."""
        return -(-channels // self.lanes) * self.lanes

    def pack(self, taps: Float[Tensor, "c k k"], *, doubled: bool) -> Float[Tensor, "taps padded"]:
        """The weights as the kernel reads them.

        ``doubled``: for the four pixels that each of the image becomes, which see two by two of it: of three taps along an
        axis the last two fall on one pixel, or the first two.
        """
        if doubled:
            by_row = torch.stack([_fold(taps.transpose(1, 2), side).transpose(1, 2) for side in (0, 1)])
            taps = torch.stack([torch.stack([_fold(row, side) for side in (0, 1)]) for row in by_row])
            taps = taps.permute(2, 0, 1, 3, 4)
        flat = taps.flatten(1).T
        return F.pad(flat, (0, self.padded(flat.shape[1]) - flat.shape[1])).contiguous()

    def depthwise(
        self,
        x: Feature,
        doubled: bool,
        weights: Float[Tensor, "taps padded"],
        kernel: int,
        stride: int,
        top: int,
        bottom: int,
        buffer: Tensor,
        out: Float[Tensor, "n c"],
    ) -> None:
        """Output rows ``top:bottom`` of a depthwise convolution of ``x``, finished, and doubled where it is to be.

        ``buffer`` holds the finished rows that these need, with a halo, in padded channels. ``out`` may be some of the
        channels of a wider tensor. Features and ``out`` may be bfloat16.
        """
        assert out.stride(1) == 1
        assert (kernel, stride) in ((3, 1), (4, 2), (7, 1))
        self._library.tile_depthwise(
            *_source(x),
            *(doubled, weights.data_ptr(), kernel, stride, top, bottom, buffer.data_ptr()),
            *(out.data_ptr(), out.stride(0), _rounded(out)),
        )

    def pack_heads(self, weight: Float[Tensor, "o c 3 3"]) -> Tensor:
        """The weights as :meth:`heads` reads them, in bfloat16."""
        outputs, channels, *_ = weight.shape
        padded = F.pad(weight, (0, 0, 0, 0, 0, self.padded(channels) - channels, 0, self.lanes - outputs))
        return padded.permute(2, 3, 1, 0).unflatten(2, (-1, 2)).transpose(3, 4).to(torch.bfloat16).contiguous()

    def heads(
        self,
        x: Feature,
        packed: Tensor,
        bias: Float[Tensor, " o"],
        top: int,
        bottom: int,
        out: Float[Tensor, "1 o h w"],
    ) -> None:
        """Rows ``top:bottom`` of output convolutions of x, finished, whose factors are rounded to bfloat16.

        Where ``projects`` says that they can be had; for ``lanes`` outputs at the most.
        """
        buffer = torch.empty(3, x.raw.shape[1] + 2, self.padded(x.raw.shape[2]), dtype=torch.bfloat16)
        self._library.tile_project(
            *_source(x), packed.data_ptr(), bias.data_ptr(), len(bias), top, bottom, buffer.data_ptr(), out.data_ptr()
        )

    def enter(
        self, planes: Sequence[Float[Tensor, "1 _ h w"]], top: int, bottom: int, out: Float[Tensor, "h w c"]
    ) -> None:
        """Rows ``top:bottom`` of all planes, channels last."""
        each = [plane for part in planes for plane in part[0]]
        addresses = torch.tensor([plane.data_ptr() for plane in each])
        strides = torch.tensor([plane.stride() for plane in each])
        self._library.tile_enter(
            *(addresses.data_ptr(), strides.data_ptr(), len(each), out.shape[1], top, bottom, out.data_ptr())
        )

    def add(self, x: Feature, y: Feature, top: int, bottom: int, out: Float[Tensor, "h w c"]) -> None:
        """Rows ``top:bottom`` of the sum of two finished features; ``out`` may be what one of them is made of."""
        self._library.tile_add(*_source(x), *_source(y), top, bottom, out.data_ptr())

    def add_moments(
        self, values: Float[Tensor, "n c"], reference: Float[Tensor, " c"], sums: Float[Tensor, "2 c"]
    ) -> None:
        """Adds the sums of values - reference, and of its square, to the float64 ``sums``."""
        self._library.tile_moments(
            values.data_ptr(), _rounded(values), *values.shape, reference.data_ptr(), sums.data_ptr()
        )


def _rounded(values: Tensor) -> bool:
    assert values.dtype in (torch.float32, torch.bfloat16)
    return values.dtype == torch.bfloat16


def _source(x: Feature) -> tuple[Any, ...]:
    assert x.raw.is_contiguous()
    scale, shift = (None if part is None else part.data_ptr() for part in (x.scale, x.shift))
    return x.raw.data_ptr(), scale, shift, x.slope, _rounded(x.raw), *x.raw.shape


def _fold(taps: Float[Tensor, "*b 3"], side: int) -> Float[Tensor, "*b 2"]:
    """Three taps on a doubled axis as two on the axis itself, for the first or second of a pixel's two."""
    first, middle, last = taps.unbind(-1)
    return torch.stack([first + middle, last] if side else [first, middle + last], dim=-1)


@functools.cache
def row_tiled_kernels() -> RowTiledKernels | None:
    """The kernels, or None where they cannot be built; torch's operations then take half as long again."""
    try:
        return RowTiledKernels()
    except NativeUnavailable as error:
        logging.getLogger(__name__).info("row tiles run without native kernels: %s", error)
        return None

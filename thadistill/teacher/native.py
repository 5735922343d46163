"""Native strips: the C++ kernels for what a strip goes through besides its matrix product."""

from __future__ import annotations

import ctypes
import functools
import logging
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from thadistill.native_build import NativeUnavailable, load_native
from thadistill.teacher.feature import Feature

_SOURCE = Path(__file__).with_name("strips.cpp")


class StripKernels:
    """The kernels, built on the first use on a machine. They run on the thread that calls, without Python's lock.

    Raises: NativeUnavailable when there is no compiler, or it fails.
    """

    def __init__(self) -> None:
        self._library = load_native(_SOURCE)
        p, i = ctypes.c_void_p, ctypes.c_int
        source: list[Any] = [p, p, p, ctypes.c_float, i, i]
        self._library.strip_depthwise.argtypes = [*source, i, *source, i, i, p, i, i, i, i, p, p, i]
        self._library.strip_moments.argtypes = [p, i, ctypes.c_int64, i, p, p]
        self._library.strip_depthwise.restype = self._library.strip_moments.restype = None
        self._lanes = self._library.strip_lanes()

    def padded(self, channels: int) -> int:
        """The channels of a buffer's pixel: whole vectors."""
        return -(-channels // self._lanes) * self._lanes

    def pack(self, depthwise: nn.Conv2d) -> Float[Tensor, "taps padded"]:
        """The weights as the kernel reads them."""
        taps = depthwise.weight.flatten(1).T
        return F.pad(taps, (0, self.padded(taps.shape[1]) - taps.shape[1])).contiguous()

    def depthwise(
        self,
        x: Feature,
        doubled: bool,
        skip: Feature | None,
        weights: Float[Tensor, "taps padded"],
        depthwise: nn.Conv2d,
        top: int,
        bottom: int,
        buffer: Tensor,
        out: Float[Tensor, "n c"],
    ) -> None:
        """Output rows ``top:bottom`` of a depthwise convolution of ``x``, finished, doubled, and joined with ``skip``.

        ``buffer`` holds the finished rows that these need: (rows * stride + 2 halo) * (width + 2 halo) * padded channels.
        Features and ``out`` may be bfloat16.
        """
        doubling = 2 if doubled else 1
        height, width = (size * doubling for size in x.raw.shape[:2])
        self._library.strip_depthwise(
            *_pointers(x),
            doubling,
            *(_pointers(skip) if skip is not None else (None, None, None, 1.0, 0, 0)),
            height,
            width,
            weights.data_ptr(),
            depthwise.kernel_size[0],
            depthwise.stride[0],
            top,
            bottom,
            buffer.data_ptr(),
            out.data_ptr(),
            _rounded(out),
        )

    def add_moments(
        self, values: Float[Tensor, "n c"], reference: Float[Tensor, " c"], sums: Float[Tensor, "2 c"]
    ) -> None:
        """Adds the sums of values - reference, and of its square, to the float64 ``sums``."""
        self._library.strip_moments(
            values.data_ptr(), _rounded(values), *values.shape, reference.data_ptr(), sums.data_ptr()
        )


def _rounded(values: Tensor) -> bool:
    assert values.dtype in (torch.float32, torch.bfloat16)
    return values.dtype == torch.bfloat16


def _pointers(x: Feature) -> tuple[int, int | None, int | None, float, int, bool]:
    assert x.raw.is_contiguous()
    scale, shift = (None if part is None else part.data_ptr() for part in (x.scale, x.shift))
    return x.raw.data_ptr(), scale, shift, x.slope, x.raw.shape[2], _rounded(x.raw)


@functools.cache
def strip_kernels() -> StripKernels | None:
    """The kernels, or None where they cannot be built; torch's operations then take half as long again."""
    try:
        return StripKernels()
    except NativeUnavailable as error:
        logging.getLogger(__name__).info("strips run without native kernels: %s", error)
        return None

"""Strips: THA3's separable networks on a CPU without gradients, about three times faster than module by module.

The networks are bound by memory, not arithmetic. Here a feature is stored channels-last, before its normalisation; each
block reads it in strips of rows small enough for the processor's cache, and does everything to a strip at once:
normalise and activate what it reads, double it and join the skip where the network does, depthwise convolution, 1x1
convolution as a matrix product, sums for the next normalisation. The arithmetic is the modules', in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_STRIP_BYTES = 2_000_000  # of a strip's input; 1 to 3 MB measure alike, 6 MB a quarter slower (1 MB of L2 a core)


T = TypeVar("T")


class Threads:
    """A few threads that each run torch's operations serially; ``with`` starts and ends them.

    Torch's own threads meet at the end of every operation: thousands of times an image here, which costs more than it
    gains as soon as anything else runs on the machine.
    """

    def __init__(self) -> None:
        self.count = torch.get_num_threads()
        self._inference = torch.is_inference_mode_enabled()

    def __enter__(self) -> Threads:
        self._pool = ThreadPoolExecutor(self.count, initializer=torch.set_num_threads, initargs=(1,))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self.count)  # a thread's setting reaches parts of torch that all threads share

    def run(self, work: Callable[..., T], items: Sequence[tuple[int, ...]]) -> list[T]:
        """``work(*item)`` of every item, without gradients."""

        def run_one(item: tuple[int, ...]) -> T:
            with torch.inference_mode(self._inference), torch.no_grad():
                return work(*item)

        return list(self._pool.map(run_one, items))


class Workspace:
    """Buffers kept between calls: the first touch of fresh memory costs as much as the arithmetic on it.

    A buffer is out of the pool while it is in use, so threads may share one. Copies of a network start with none.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[Tensor]] = {}

    def take(self, *shape: int) -> Tensor:
        """A float32 buffer, its content undefined."""
        size = torch.Size(shape).numel()
        try:
            return self._free[size].pop().view(shape)
        except (KeyError, IndexError):
            with torch.inference_mode(False):  # an ordinary tensor can be written in every mode
                return torch.empty(shape)

    def give_back(self, buffer: Tensor) -> None:
        """Returns a buffer to the pool; nobody may use it any more."""
        self._free.setdefault(buffer.numel(), []).append(buffer)

    def __deepcopy__(self, memo: dict[int, object]) -> Workspace:
        return Workspace()

    def __reduce__(self) -> tuple[type[Workspace], tuple[()]]:
        return Workspace, ()


class Feature(NamedTuple):
    """A channels-last feature whose normalisation and activation are still to be done: act(raw * scale + shift)."""

    raw: Float[Tensor, "h w c"]
    scale: Float[Tensor, " c"] | None = None  # None: nothing is to be done
    shift: Float[Tensor, " c"] | None = None
    slope: float = 1.0  # of the leaky ReLU; 0 is ReLU, 1 none

    def write_rows(self, top: int, bottom: int, out: Float[Tensor, "r w c"]) -> None:
        """The finished rows into ``out``."""
        if self.scale is None or self.shift is None:
            out.copy_(self.raw[top:bottom])
            return
        torch.addcmul(self.shift, self.raw[top:bottom], self.scale, out=out)
        if self.slope != 1:
            F.leaky_relu_(out, self.slope)

    def finished(self) -> Float[Tensor, "h w c"]:
        """All finished rows; the raw ones themselves where nothing is to be done."""
        if self.scale is None:
            return self.raw
        out = torch.empty_like(self.raw)
        self.write_rows(0, len(out), out)
        return out


class _Block(NamedTuple):
    """The modules of a separable block, and its activation's slope."""

    depthwise: nn.Conv2d | nn.ConvTranspose2d
    pointwise: nn.Conv2d
    norm: nn.InstanceNorm2d
    slope: float


def _block_of(convolution: Iterable[nn.Module], norm: nn.Module, activation: nn.Module | None = None) -> _Block:
    depthwise, pointwise = convolution
    assert isinstance(depthwise, nn.Conv2d | nn.ConvTranspose2d)
    assert isinstance(pointwise, nn.Conv2d)
    assert isinstance(norm, nn.InstanceNorm2d)
    if activation is None:
        return _Block(depthwise, pointwise, norm, 1.0)
    return _Block(depthwise, pointwise, norm, getattr(activation, "negative_slope", 0.0))


class _Moments:
    """Mean and variance of each channel over the pixels of all strips.

    Values are taken relative to the first strip's mean: squares of raw values would lose the variance of a channel
    whose mean is far from zero.
    """

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._reference = torch.zeros(channels)
        self._sum, self._square_sum = torch.zeros(2, channels, dtype=torch.float64)

    def add(self, values: Float[Tensor, "n c"]) -> None:
        if self._count == 0:
            self._reference = values.mean(dim=0)
        offset = values - self._reference
        self._sum += offset.sum(dim=0)
        self._square_sum += offset.square_().sum(dim=0)
        self._count += len(values)

    @staticmethod
    def affine(parts: Sequence[_Moments], norm: nn.InstanceNorm2d) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
        """The scale and shift that are this normalisation, from the moments of all bands."""
        count = sum(part._count for part in parts)
        means = [part._reference + part._sum / part._count for part in parts]
        mean = torch.stack([of * part._count for of, part in zip(means, parts, strict=True)]).sum(dim=0) / count
        squares = [
            part._square_sum - part._sum**2 / part._count + part._count * (of - mean) ** 2
            for of, part in zip(means, parts, strict=True)
        ]
        variance = torch.stack(squares).sum(dim=0).clamp_min(0) / count
        scale = norm.weight / (variance + norm.eps).sqrt()
        return scale.float(), (norm.bias - mean * scale).float()


class StripEngine:
    """Runs the blocks of separable networks on one image (``ModuleEngine`` is the plain way).

    With ``threads``, each block's rows are dealt to them in bands, so that they wait for one another once a block.
    """

    def __init__(self, workspace: Workspace, threads: Threads | None = None) -> None:
        self._workspace = workspace
        self._threads = threads
        self._taken: list[Tensor] = []

    def enter(self, *planes: Float[Tensor, "1 _ h w"]) -> Feature:
        """The feature of an image's planes, joined."""
        height, width = planes[0].shape[-2:]
        joined = self._take(height, width, sum(part.shape[1] for part in planes))
        parts = joined.split([part.shape[1] for part in planes], dim=2)

        def copy(top: int, bottom: int) -> None:
            for part, plane in zip(parts, planes, strict=True):
                part[top:bottom] = plane[0, :, top:bottom].permute(1, 2, 0)

        self._by_bands(height, copy)
        return Feature(joined)

    def leave(self, x: Feature) -> Float[Tensor, "1 c h w"]:
        """The finished feature as an ordinary tensor."""
        return x.finished().permute(2, 0, 1)[None].contiguous()

    def block(self, block: nn.Module, x: Feature, *, doubled: bool = False, skip: Feature | None = None) -> Feature:
        """A separable block: of ``x``, or of ``x`` doubled in size (nearest) with the channels of ``skip`` joined."""
        *convolution, norm, activation = block.children()
        return self._convolve(_block_of(convolution, norm, activation), x, doubled, skip)

    def residual(self, block: nn.Module, x: Feature) -> Feature:
        """A resnet block; ``x`` cannot be used afterwards."""
        first, norm, activation, second, last_norm = block.get_submodule("resnet_path").children()
        middle = self._convolve(_block_of(first.children(), norm, activation), x)
        last = self._convolve(_block_of(second.children(), last_norm), middle)
        buffers = last.raw, self._take(*x.raw.shape)

        def add(top: int, bottom: int) -> None:
            total, addend = (buffer[top:bottom] for buffer in buffers)
            last.write_rows(top, bottom, total)
            x.write_rows(top, bottom, addend)
            total.add_(addend)

        self._by_bands(len(last.raw), add)
        self._give_back(buffers[1])
        self._give_back(middle.raw)
        self._give_back(x.raw)
        return Feature(last.raw)

    def heads(
        self, x: Feature, weight: Float[Tensor, "o c 3 3"], bias: Float[Tensor, " o"]
    ) -> Float[Tensor, "1 o h w"]:
        """The output convolutions, back in the ordinary layout."""
        height, width, _ = x.raw.shape
        out = x.raw.new_empty(1, len(weight), height, width)

        def convolve(top: int, bottom: int) -> None:
            for start, stop, strip in self._strips(x, top, bottom, kernel=3, stride=1):
                out[:, :, start:stop] = F.conv2d(strip, weight, bias, padding=(0, 1))

        self._by_bands(height, convolve)
        return out

    def close(self) -> None:
        """Ends the use of every feature this engine gave."""
        while self._taken:
            self._give_back(self._taken[-1])

    def _convolve(self, block: _Block, x: Feature, doubled: bool = False, skip: Feature | None = None) -> Feature:
        depthwise = block.depthwise
        grow = isinstance(depthwise, nn.ConvTranspose2d)
        kernel, stride = depthwise.kernel_size[0], depthwise.stride[0]
        height, width = (size * 2 if doubled or grow else size // stride for size in x.raw.shape[:2])
        weight = block.pointwise.weight[:, :, 0, 0].t()
        raw = self._take(height, width, weight.shape[1])

        def convolve(top: int, bottom: int) -> _Moments:
            moments = _Moments(weight.shape[1])
            strips = self._strips(x, top, bottom, kernel, stride, grow=grow, doubled=doubled, skip=skip)
            for start, stop, strip in strips:
                channels = strip.shape[1]
                if grow:  # a row of halo at each end has given two rows of output
                    z = F.conv_transpose2d(strip, depthwise.weight, stride=2, padding=1, groups=channels)[:, :, 2:-2]
                else:
                    padding = (0, (kernel - stride + 1) // 2)  # the strip brings its own rows of padding
                    z = F.conv2d(strip, depthwise.weight, stride=stride, padding=padding, groups=channels)
                out = raw[start:stop].view(-1, weight.shape[1])
                torch.mm(z[0].permute(1, 2, 0).reshape(-1, channels), weight, out=out)
                moments.add(out)
            return moments

        moments = self._by_bands(height, convolve)
        return Feature(raw, *_Moments.affine(moments, block.norm), block.slope)

    def _by_bands(self, height: int, work: Callable[[int, int], T]) -> list[T]:
        """``work(top, bottom)`` for bands that share out the rows, one a thread; bands are even, as halvings need."""
        count = self._threads.count if self._threads else 1
        edges = [height // 2 * band // count * 2 for band in range(count)] + [height]
        bands = [(top, bottom) for top, bottom in pairwise(edges) if top < bottom]
        if self._threads is None:
            return [work(*band) for band in bands]
        return self._threads.run(work, bands)

    def _strips(
        self,
        x: Feature,
        from_row: int,
        to_row: int,
        kernel: int,
        stride: int,
        *,
        grow: bool = False,
        doubled: bool = False,
        skip: Feature | None = None,
    ) -> Iterator[tuple[int, int, Float[Tensor, "1 c r w"]]]:
        """For strips of the output's rows ``from_row:to_row``: first and last row, and the input rows that they need.

        The input is finished, doubled and joined, and padded with zero rows at the image's ends.
        """
        scale = 2 if doubled else 1
        in_height, width = (size * scale for size in x.raw.shape[:2])
        own = x.raw.shape[2]
        channels = own + (skip.raw.shape[2] if skip is not None else 0)
        halo = 1 if grow else (kernel - stride + 1) // 2
        affordable = _STRIP_BYTES // (4 * width * channels)
        affordable = affordable * 2 if grow else affordable // stride
        count = max(1, -(-(to_row - from_row) // max(2, affordable)))
        step = -(-(to_row - from_row) // (2 * count)) * 2  # even, and strips about alike
        buffer = self._workspace.take(_in_rows(step, stride, grow) + 2 * halo + 2 * scale, width, channels)
        for top in range(from_row, to_row, step):
            bottom = min(top + step, to_row)
            first = (top // 2 if grow else top * stride) - halo
            last = first + _in_rows(bottom - top, stride, grow) + 2 * halo
            # what of that lies in the image, widened to whole source rows
            begin, end = max(first, 0) // scale * scale, min(-(-last // scale) * scale, in_height)
            origin = min(first, begin)
            buffer[: begin - origin].zero_()
            buffer[end - origin : last - origin].zero_()
            inside = buffer[begin - origin : end - origin]
            if doubled:
                low = torch.empty((end - begin) // 2, width // 2, own)
                x.write_rows(begin // 2, end // 2, low)
                inside.view(len(low), 2, width // 2, 2, channels)[..., :own] = low[:, None, :, None, :]
            else:
                x.write_rows(begin, end, inside[..., :own])
            if skip is not None:
                skip.write_rows(begin, end, inside[..., own:])
            yield top, bottom, buffer[None, first - origin : last - origin].permute(0, 3, 1, 2)
        self._workspace.give_back(buffer)

    def _take(self, *shape: int) -> Tensor:
        self._taken.append(self._workspace.take(*shape))
        return self._taken[-1]

    def _give_back(self, buffer: Tensor) -> None:
        for i, taken in enumerate(self._taken):
            if taken is buffer:
                self._workspace.give_back(self._taken.pop(i))
                return


def _in_rows(out_rows: int, stride: int, grow: bool) -> int:
    return out_rows // 2 if grow else out_rows * stride

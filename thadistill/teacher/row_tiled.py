"""Row tiling: THA3's separable networks on a CPU without gradients, two to three times faster than module by module.

The networks are bound by memory, not arithmetic. Here a feature is stored channels-last, before its normalisation; each
block reads it in tiles of rows small enough for the processor's cache, and does everything to a tile at once:
normalise and activate what it reads, double it and join the skip where the network does, depthwise convolution, 1x1
convolution as a matrix product, sums for the next normalisation. The arithmetic is the modules', in another order.
Native kernels (kernels/row_tiled) do all of it but the product, where there is a compiler; else torch's operations. To them
a doubled image is four interleaved ones, each a convolution of 2 by 2 of the image itself, which is neither written nor read
at its double size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from thadistill.kernels.row_tiled.feature import Feature
from thadistill.kernels.row_tiled.op import RowTiledKernels, row_tiled_kernels
from thadistill.teacher.workspace import Threads, Workspace

_TILE_BYTES = 2_000_000  # of a tile's input; 1 to 3 MB measure alike, 6 MB a quarter slower (1 MB of L2 a core)
_NATIVE_BYTES = 1_000_000  # the same for the native kernels
_SOME = 256  # pixels
_LEAST_ROWS = 8  # of a thread's band: each reads two rows of its neighbours' besides

T = TypeVar("T")
_Rows = tuple[int, int, Tensor]  # first and last row, and their pixels [n, channels]


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
    """Mean and variance of each channel over the pixels of all tiles.

    Values are taken relative to the mean of some of the first: squares of raw values would lose the variance of a channel
    whose mean is far from zero.
    """

    def __init__(self, channels: int, kernels: RowTiledKernels | None = None) -> None:
        self._kernels = kernels
        self._count = 0
        self._reference = torch.zeros(channels)
        self._sums = torch.zeros(2, channels, dtype=torch.float64)  # and of squares

    def add(self, values: Float[Tensor, "n c"]) -> None:
        if self._count == 0:
            self._reference = values[:_SOME].mean(dim=0, dtype=torch.float32)
        self._count += len(values)
        if self._kernels is not None:
            self._kernels.add_moments(values, self._reference, self._sums)
            return
        offset = values - self._reference
        self._sums[0] += offset.sum(dim=0)
        self._sums[1] += offset.square_().sum(dim=0)

    @staticmethod
    def affine(parts: Sequence[_Moments], norm: nn.InstanceNorm2d) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
        """The scale and shift that are this normalisation, from the moments of all bands."""
        counts = torch.tensor([[part._count] for part in parts], dtype=torch.float64)
        off, squares = torch.stack([part._sums for part in parts]).div_(counts[:, None]).unbind(1)
        means = torch.stack([part._reference for part in parts]) + off
        share = counts / counts.sum()
        mean = (means * share).sum(dim=0)
        variance = ((squares - off**2 + (means - mean) ** 2) * share).sum(dim=0).clamp_min_(0)
        scale = norm.weight / (variance + norm.eps).sqrt_()
        return scale.float(), (norm.bias - mean * scale).float()


class RowTiledEngine:
    """Runs the blocks of separable networks on one image (``ModuleEngine`` is the plain way).

    With ``threads``, each block's rows are dealt to them in bands, so that they wait for one another once a block.
    ``products``: what the 1x1 convolutions' factors and results are rounded to; they are more than half of the time. The
    native kernels also keep them so: half of the memory to read and write.
    ``weights``: where the weights are kept as they are used, for the images that are run in one call.
    """

    def __init__(
        self,
        workspace: Workspace,
        threads: Threads | None = None,
        products: torch.dtype = torch.float32,
        weights: dict[nn.Module, object] | None = None,
    ) -> None:
        self._products = products
        self._weights = {} if weights is None else weights
        self._workspace = workspace
        self._kernels = row_tiled_kernels()
        self._stored = products if self._kernels is not None else torch.float32
        self._threads = threads
        self._taken: list[Tensor] = []

    def enter(self, *planes: Float[Tensor, "1 _ h w"]) -> Feature:
        """The feature of an image's planes, joined."""
        height, width = planes[0].shape[-2:]
        joined = self._take(height, width, sum(part.shape[1] for part in planes))
        parts = joined.split([part.shape[1] for part in planes], dim=2)

        def copy(top: int, bottom: int) -> None:
            if self._kernels is not None:
                self._kernels.enter(planes, top, bottom, joined)
                return
            for part, plane in zip(parts, planes, strict=True):
                part[top:bottom] = plane[0, :, top:bottom].permute(1, 2, 0)

        self._by_bands(height, copy)
        return Feature(joined)

    def leave(self, x: Feature) -> Float[Tensor, "1 c h w"]:
        """The finished feature as an ordinary tensor."""
        return x.rows(0, len(x.raw)).permute(2, 0, 1)[None].contiguous()

    def block(self, block: nn.Module, x: Feature, *, doubled: bool = False, skip: Feature | None = None) -> Feature:
        """A separable block: of ``x``, or of ``x`` doubled in size (nearest) with the channels of ``skip`` joined."""
        *convolution, norm, activation = block.children()
        return self._convolve(_block_of(convolution, norm, activation), x, doubled, skip)

    def residual(self, block: nn.Module, x: Feature) -> Feature:
        """A resnet block; ``x`` cannot be used afterwards."""
        first, norm, activation, second, last_norm = block.get_submodule("resnet_path").children()
        middle = self._convolve(_block_of(first.children(), norm, activation), x)
        last = self._convolve(_block_of(second.children(), last_norm), middle)

        total = last.raw if last.raw.dtype == torch.float32 else self._take(*last.raw.shape)  # sums are not rounded

        def add(top: int, bottom: int) -> None:
            if self._kernels is not None:
                self._kernels.add(last, x, top, bottom, total)
                return
            last.write_rows(top, bottom, total[top:bottom])
            total[top:bottom].add_(x.rows(top, bottom))

        self._by_bands(len(total), add)
        self._give_back(middle.raw)
        self._give_back(x.raw)
        if total is not last.raw:
            self._give_back(last.raw)
        return Feature(total)

    def heads(
        self, x: Feature, weight: Float[Tensor, "o c 3 3"], bias: Float[Tensor, " o"]
    ) -> Float[Tensor, "1 o h w"]:
        """The output convolutions, back in the ordinary layout."""
        height, width, _ = x.raw.shape
        out = torch.empty(1, len(weight), height, width)
        kernels = self._kernels
        if kernels is not None and kernels.projects and self._products == torch.bfloat16 and len(bias) <= kernels.lanes:
            packed = kernels.pack_heads(weight)
            self._by_bands(height, lambda top, bottom: kernels.heads(x, packed, bias, top, bottom, out))
            return out

        def convolve(top: int, bottom: int) -> None:
            for start, stop, tile in self._tiles(x, top, bottom, kernel=3, stride=1):
                out[:, :, start:stop] = F.conv2d(tile, weight, bias, padding=(0, 1))

        self._by_bands(height, convolve)
        return out

    def close(self) -> None:
        """Ends the use of every feature this engine gave."""
        while self._taken:
            self._give_back(self._taken[-1])

    def _convolve(self, block: _Block, x: Feature, doubled: bool = False, skip: Feature | None = None) -> Feature:
        depthwise = block.depthwise
        grow = isinstance(depthwise, nn.ConvTranspose2d)
        stride = depthwise.stride[0]
        height, width = (size * 2 if doubled or grow else size // stride for size in x.raw.shape[:2])
        weight = self._kept(block.pointwise, lambda: block.pointwise.weight[:, :, 0, 0].t().to(self._products))
        raw = self._take(height, width, weight.shape[1], dtype=self._stored)

        def convolve(top: int, bottom: int) -> _Moments:
            moments = _Moments(weight.shape[1], self._kernels)
            if self._kernels is None or isinstance(depthwise, nn.ConvTranspose2d):
                rows = self._depthwise(depthwise, x, top, bottom, doubled, skip)
            else:
                rows = self._depthwise_natively(self._kernels, depthwise, x, top, bottom, doubled, skip)
            for start, stop, z in rows:
                out = raw[start:stop].view(-1, weight.shape[1])
                if weight.dtype == out.dtype:
                    torch.mm(z.to(weight.dtype), weight, out=out)
                else:
                    out.copy_(torch.mm(z.to(weight.dtype), weight))
                moments.add(out)
            return moments

        moments = self._by_bands(height, convolve)
        return Feature(raw, *_Moments.affine(moments, block.norm), block.slope)

    def _depthwise(
        self,
        depthwise: nn.Conv2d | nn.ConvTranspose2d,
        x: Feature,
        top: int,
        bottom: int,
        doubled: bool,
        skip: Feature | None,
    ) -> Iterator[_Rows]:
        """The depthwise half of a convolution, tile by tile, for output rows ``top:bottom``."""
        kernel, stride = depthwise.kernel_size[0], depthwise.stride[0]
        grow = isinstance(depthwise, nn.ConvTranspose2d)
        for start, stop, tile in self._tiles(x, top, bottom, kernel, stride, grow=grow, doubled=doubled, skip=skip):
            channels = tile.shape[1]
            if grow:  # a row of halo at each end has given two rows of output
                z = F.conv_transpose2d(tile, depthwise.weight, stride=2, padding=1, groups=channels)[:, :, 2:-2]
            else:
                padding = (0, (kernel - stride + 1) // 2)  # the tile brings its own rows of padding
                z = F.conv2d(tile, depthwise.weight, stride=stride, padding=padding, groups=channels)
            yield start, stop, z[0].permute(1, 2, 0).reshape(-1, channels)

    def _depthwise_natively(
        self,
        kernels: RowTiledKernels,
        depthwise: nn.Conv2d,
        x: Feature,
        top: int,
        bottom: int,
        doubled: bool,
        skip: Feature | None,
    ) -> Iterator[_Rows]:
        """The same by the native kernels."""
        kernel, stride = depthwise.kernel_size[0], depthwise.stride[0]
        parts = [(x, doubled), *([] if skip is None else [(skip, False)])]
        edges = [0, *accumulate(part.raw.shape[2] for part, _ in parts)]
        weights = self._kept(
            depthwise,
            lambda: [
                kernels.pack(depthwise.weight[first:last, 0], doubled=grown)
                for (first, last), (_, grown) in zip(pairwise(edges), parts, strict=True)
            ],
        )
        width = x.raw.shape[1] * (2 if doubled else 1) // stride
        halo = (kernel - stride + 1) // 2
        # of a buffer, for a row of the output: the part that has the most
        across = [(part.raw.shape[1] + 2 * halo) * kernels.padded(part.raw.shape[2]) for part, _ in parts]
        deepest = max(size / 2 if grown else size * stride for size, (_, grown) in zip(across, parts, strict=True))
        step = max(2, min(bottom - top, int(_NATIVE_BYTES / (4 * deepest)) // 2 * 2))
        buffer = self._workspace.take(max((step * stride + 2 * halo) * size for size in across))
        z = self._workspace.take(step * width, edges[-1], dtype=self._products)
        for start in range(top, bottom, step):
            stop = min(start + step, bottom)
            rows = z[: (stop - start) * width]
            for (part, grown), taps, (first, last) in zip(parts, weights, pairwise(edges), strict=True):
                kernels.depthwise(part, grown, taps, kernel, stride, start, stop, buffer, rows[:, first:last])
            yield start, stop, rows
        self._workspace.give_back(buffer)
        self._workspace.give_back(z)

    def _by_bands(self, height: int, work: Callable[[int, int], T]) -> list[T]:
        """``work(top, bottom)`` for bands that share out the rows, one a thread; bands are even, as halvings need."""
        if self._threads is None:
            return [work(0, height)]
        count = max(1, min(self._threads.count, height // _LEAST_ROWS))
        edges = [height // 2 * band // count * 2 for band in range(count)] + [height]
        return self._threads.run(work, list(pairwise(edges)))

    def _tiles(
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
        """For tiles of the output's rows ``from_row:to_row``: first and last row, and the input rows that they need.

        The input is finished, doubled and joined, and padded with zero rows at the image's ends.
        """
        scale = 2 if doubled else 1
        in_height, width = (size * scale for size in x.raw.shape[:2])
        own = x.raw.shape[2]
        channels = own + (skip.raw.shape[2] if skip is not None else 0)
        halo = 1 if grow else (kernel - stride + 1) // 2
        affordable = _TILE_BYTES // (4 * width * channels)
        affordable = affordable * 2 if grow else affordable // stride
        count = max(1, -(-(to_row - from_row) // max(2, affordable)))
        step = -(-(to_row - from_row) // (2 * count)) * 2  # even, and tiles about alike
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

    def _kept(self, module: nn.Module, make: Callable[[], T]) -> T:
        """What ``make`` gave the first time in this call, of a module's weights."""
        if module not in self._weights:
            self._weights[module] = make()
        return cast(T, self._weights[module])

    def _take(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        self._taken.append(self._workspace.take(*shape, dtype=dtype))
        return self._taken[-1]

    def _give_back(self, buffer: Tensor) -> None:
        for i, taken in enumerate(self._taken):
            if taken is buffer:
                self._workspace.give_back(self._taken.pop(i))
                return


def _in_rows(out_rows: int, stride: int, grow: bool) -> int:
    return out_rows // 2 if grow else out_rows * stride

"""The row-tiled engine against the modules it replaces, on small random separable networks."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from thadistill.kernels import build
from thadistill.kernels.row_tiled.op import RowTiledKernels, row_tiled_kernels
from thadistill.teacher import row_tiled
from thadistill.teacher.blocks import ResnetBlock, activation, block, head, plane_conv
from thadistill.teacher.engine import BodyNetwork, Engine


class Small(BodyNetwork):
    """Every kind of block once: kernel 7, halving, residual, doubling with a skip, transposed, heads."""

    def __init__(self) -> None:
        super().__init__(separable=True)
        self.first = block(plane_conv(5, 8, 7, separable=True), 8, activation(0.1))
        self.halve = block(plane_conv(8, 12, 4, 2, separable=True), 12, activation(0.0))
        self.residual = ResnetBlock(12, separable=True, slope=0.1)
        self.join = block(plane_conv(12 + 8, 8, 3, separable=True), 8, activation(0.1))
        self.grow = block(plane_conv(8, 6, 4, 2, separable=True, transposed=True), 6, activation(0.0))
        self.color = head(6, "color")
        self.grid = head(6, "grid")
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)
        self.requires_grad_(False)

    def forward(self, image: Tensor, extra: Tensor) -> list[Tensor]:
        return self.run_heads(self.flow, [self.color, self.grid], image, extra)

    def flow(self, engine: Engine, *planes: Tensor) -> object:
        first = engine.block(self.first, engine.enter(*planes))
        low = engine.residual(self.residual, engine.block(self.halve, first))
        return engine.block(self.grow, engine.block(self.join, low, doubled=True, skip=first))


@pytest.fixture
def threads() -> object:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(params=["native", "torch"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RowTiledKernels | None:
    """The native kernels where there is a compiler, and torch's operations in their place."""
    found = row_tiled_kernels()
    if request.param == "native" and found is None:
        pytest.skip("no C++ compiler")
    chosen = found if request.param == "native" else None
    monkeypatch.setattr(row_tiled, "row_tiled_kernels", lambda: chosen)
    return chosen


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("tile_bytes", [1, 3_000, 2_000_000])
@pytest.mark.parametrize("n", [1, 4])
def test_gives_what_the_modules_give(
    n: int,
    tile_bytes: int,
    count: int,
    kernels: RowTiledKernels | None,
    threads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_tiled, "_TILE_BYTES", tile_bytes)
    monkeypatch.setattr(row_tiled, "_NATIVE_BYTES", tile_bytes)
    threads(count)
    torch.manual_seed(0)
    network, image, extra = Small(), torch.randn(n, 3, 24, 20), torch.randn(n, 2, 24, 20)
    exact = copy.deepcopy(network).double()
    expected = exact(image.double(), extra.double())
    assert network._can_tile((image, extra))
    for found, wanted in zip(network(image, extra), expected, strict=True):
        torch.testing.assert_close(found, wanted.float(), atol=2e-5, rtol=1e-4)  # float32 reduction order
    assert torch.get_num_threads() == count


def test_rounds_products_only(kernels: RowTiledKernels | None, threads: Callable[[int], None]) -> None:
    threads(1)
    torch.manual_seed(0)
    network, image, extra = Small(), torch.randn(1, 3, 24, 20), torch.randn(1, 2, 24, 20)
    exact = network(image, extra)
    network.products = torch.bfloat16
    for found, wanted in zip(network(image, extra), exact, strict=True):
        assert found.dtype == torch.float32
        # some eight products deep, each to 2^-9 of its value; 0.005 to 0.008 measured, natively and by torch
        assert 1e-4 < float((found - wanted).norm() / wanted.norm()) < 0.02


def test_keeps_the_variance_of_a_channel_far_from_zero(kernels: RowTiledKernels | None) -> None:
    torch.manual_seed(0)
    values = (torch.randn(4000, 35, dtype=torch.float64) * 1e-2 + 100).float()
    norm = nn.InstanceNorm2d(35, affine=True)
    bands = []
    for band in values.split(2000):
        moments = row_tiled._Moments(35, kernels)
        for tile in band.split(512):
            moments.add(tile)
        bands.append(moments)
    scale, shift = row_tiled._Moments.affine(bands, norm)
    variance, mean = torch.var_mean(values.double(), dim=0, correction=0)
    # the plain sum of squares is off by a third here
    torch.testing.assert_close(scale, (1 / (variance + norm.eps).sqrt()).float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(shift / scale, -mean.float(), rtol=1e-5, atol=0)


def test_modules_run_where_gradients_are_wanted() -> None:
    network, image, extra = Small(), torch.randn(1, 3, 8, 8), torch.randn(1, 2, 8, 8)
    assert network._can_tile((image, extra))
    assert not network._can_tile((image.clone().requires_grad_(), extra))
    network.requires_grad_(True)
    assert not network._can_tile((image, extra))
    color, _ = network(image, extra)
    color.sum().backward()
    assert network.first[0].weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert network._can_tile((image, extra))


def test_buffers_are_used_again_and_results_are_not_buffers(threads: Callable[[int], None]) -> None:
    threads(1)  # more may hold more buffers at a time, as they happen to meet
    network, image, extra = Small(), torch.randn(1, 3, 16, 16), torch.randn(1, 2, 16, 16)
    kept = network(image, extra)
    first = [output.clone() for output in kept]
    held = {size: len(buffers) for size, buffers in network.workspace._free.items()}
    network(-image, extra)
    assert {size: len(buffers) for size, buffers in network.workspace._free.items()} == held
    for output, copied in zip(kept, first, strict=True):
        torch.testing.assert_close(output, copied, rtol=0, atol=0)
    assert copy.deepcopy(network).workspace._free == {}


def test_works_across_inference_and_no_grad_modes() -> None:
    network, image, extra = Small(), torch.randn(2, 3, 16, 16), torch.randn(2, 2, 16, 16)
    with torch.inference_mode():
        inferred = network(image, extra)
    for output, again in zip(inferred, network(image, extra), strict=True):
        assert not again.is_inference()
        torch.testing.assert_close(output, again, rtol=0, atol=1e-6)


def test_runs_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    row_tiled_kernels.cache_clear()
    build._load.cache_clear()
    monkeypatch.setenv("CXX", "false")
    assert row_tiled_kernels() is None
    image, extra = torch.randn(1, 3, 24, 20), torch.randn(1, 2, 24, 20)
    assert Small()(image, extra)[0].isfinite().all()
    row_tiled_kernels.cache_clear()
    build._load.cache_clear()

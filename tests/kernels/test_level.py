"""Levels on patches: the native kernels beside torch's operations, forwards and backwards, and in bfloat16."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from thadistill.kernels.build import NativeUnavailable, load_native
from thadistill.kernels.level import LayerWeights, LevelKernels
from thadistill.kernels.level import op as level
from thadistill.student import BodyRotator, FaceMorpher


def kernels_in(kept: torch.dtype) -> LevelKernels:
    try:
        return LevelKernels(load_native(level._SOURCE), kept)
    except NativeUnavailable as error:
        pytest.skip(str(error))


def bodies(size: int, corner: int, **settings: object) -> tuple[list[Tensor], torch.nn.Module]:
    """Values on three patches of each of two poses."""
    torch.manual_seed(1)
    network = BodyRotator(**settings)  # type: ignore[arg-type]
    corners = torch.tensor([[0, 1], [3, 2], [5, 5], [1, 0], [31, 7], [6, 31]]) * 4 + corner
    return list(network.patches(torch.rand(2, 45) * 2 - 1, corners.clamp(max=512), size)), network


def faces() -> tuple[list[Tensor], torch.nn.Module]:
    torch.manual_seed(1)
    network = FaceMorpher(width=21, depth=3)
    return [network.at(torch.rand(2, 39), torch.rand(2, 37, 2) * 2 - 1)], network


CASES: dict[str, Callable[[], tuple[list[Tensor], torch.nn.Module]]] = {
    "patches of 6, widths no multiple of a vector": lambda: bodies(6, -1, width_scale=0.1),
    "patches of 2 that read the fewest coarse pixels": lambda: bodies(2, -1, width_scale=0.1),
    "patches of 4": lambda: bodies(4, 0, width_scale=0.2),
    "levels of one size": lambda: bodies(4, 0, sizes=(512, 512), widths=(17, 9)),
    "one level": lambda: bodies(5, 0, sizes=(512,), widths=(33,), depth=4),
    "a level of one layer": lambda: bodies(4, 0, widths=(12, 8, 5), depth=1),
    "faces": faces,
}


def outcome(make: Callable[[], tuple[list[Tensor], torch.nn.Module]]) -> tuple[Tensor, list[Tensor]]:
    """The values, and the gradients of something that depends on each of them."""
    values, network = make()
    joined = torch.cat([value.flatten() for value in values])
    (joined * torch.linspace(-1, 1, len(joined))).sin().sum().backward()
    gradients = []
    for parameter in network.parameters():
        assert parameter.grad is not None
        gradients.append(parameter.grad)
    return joined.detach(), gradients


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_native_levels_are_torchs(case: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        monkeypatch.setattr(level, "level_kernels", lambda: None)
        expected, slopes = outcome(CASES[case])
        monkeypatch.setattr(level, "level_kernels", lambda: kernels_in(torch.float32))
        found, native = outcome(CASES[case])
        # sines of phases of some tens: float32 rounds those by 4e-6
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
        for a, b in zip(native, slopes, strict=True):
            assert float((a - b).norm()) <= 1e-4 * float(b.norm()) + 1e-6
        backwards = kernels_in(torch.bfloat16)
        backwards.multiplies = False  # forwards in float32: only gradients may have three digits
        monkeypatch.setattr(level, "level_kernels", lambda: backwards)
        rounded, gradients = outcome(CASES[case])
        torch.testing.assert_close(rounded, found, atol=2e-5, rtol=0)
        for a, b in zip(gradients, slopes, strict=True):
            assert float((a - b).norm()) <= 0.02 * float(b.norm()) + 1e-6
        monkeypatch.setattr(level, "level_kernels", lambda: kernels_in(torch.bfloat16))
        rounded, gradients = outcome(CASES[case])
        # training's values and gradients may have three digits; values alone are exact
        assert float((rounded - found).norm()) <= 0.02 * float(found.norm())
        with torch.no_grad():
            values, _ = CASES[case]()
        torch.testing.assert_close(torch.cat([value.flatten() for value in values]), found, atol=2e-5, rtol=0)
        for a, b in zip(gradients, slopes, strict=True):
            assert float((a - b).norm()) <= 0.04 * float(b.norm()) + 1e-6
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("rows", "given", "channels"), [(1, 1, 1), (67, 45, 45), (130, 90, 7), (257, 33, 180), (9, 360, 360)]
)
def test_products_of_bfloat16_are_summed_in_float32(rows: int, given: int, channels: int, threads: int) -> None:
    kernels = kernels_in(torch.bfloat16)
    if not kernels.multiplies:
        pytest.skip("avx512_bf16 is absent: such products are not made here")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(rows, given, generator=generator).bfloat16()
        matrix, bias = torch.randn(channels, given, generator=generator), torch.randn(channels, generator=generator)
        phase = x.double() @ matrix.bfloat16().double().T
        torch.testing.assert_close(kernels.product(x, matrix), phase.float(), atol=1e-4, rtol=0)
        phase += bias
        found = kernels.layer(x, LayerWeights(matrix, bias), whole=True, copied=True)
        assert found.out is not None
        assert found.seen is not None
        torch.testing.assert_close(found.out, phase.sin().float(), atol=1e-4, rtol=0)
        torch.testing.assert_close(found.seen, found.out.bfloat16(), atol=0, rtol=0)
        torch.testing.assert_close(found.slope.float(), phase.cos().float(), atol=4e-3, rtol=0)
        seen_only = kernels.layer(x, LayerWeights(matrix, bias), whole=False, copied=True)
        assert seen_only.out is None
        assert torch.equal(seen_only.seen, found.seen)
        # and backwards: through the product to the phases before it
        gradient = torch.randn(rows, channels, generator=generator).bfloat16()
        slope = torch.randn(rows, given, generator=generator).bfloat16()
        to_values = gradient.double() @ matrix.bfloat16().double()
        plain, nothing = kernels.back(gradient, matrix, None)
        assert nothing is None
        torch.testing.assert_close(plain.double(), to_values, atol=1e-4, rtol=5e-3)
        to_phases, sums = kernels.back(gradient, matrix, slope)
        assert sums is not None
        torch.testing.assert_close(to_phases.double(), to_values * slope.double(), atol=1e-4, rtol=5e-3)
        torch.testing.assert_close(sums.double(), (to_values * slope.double()).sum(0), atol=1e-3, rtol=1e-5)
    finally:
        torch.set_num_threads(before)


def test_without_a_compiler_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    level.level_kernels.cache_clear()

    def none(source: object) -> None:
        raise NativeUnavailable("no C++ compiler found")

    monkeypatch.setattr(level, "load_native", none)
    assert level.level_kernels() is None
    values, _ = outcome(CASES["faces"])
    assert bool(torch.isfinite(values).all())
    level.level_kernels.cache_clear()


def test_what_is_no_number_stays_so() -> None:
    kernels = kernels_in(torch.float32)
    phase = torch.tensor([[float("nan"), float("inf"), 1.0, 3000.0]])
    kernels.sine(phase, torch.zeros(4), copied=False)
    assert bool(phase[0, :2].isnan().all())
    torch.testing.assert_close(phase[0, 2:].double(), torch.tensor([1.0, 3000.0]).double().sin(), atol=1e-5, rtol=0)

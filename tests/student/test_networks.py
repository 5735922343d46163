"""The student networks: sizes and names of the published files, patches and pixels against whole images."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from thadistill.kernels.level import op as level
from thadistill.kernels.level.reference import sine_linear
from thadistill.student import BodyRotator, FaceMorpher
from thadistill.student.body_rotator import RotatorOutput
from thadistill.student.siren import SineLayer


def small_rotator() -> BodyRotator:
    torch.manual_seed(0)
    return BodyRotator(sizes=(16, 32, 64), widths=(12, 10, 8))


def poses(n: int) -> torch.Tensor:
    return torch.rand(n, 45, generator=torch.Generator().manual_seed(1))


def test_the_papers_sizes() -> None:
    assert sum(p.numel() for p in FaceMorpher().parameters()) == 121_476
    assert sum(p.numel() for p in BodyRotator().parameters()) == 331_567


def test_width_scale_halves_the_widths() -> None:
    half = BodyRotator(width_scale=0.5)
    assert [len(layers[0].linear.weight) for layers in half.siren_layers] == [180, 90, 45]


def test_sizes_that_do_not_double_are_refused() -> None:
    with pytest.raises(ValueError, match="sizes doubling"):
        BodyRotator(sizes=(128, 512), widths=(8, 8))


def test_initial_weights_keep_to_sitzmanns_bounds() -> None:
    first, later = SineLayer(47, 360, first=True), SineLayer(360, 360)
    assert float(first.linear.weight.abs().max()) <= 1 / 47
    assert float(later.linear.weight.abs().max()) <= math.sqrt(6 / 360) / 30
    assert float(later.linear.weight.abs().max()) > 0.99 * math.sqrt(6 / 360) / 30


def test_the_variants_of_table_6_have_the_papers_number_of_parameters() -> None:
    assert sum(p.numel() for p in BodyRotator(sizes=(512, 512, 512)).parameters()) == 331_567
    counts = [sum(p.numel() for p in BodyRotator((512,), (w,), depth=9).parameters()) for w in (199, 200, 201)]
    assert min(counts, key=lambda count: abs(count - 331_567)) == counts[1] == 332_607


SHAPES = {
    "proposed": ((16, 32, 64), (12, 10, 8)),
    "vanilla": ((64,), (12,)),
    "single_resolution": ((64, 64, 64), (12, 10, 8)),
    "mixed": ((32, 32, 64), (12, 10, 8)),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [4, 16, 64])
@torch.no_grad()
def test_patches_equal_the_whole_image(size: int, shape: str) -> None:
    torch.manual_seed(0)
    rotator, pose = BodyRotator(*SHAPES[shape]), poses(4)
    corner = torch.tensor([[0, 0], [64 - size, 64 - size], [0, 64 - size], [(64 - size) // 8 * 4, 0]])
    whole, patch = rotator(pose), rotator.patches(pose, corner, size)
    for name in RotatorOutput._fields:
        for i, (top, left) in enumerate(corner.tolist()):
            expected = getattr(whole, name)[i, :, top : top + size, left : left + size]
            # folding reorders float32 sums before sines of large phases
            torch.testing.assert_close(getattr(patch, name)[i], expected, atol=2e-4, rtol=0)


@pytest.fixture
def exact_gradients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Training in float32 on every processor; tests/kernels/test_level.py has what bfloat16 makes of it."""
    monkeypatch.setattr(level, "multiplies_bfloat16", lambda: False)
    level.level_kernels.cache_clear()
    yield
    level.level_kernels.cache_clear()


@pytest.mark.usefixtures("exact_gradients")
def test_patches_have_the_whole_images_gradient() -> None:
    rotator, pose = small_rotator(), poses(2)
    rotator(pose).color_change.square().mean().backward()
    expected = [p.grad.clone() for p in rotator.parameters() if p.grad is not None]
    rotator.zero_grad()
    rotator.patches(pose, torch.zeros(2, 2, dtype=torch.long), 64).color_change.square().mean().backward()
    found = [p.grad for p in rotator.parameters() if p.grad is not None]
    assert len(found) == len(expected) == len(list(rotator.parameters()))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4 * float(b.abs().max()) + 1e-7, rtol=1e-3)


@pytest.mark.parametrize("size", [2, 5, 6])
@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_patches_of_any_size_anywhere_and_several_of_a_pose(size: int, shape: str) -> None:
    torch.manual_seed(0)
    rotator, pose = BodyRotator(*SHAPES[shape]), poses(2)
    whole = rotator(pose)
    for phase in range(4):
        corner = torch.tensor([[0, 0], [48, 16], [12, 32], [52, 52]]) + phase - 4 * (phase == 3)
        patch = rotator.patches(pose, corner, size)
        for name in RotatorOutput._fields:
            for i, first in enumerate(corner.tolist()):
                y, x = (torch.arange(begin, begin + size).clamp(0, 63) for begin in first)
                expected = getattr(whole, name)[i // 2][:, y[:, None], x]
                torch.testing.assert_close(getattr(patch, name)[i], expected, atol=2e-4, rtol=0)


def test_unlike_patches_are_refused() -> None:
    for corner, count in (([[2, 0]], 1), ([[0, 0], [1, 1]], 1), ([[0, 0]] * 3, 2)):
        with pytest.raises(ValueError, match="alike modulo 4"):
            small_rotator().patches(poses(count), torch.tensor(corner), 16)


def test_the_sine_layers_gradient_is_autograds() -> None:
    x, matrix, bias = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 3), (4, 3), (4,)))
    assert torch.autograd.gradcheck(lambda *given: sine_linear(*given, 3.0), (x, matrix, bias))


@torch.no_grad()
def test_face_pixels_equal_the_whole_crop() -> None:
    torch.manual_seed(0)
    face, pose = FaceMorpher(width=16, depth=3), poses(2)[:, :39]
    index = torch.tensor([[0, 5000, 16383], [127, 128, 9999]])
    position = face.position.flatten(1).T[index]
    whole = face(pose).flatten(2).transpose(1, 2)
    expected = torch.stack([whole[i, index[i]] for i in range(2)])
    torch.testing.assert_close(face.at(pose, position), expected, atol=1e-5, rtol=0)

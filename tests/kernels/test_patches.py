"""The warp of training patches against that of whole images, by the native kernel and by torch's operations."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from thadistill.kernels import build
from thadistill.kernels.patches import cut_patches, op, warp_patches
from thadistill.warp import warp

SIZE = 16
INSET = (10, 5)  # its top left pixel


class Scene(NamedTuple):
    image: Tensor
    insets: Tensor
    change: Tensor  # of the whole images
    corner: Tensor
    cut: Tensor  # of the patches

    def pasted(self, which: list[int]) -> Tensor:
        """The images that the patches are of."""
        pasted = self.image.expand(len(which), -1, -1, -1).clone()
        pasted[:, :, INSET[0] : INSET[0] + 20, INSET[1] : INSET[1] + 24] = self.insets[which].float()
        return pasted

    def patches(self, whole: Tensor) -> Tensor:
        return torch.stack([whole[i, :, y : y + SIZE, x : x + SIZE] for i, (y, x) in enumerate(self.corner.tolist())])


@pytest.fixture
def scene() -> Scene:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(4, 64, 64, generator=generator)
    insets = torch.randn(3, 4, 20, 24, generator=generator).half()
    insets[0, 0, 0, :4] = torch.tensor([0.0, -0.0, 1e-6, -1e-6])  # subnormal halves
    change = torch.randn(3, 2, 64, 64, generator=generator) / 2  # far beyond the image, too
    corner = torch.tensor([[0, 0], [48, 48], [12, 8]])
    scene = Scene(image, insets, change, corner, torch.empty(0))
    return scene._replace(cut=scene.patches(change))


@pytest.fixture(params=["native", "torch"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(op, "patch_kernels", lambda: None)
    elif op.patch_kernels() is None:
        pytest.skip("no C++ compiler")
    return str(request.param)


@pytest.mark.parametrize("which", [[0, 1, 2], [1, 1, 1]])
def test_squares_of_the_whole_image_with_the_inset_pasted(scene: Scene, form: str, which: list[int]) -> None:
    found = warp_patches(scene.image, scene.insets, torch.tensor(which), INSET, scene.cut, scene.corner)
    expected = scene.patches(warp(scene.pasted(which), scene.change))
    # positions reach the sampler by another order of float32 operations
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_slopes_are_those_of_the_whole_image(scene: Scene, form: str) -> None:
    weight = torch.randn(3, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    change = scene.change.clone().requires_grad_()
    (scene.patches(warp(scene.pasted([0, 1, 2]), change)) * weight).sum().backward()
    # a view with strides of its own, as the student's outputs are
    cut = scene.cut.permute(0, 2, 3, 1).contiguous().requires_grad_()
    found = warp_patches(scene.image, scene.insets, torch.arange(3), INSET, cut.permute(0, 3, 1, 2), scene.corner)
    (found * weight).sum().backward()
    assert cut.grad is not None
    assert change.grad is not None
    expected = scene.patches(change.grad)
    # where rounding puts a position on the other side of a pixel's centre, the slope is another
    alike = torch.isclose(cut.grad.permute(0, 3, 1, 2), expected, atol=1e-2, rtol=1e-3)
    assert alike.float().mean() > 0.995


def test_both_forms_agree_beyond_the_edges(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    if op.patch_kernels() is None:
        pytest.skip("no C++ compiler")
    corner = torch.tensor([[-3, 60], [50, -1], [62, 62]])
    found, slopes = [], []
    for native in (True, False):
        if not native:
            monkeypatch.setattr(op, "patch_kernels", lambda: None)
        cut = (scene.cut / 20).requires_grad_()
        found.append(warp_patches(scene.image, scene.insets, torch.arange(3), INSET, cut, corner))
        found[-1].square().sum().backward()
        assert cut.grad is not None
        slopes.append(cut.grad)
    torch.testing.assert_close(*found, atol=1e-4, rtol=0)
    assert torch.isclose(*slopes, atol=1e-2, rtol=1e-3).float().mean() > 0.995


def test_what_is_no_number_stays_so(scene: Scene, form: str) -> None:
    cut = scene.cut.clone()
    cut[1, 0, 3, 4] = float("nan")
    found = warp_patches(scene.image, scene.insets, torch.arange(3), INSET, cut, scene.corner)
    assert found[1, :, 3, 4].isnan().all()
    assert found.isfinite().sum() == found.numel() - 4


def test_cuts_what_slices_cut(form: str) -> None:
    groups = [torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).half() for seed in range(3)]
    index, corner = torch.tensor([5, 0, 2, 2]), torch.tensor([[0, 26], [7, 3], [-1, -1], [27, 27]])
    found = cut_patches(groups, index, corner, 6)
    padded = [F.pad(group.float(), [1, 1, 1, 1], mode="replicate") for group in groups]
    expected = [
        padded[i // 2][i % 2][:, y + 1 : y + 7, x + 1 : x + 7]
        for i, (y, x) in zip(index.tolist(), corner.tolist(), strict=True)
    ]
    assert torch.equal(found, torch.stack(expected))


def test_without_a_compiler(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for cached in (op.patch_kernels, build._load):
        cached.cache_clear()
    monkeypatch.setenv("CXX", "false")
    found = warp_patches(scene.image, scene.insets, torch.arange(3), INSET, scene.cut, scene.corner)
    assert found.isfinite().all()
    for cached in (op.patch_kernels, build._load):
        cached.cache_clear()

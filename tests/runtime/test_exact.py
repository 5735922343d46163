"""Exact runtimes give eager's frames, on random students of odd widths and on the official one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runtime_frames import psnr, random_model

from thadistill.data.poses import sample_poses
from thadistill.images import to_rgba8
from thadistill.outputs import StudentOutput
from thadistill.runtime import compile_model
from thadistill.student import CharacterModel

EXACT = ["folded", "onnx", "native"]


def close(fast: StudentOutput, eager: StudentOutput) -> None:
    for name in ("grid_change", "alpha", "color_change", "face"):
        a, b = getattr(fast, name), getattr(eager, name)
        # float32 rounding of phases of some tens of radians, summed in another order
        torch.testing.assert_close(a, b, atol=5e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
    assert psnr(fast.posed, eager.posed) >= 70
    # the warp multiplies errors by the image's steepness: a few pixels at edges may differ more
    assert float(((fast.posed - eager.posed).abs() > 2e-4).float().mean()) < 2e-3


@pytest.mark.parametrize("runtime", EXACT)
@pytest.mark.parametrize("widths", [(22, 15, 10), (36, 9), (8,), (17, 12, 9, 5)])
def test_random_students(runtime: str, widths: tuple[int, ...]) -> None:
    model = random_model(widths, face_width=9 + len(widths))
    poses = sample_poses(2, seed=3)
    options = {"visible": False} if runtime == "native" else {}
    with torch.no_grad():
        eager = model(poses)
    assert float(eager.grid_change.abs().max()) > 0.01  # the frames do move and
    assert float(eager.alpha.abs().max()) > 0.01  # are painted
    close(compile_model(model, runtime, **options)(poses), eager)


@pytest.mark.parametrize("runtime", EXACT)
def test_official(official: CharacterModel, official_frame: tuple[torch.Tensor, StudentOutput], runtime: str) -> None:
    pose, eager = official_frame
    options = {"visible": False} if runtime == "native" else {}
    close(compile_model(official, runtime, **options)(pose), eager)


@pytest.mark.parametrize("runtime", ["eager", *EXACT])
def test_pixels(model: CharacterModel, runtime: str) -> None:
    poses = sample_poses(1, seed=5)
    options = {"visible": False} if runtime == "native" else {}
    fast = compile_model(model, runtime, **options)
    rgba = fast.rgba8(poses)
    assert rgba.shape == (512, 512, 4)
    assert rgba.dtype == np.uint8
    expected = to_rgba8(fast(poses).posed[0])
    # one level: the table rounds the linear value to 16 bits first
    assert np.abs(rgba.astype(int) - expected).max() <= 1
    assert (rgba != expected).mean() < 0.02
    np.testing.assert_array_equal(fast.bgra8(poses[0]), rgba[..., [2, 1, 0, 3]])


@pytest.mark.parametrize("runtime", ["eager", *EXACT])
def test_crop(model: CharacterModel, runtime: str) -> None:
    poses = sample_poses(1, seed=6)
    options = {"visible": False} if runtime == "native" else {}
    crop = (101, 222, 33, 400)
    whole = compile_model(model, runtime, **options).rgba8(poses)
    part = compile_model(model, runtime, crop=crop, **options).rgba8(poses)
    assert part.shape == (121, 367, 4)
    assert np.abs(part.astype(int) - whole[101:222, 33:400]).max() <= 1  # a product's order may round otherwise

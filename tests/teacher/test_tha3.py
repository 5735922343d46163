"""THA3 against the outputs of the authors' own networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from thadistill import assets
from thadistill.data.poses import PoseSequence, sample_poses
from thadistill.errors import UserError
from thadistill.images import FACE_REGION, load_character
from thadistill.metrics.flow import grid_change_epe_px
from thadistill.metrics.image import psnr
from thadistill.outputs import VISIBLE
from thadistill.pose import POSE_PARAMETERS
from thadistill.teacher import Teacher, chain, load_teacher
from thadistill.warp import blend, resize, warp

from .golden import differences, load_golden, over_tolerance


def test_real_weights_give_the_published_outputs(tha3: Teacher, lambda_00: Tensor, reference: Path) -> None:
    pose, golden = load_golden(reference / "golden" / "tha3_separable_float_lambda_00.npz")
    assert len(golden) == 29
    found = differences(tha3.stages(lambda_00, pose), golden)
    # float32 reduction order, amplified where a warp crosses an edge
    assert over_tolerance(found, image=2e-3, grid_change=1e-4) == {}


def test_standard_networks_give_the_published_outputs(
    tha3_standard_files: Path, lambda_00: Tensor, reference: Path
) -> None:
    pose, golden = load_golden(reference / "golden" / "tha3_standard_filled_weights.npz")
    assert len(golden) == 29
    teacher = load_teacher("tha3", variant="standard_float", weights=tha3_standard_files)
    found = differences(teacher.stages(lambda_00, pose), golden)
    # the authors' own float32 differs from their float64 by 2e-3 on these images
    assert over_tolerance(found, image=5e-3, grid_change=1e-4) == {}


def test_modules_and_strips_agree_with_the_published_outputs(
    tha3: Teacher, lambda_00: Tensor, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pose, golden = load_golden(reference / "golden" / "tha3_separable_float_lambda_00.npz")
    for network in tha3.children():
        monkeypatch.setattr(network, "row_tiled", False)
    tha3._layers.clear()
    found = differences(tha3.stages(lambda_00, pose[:1]), {name: output[:1] for name, output in golden.items()})
    tha3._layers.clear()
    assert over_tolerance(found, image=2e-3, grid_change=1e-4) == {}


def test_rounded_targets_are_near_the_exact_ones(
    tha3: Teacher, lambda_00: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pose = sample_poses(1, seed=7)
    exact, name = tha3(lambda_00, pose), tha3.fingerprint()
    monkeypatch.setattr(chain, "multiplies_bfloat16", lambda: True)  # torch does it anywhere, if slowly
    with tha3.low_precision():
        near = tha3(lambda_00, pose)
        assert tha3.fingerprint() != name  # a cache never mixes the two
    assert tha3.fingerprint() == name
    assert torch.equal(tha3(lambda_00, pose).posed, exact.posed)
    assert not torch.equal(near.posed, exact.posed)
    # a student comes to 38 dB and 0.3 pixels; measured 58 dB, 0.03 pixels
    assert float(psnr(near.posed, exact.posed).min()) > 50
    seen = exact.posed[:, 3:] > VISIBLE
    assert float(grid_change_epe_px(near.grid_change, exact.grid_change, seen).max()) < 0.1
    monkeypatch.setattr(chain, "multiplies_bfloat16", lambda: False)
    with tha3.low_precision():
        assert tha3.fingerprint() == name
        assert torch.equal(tha3(lambda_00, pose).posed, exact.posed)


def test_forward_names_the_stages(tha3: Teacher, lambda_00: Tensor) -> None:
    pose = torch.rand(2, 45, generator=torch.Generator().manual_seed(0))
    out, stages = tha3(lambda_00, pose), tha3.stages(lambda_00, pose)
    assert (tha3.name, tha3.alpha_channels) == ("tha3/separable_float", 4)
    for field, stage in (
        ("posed", "posed"),
        ("warped", "editor_warped"),
        ("grid_change", "editor_grid_change"),
        ("color_change", "editor_color_change"),
        ("alpha", "editor_alpha"),
        ("face_morphed", "face_morphed_full"),
    ):
        torch.testing.assert_close(getattr(out, field), stages[stage], rtol=0, atol=1e-5)
    torch.testing.assert_close(out.posed, blend(out.alpha, out.color_change, out.warped), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.warped, warp(out.face_morphed, out.grid_change), rtol=0, atol=1e-5)
    torch.testing.assert_close(tha3.face_morphed(lambda_00, pose), out.face_morphed, rtol=0, atol=1e-5)
    torch.testing.assert_close(FACE_REGION.crop(out.face_morphed), stages["face_output"], rtol=0, atol=1e-5)
    # only the face region may change
    outside = FACE_REGION.paste(lambda_00, FACE_REGION.crop(out.face_morphed))
    torch.testing.assert_close(outside, out.face_morphed, rtol=0, atol=0)


def test_one_image_for_all_poses_or_one_for_each(tha3: Teacher, lambda_00: Tensor) -> None:
    pose = torch.rand(2, 45, generator=torch.Generator().manual_seed(1))
    other = load_character(assets.sample_character("crypko_00"))[None]
    both = tha3.face_morphed(torch.cat([lambda_00, other]), pose)
    alone = [tha3.face_morphed(lambda_00, pose[:1]), tha3.face_morphed(other, pose[1:])]
    torch.testing.assert_close(both, torch.cat(alone), rtol=0, atol=1e-4)  # float32 reduction order
    with pytest.raises(UserError, match="2 images came with 3 poses"):
        tha3(torch.cat([lambda_00, other]), torch.zeros(3, 45))


def test_the_decomposer_runs_once_an_image(tha3: Teacher, lambda_00: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(tha3.eyebrow_decomposer, "forward", _counted(tha3.eyebrow_decomposer.forward, calls))
    pose = torch.zeros(1, 45)
    image = lambda_00.clone()
    first = tha3.face_morphed(image, pose)
    tha3.face_morphed(image, pose)
    assert len(calls) == 1
    image[:, :, 64:192] = -1  # in place: the same tensor, another image
    assert not torch.equal(tha3.face_morphed(image, pose), first)
    assert len(calls) == 2


def test_the_face_stages_run_once_for_poses_that_share_a_face(
    tha3: Teacher, lambda_00: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    poses = PoseSequence(seed=1, poses_per_face=2).first(3)
    apart = [tha3(lambda_00, pose[None]) for pose in poses]
    seen: list[int] = []
    forward = tha3.face_morpher.forward

    def counted(region: Tensor, pose: Tensor) -> object:
        seen.append(len(pose))
        return forward(region, pose)

    monkeypatch.setattr(tha3.face_morpher, "forward", counted)
    together = tha3(lambda_00, poses)
    assert seen == [2]
    for name in ("face_morphed", "posed", "grid_change"):
        expected = torch.cat([getattr(out, name) for out in apart])
        torch.testing.assert_close(
            getattr(together, name), expected, atol=5e-4, rtol=0
        )  # warps amplify float32 order; 1.5e-4 on AVX2


def test_gradients_reach_the_pose_and_the_weights(lambda_00: Tensor) -> None:
    teacher = load_teacher("tha3")
    pose = torch.full((1, 45), 0.3, requires_grad=True)
    teacher.editor.requires_grad_(True)
    out = teacher(lambda_00, pose)
    (out.posed.square().mean() + out.face_morphed.square().mean()).backward()
    assert pose.grad is not None
    assert pose.grad.isfinite().all()
    for part in (slice(0, 12), slice(12, 39), slice(39, 45)):
        assert pose.grad[0, part].abs().max() > 0
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in teacher.editor.parameters())


@pytest.mark.parametrize("how", ["dtype", "autocast"])
def test_half_precision_keeps_images_and_positions_in_float32(tha3: Teacher, lambda_00: Tensor, how: str) -> None:
    """Of the body's two networks the rotator: the editor has the same code and four times the pixels."""
    pose, half = torch.zeros(1, 45), resize(lambda_00, 256, 256)

    def outputs(teacher: Teacher) -> list[Tensor]:
        rotated = teacher.two_algo_face_body_rotator(half, pose[:, POSE_PARAMETERS.rotation])
        return [teacher.face_morphed(lambda_00, pose), *rotated]

    for found, wanted in zip(outputs(load_teacher("tha3", **{how: "bfloat16"})), outputs(tha3), strict=True):
        assert found.dtype == torch.float32
        # bfloat16 has 8 bits: a mean error of a few of its steps, not of a displaced picture
        assert 0 < (found - wanted).abs().mean() < 0.02


def _counted(function: Callable[..., object], calls: list[int]) -> Callable[..., object]:
    def wrapper(*arguments: object) -> object:
        calls.append(1)
        return function(*arguments)

    return wrapper

"""The visible region, reuse, fall-backs and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thadistill.data.poses import sample_poses
from thadistill.errors import UserError
from thadistill.kernels import build
from thadistill.runtime import compile_model, resolve
from thadistill.runtime.region import covered, dilate, read_by_doubling, segments_of, tiles_of
from thadistill.runtime.student_kernels import load_student
from thadistill.runtime.visible import measure_visible
from thadistill.student import CharacterModel


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    build._load.cache_clear()
    monkeypatch.setenv("CXX", "/nonexistent/compiler")
    yield
    build._load.cache_clear()


def blob() -> np.ndarray:
    y, x = np.mgrid[:512, :512]
    mask = (x - 200) ** 2 + (y - 300) ** 2 < 90**2
    mask[500:, 490:] = True  # the image's corner, where upsampling clamps
    mask[0, 0] = True
    return mask


@pytest.mark.parametrize("runtime", ["folded", "native"])
def test_visible_region_is_exact_inside_and_transparent_outside(model: CharacterModel, runtime: str) -> None:
    poses = sample_poses(2, seed=1)
    mask = blob()
    with torch.no_grad():
        eager = model(poses)
    fast = compile_model(model, runtime, visible=mask)
    out, inside = fast(poses), torch.from_numpy(mask)
    for name in ("grid_change", "alpha", "color_change"):
        torch.testing.assert_close(
            getattr(out, name)[..., inside], getattr(eager, name)[..., inside], atol=2e-4, rtol=0
        )
    computed = torch.from_numpy(fast.engine.computed) if runtime == "native" else inside
    assert bool((inside <= computed).all())
    assert bool((out.posed[..., ~computed] == -1).all())
    assert bool((out.grid_change[..., ~computed] == 0).all())
    rgba = fast.rgba8(poses[0])
    assert not rgba[~computed.numpy()].any()
    assert rgba[mask].any()


def test_measured_region_holds_everything_painted(model: CharacterModel) -> None:
    """A stand-in for a student: a rectangle that moves with head_x must lie in the region wherever it was seen."""

    def posed(pose: np.ndarray) -> np.ndarray:
        image = np.full((4, 512, 512), -1, np.float32)
        left = int(200 + 50 * pose[39])
        image[:, 100:140, left : left + 10] = 0.5
        image[3, 400, 400] = -1 + 1e-4  # below the tolerance: does not count
        return image

    poses = sample_poses(30, seed=2)
    region = measure_visible(posed, [(poses, 2e-4)])
    for pose in poses.numpy():
        assert region[(posed(pose)[3] > -0.9)].all()
    assert not region[400, 400]
    assert region.mean() < 0.05


@pytest.mark.slow
def test_official_region(official: CharacterModel) -> None:
    fast = compile_model(official, "native")
    assert 0.35 < fast.visible.mean() < 0.6  # 34 % of the pixels are ever visible; tiles and border add to it
    again = compile_model(official, "native")
    np.testing.assert_array_equal(again.visible, fast.visible)  # read back from the cache
    poses = sample_poses(4, seed=77)
    whole = compile_model(official, "native", visible=False)(poses).posed
    missed = (whole[..., ~torch.from_numpy(fast.visible)] + 1).abs().max()
    assert float(missed) < 2 / 255  # under one 8-bit level of alpha in unseen poses


def test_segments_cover_and_levels_chain() -> None:
    mask = blob()
    segments = segments_of(mask, 16, 3)
    assert len(segments) % 3 == 0
    assert not (segments[:, 1] % 2).any()
    done = covered(segments, 16, 512)
    assert (mask <= done).all()
    below = read_by_doubling(done)
    y, x = 300, 201  # odd column: reads its own half and the next
    assert done[y, x]
    assert below[149:151, 100:102].all()
    assert (below <= read_by_doubling(np.ones((512, 512), bool))).all()


def test_tiles_and_dilation() -> None:
    mask = np.zeros((16, 16), bool)
    mask[5, 6] = True
    assert dilate(mask, 1).sum() == 9
    region = tiles_of(mask, tile=4, border=1)
    assert region[0:12, 0:12].all()
    assert region.sum() == 144


def test_reuse(model: CharacterModel) -> None:
    fast = compile_model(model, "native", visible=False)
    poses = sample_poses(2, seed=9)
    first = fast(poses[:1])
    assert fast(poses[:1].clone()).posed is first.posed
    assert fast(poses[1:]).posed is not first.posed
    frame = fast.rgba8(poses[0])
    frame[:] = 7  # a caller draws into its frame
    assert (fast.rgba8(poses[0]) != frame).any()
    turned = poses[:1].clone()
    turned[0, 39] += 0.5  # the same face, another rotation
    with torch.no_grad():
        eager = model(turned)
    torch.testing.assert_close(fast(turned).alpha, eager.alpha, atol=2e-4, rtol=0)
    torch.testing.assert_close(fast(turned).face, eager.face, atol=2e-4, rtol=0)
    fresh = compile_model(model, "native", visible=False, reuse=False)
    np.testing.assert_array_equal(fresh.rgba8(turned), fast.rgba8(turned))


def test_without_compiler(model: CharacterModel, no_compiler: None) -> None:
    assert resolve("exact") == "folded"
    assert resolve("reduced") == "folded"
    poses = sample_poses(1, seed=9)
    fast = compile_model(model, "exact", visible=True)
    assert fast.name == "folded"
    with torch.no_grad():
        torch.testing.assert_close(fast(poses).alpha, model(poses).alpha, atol=2e-4, rtol=0)
    with pytest.raises(UserError, match="cannot be built here"):
        compile_model(model, "native")


def test_broken_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    build._load.cache_clear()
    monkeypatch.setenv("CXX", "false")
    assert resolve("exact") == "folded"
    with pytest.raises(build.NativeUnavailable, match="failed"):
        load_student()
    build._load.cache_clear()


def test_refusals(model: CharacterModel) -> None:
    with pytest.raises(UserError, match="expected one of exact, reduced, eager"):
        compile_model(model, "fastest")
    with pytest.raises(UserError, match="crop"):
        compile_model(model, "folded", crop=(10, 10, 0, 512))
    with pytest.raises(UserError, match="unexpected keyword argument 'speed'"):
        compile_model(model, "folded", speed=3)
    with pytest.raises(UserError, match="2 poses"):
        compile_model(model, "folded").rgba8(sample_poses(2, seed=1))

"""Integer runtimes stay near the exact one, and the arithmetic beneath them is what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from integer_reference import stage_output
from runtime_frames import psnr

from thadistill.data.poses import sample_poses
from thadistill.errors import UserError
from thadistill.kernels.build import cpu_flags
from thadistill.runtime import compile_model
from thadistill.runtime.compiled_student import build_engine
from thadistill.runtime.packing import formats_of, pack_body, pack_face, pack_layer, quantise
from thadistill.runtime.student_kernels import NativeEngine
from thadistill.student import CharacterModel

WITHOUT_PRODUCTS = "neither avx2 nor avx512_vnni: integer products do not run here"
V3 = "-march=x86-64-v3"  # AVX2 and FMA, and no more


@pytest.fixture(scope="module", autouse=True)
def products() -> None:
    if not NativeEngine.has_integer_products():
        pytest.skip(WITHOUT_PRODUCTS)


@pytest.fixture(params=["this processor", V3])
def flags(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kernels of this processor, then those of x86-64-v3, which most processors have."""
    if request.param == V3:
        if "avx2" not in cpu_flags():
            pytest.skip("avx2 is absent: x86-64-v3 does not run here")
        monkeypatch.setenv("THADISTILL_NATIVE_FLAGS", V3)
    return request.param


def test_official(official: CharacterModel, flags: str) -> None:
    poses = sample_poses(3, seed=21)
    whole = np.ones((512, 512), bool)
    exact = compile_model(official, "native", visible=whole)(poses)
    reduced = compile_model(official, "int16", visible=whole, still_face=False)(poses)
    assert psnr(reduced.posed, exact.posed) >= 65
    moved = (reduced.grid_change - exact.grid_change).abs().max() * 256
    assert float(moved) < 0.5  # pixels; the largest of 1.5 million values


def test_still_face(official: CharacterModel) -> None:
    poses = sample_poses(4, seed=23)
    whole = np.ones((512, 512), bool)
    exact = compile_model(official, "native", visible=whole)(poses)
    moving = compile_model(official, "int16", visible=whole, still_face=False)
    still = compile_model(official, "int16", visible=whole)
    assert still.engine.segments["face"] < 0.85 * moving.engine.segments["face"]
    reduced = still(poses)
    assert psnr(reduced.posed, exact.posed) >= 50
    assert psnr(reduced.face, exact.face) >= 60
    # In poses it was not made from, single pixels move further than the two levels it allows itself in the others.
    assert float((reduced.face - exact.face).abs().max()) < 0.1


def test_random_student(model: CharacterModel, flags: str) -> None:
    poses = sample_poses(2, seed=22)
    exact = compile_model(model, "native", visible=False)(poses)
    assert psnr(compile_model(model, "int16", visible=False)(poses).posed, exact.posed) >= 55


def test_kernels_sum_the_integers_of_the_reference(model: CharacterModel, flags: str) -> None:
    """They differ in activations rounded the other way only, which is little compared with the rounding itself."""
    largest, integers = NativeEngine.largest_block(), formats_of(model, "int16")
    pose = sample_poses(1, seed=24)[0].numpy()
    whole = np.ones((512, 512), bool)
    found, exact = {}, {}
    for kept, formats in ((found, integers), (exact, formats_of(model, "float32"))):
        engine = build_engine(model, formats, whole, threads=2)
        engine.paint_face(pose)
        kept |= {"face": engine.face.copy(), "alpha": np.empty((1, 512, 512), np.float32)}
        kept |= {"grid_change": np.empty((2, 512, 512), np.float32)}
        engine.run(pose, {name: kept[name] for name in ("alpha", "grid_change")})
    expected = {"face": stage_output(pack_face(model.face_morpher, integers.face, largest), pose)[:4]}
    channels = None
    for stage in pack_body(model.body_rotator, integers.body, largest):
        channels = stage_output(stage, pose, channels)
    expected |= {"grid_change": channels[:2], "alpha": channels[2:3]}
    for name, plane in expected.items():
        rounding = np.sqrt(np.square(exact[name] - plane).mean())
        assert rounding > 1e-6
        assert np.sqrt(np.square(found[name] - plane).mean()) < 0.25 * rounding, name


def test_quantise_closed_form() -> None:
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(7, 40)) * 0.5
    sines = np.sin(generator.normal(size=(40, 100)) * 5)
    integers, scale = quantise(matrix)
    sums = integers @ np.rint(sines * 4095).astype(np.int64)
    assert (np.abs(integers).sum(axis=1) * 4095).max() < 2**31  # whatever the activations
    assert 0 < np.abs(sums * scale[:, None] - matrix @ sines).max() < 0.003


def test_words_hold_consecutive_channels() -> None:
    matrix = np.arange(1, 6 * 7 + 1, dtype=float).reshape(6, 7)
    layer = pack_layer(matrix, np.zeros(6), "i16", "linear", 1, 9)
    assert (layer.rows, layer.blocks, layer.tail, layer.in_words) == (8, 1, False, 4)
    held = layer.weights.view(np.int16).reshape(layer.in_words, layer.rows, 2)
    back = held.transpose(1, 0, 2).reshape(8, 8)[:6, :7] * (layer.scale[:6, None] * 4095)
    np.testing.assert_allclose(back, matrix, atol=np.abs(matrix).max() / 10_000)
    assert not held.transpose(1, 0, 2).reshape(8, 8)[6:].any()


def test_sums_of_the_largest_products_stay_in_range() -> None:
    """All weights of one sign, all activations at their limit: the worst that any student can give."""
    matrix = np.full((4, 360), 0.3)
    layer = pack_layer(matrix, np.zeros(4), "i16", "linear", 1, 4)
    words = layer.weights.view(np.int16)
    assert words.min() > -(2**15)  # no two products of -32768 by -32768, which alone leave a pair's 32 bits
    assert int(words.reshape(layer.in_words, layer.rows, 2).astype(np.int64).sum((0, 2)).max()) * 4095 < 2**31


def test_refused_off_avx2(model: CharacterModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THADISTILL_NATIVE_FLAGS", "-march=x86-64-v2")
    with pytest.raises(UserError, match="int16 products need"):
        compile_model(model, "int16", visible=False)
    fast = compile_model(model, "reduced", visible=False)
    assert fast.name == "native"
    poses = sample_poses(1, seed=23)
    with torch.no_grad():
        assert psnr(fast(poses).posed, model(poses).posed) >= 70

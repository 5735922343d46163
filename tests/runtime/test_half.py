"""The half-precision runtime: its kernels against float32 and its plain form, whole frames, refusals, CUDA graphs.

Triton's kernels run on a GPU, or in Triton's interpreter, which has to be chosen before Triton is imported: without a
GPU, test_interpreter runs the tests of kernels in a process of its own.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_frames import psnr, random_model

from thadistill.data.poses import sample_poses
from thadistill.errors import UserError
from thadistill.images import STUDENT_FACE_REGION, to_rgba8
from thadistill.outputs import StudentOutput
from thadistill.runtime import compile_model, half_level, resolve, visible
from thadistill.runtime.folded import build_stages
from thadistill.runtime.half import Half
from thadistill.runtime.half_level import HalfLevel, channel_blocks, pack_level, tile_order
from thadistill.runtime.region import read_by_doubling
from thadistill.student import CharacterModel

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
PIXELS_A_UNIT = 256  # grid changes: 2 spans 512 pixels


@pytest.fixture
def device() -> str:
    """Where kernels run in this process."""
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    if INTERPRETED:
        return "cpu"
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device; test_interpreter runs this in Triton's interpreter")
    return "cuda"


def corners() -> np.ndarray:
    """All four borders of the image, where the upsampling clamps, a middle and a lone pixel: 200 or so in all."""
    mask = np.zeros((512, 512), bool)
    mask[:5, :6] = mask[-4:, -7:] = mask[:3, -3:] = mask[-3:, :4] = True
    mask[250:259, 301:312] = True
    mask[100, 511] = True
    return mask


def levels_of(model: CharacterModel, mask: np.ndarray) -> tuple[list, list[HalfLevel], list[np.ndarray]]:
    """The body's folded stages, packed, and their masks."""
    with torch.no_grad():
        _, stages = build_stages(model, mask)
        masks = [mask]
        for _ in stages[1:]:
            masks.insert(0, read_by_doubling(masks[0]))
        return stages, [pack_level(stage, part) for stage, part in zip(stages, masks, strict=True)], masks


def check_levels(model: CharacterModel, device: str, run_level) -> None:
    """Every level of a student, given the plane below in float32, against the folded stage in float32."""
    stages, levels, masks = levels_of(model.to(device), corners())
    pose = sample_poses(1, seed=2).to(device)
    exact_below = plane = None
    for i, (stage, level, mask) in enumerate(zip(stages, levels, masks, strict=True)):
        with torch.no_grad():
            exact = stage(pose, exact_below)
        last = i == len(levels) - 1
        out = torch.full((level.size**2, level.channels + 1 if last else level.widths[-1]), 9.0, device=device)
        run_level(level, torch.addmv(level.bias, level.by_pose, pose[0]), plane, out)
        pixels = torch.from_numpy(np.flatnonzero(mask)).to(device)
        scale = 1 if last else math.pi  # planes between levels are in half-turns
        # a product of 30 or so float16 operands, each rounded by 2^-12 at most of its value
        torch.testing.assert_close(out[pixels, : level.channels] * scale, exact, atol=4e-3, rtol=0)
        assert float(exact.abs().max()) > 0.1
        others = np.setdiff1d(np.arange(level.size**2), np.flatnonzero(mask))
        assert bool((out[torch.from_numpy(others).to(device)] == 9).all())  # nothing is written elsewhere
        assert not last or bool((out[:, level.channels :] == 9).all())
        plane = torch.zeros(level.size**2, level.widths[-1], device=device)
        if not last:
            plane[pixels, : level.channels] = exact / math.pi
        exact_below = exact


def check_frames(model: CharacterModel, device: str, kernels: bool) -> None:
    """A student whole: the frame near exact float32, transparent elsewhere, pixels as the planes say."""
    mask = corners()
    mask[180:190, 200:240] = True  # of the face
    poses = sample_poses(2, seed=3).to(device)
    model = model.to(device)
    fast = Half(model, visible=mask, kernels=kernels)
    with torch.no_grad():
        exact = model(poses)
    out, inside = fast(poses), torch.from_numpy(mask)
    assert psnr(out.posed[..., inside], exact.posed[..., inside]) >= 45
    assert psnr(out.warped[..., inside], exact.warped[..., inside]) >= 45
    assert psnr(out.face, exact.face) >= 45
    moved = (out.grid_change - exact.grid_change).abs()[..., inside].max() * PIXELS_A_UNIT
    assert 0 < float(moved) < 0.25  # pixels
    assert float(exact.grid_change.abs().max()) > 0.01
    assert bool((out.posed[..., ~inside] == -1).all())
    assert bool((out.grid_change[..., ~inside] == 0).all())
    for i in (1, 0):
        rgba = fast.rgba8(poses[i])
        expected = to_rgba8(out.posed[i])
        assert np.abs(rgba.astype(int) - expected).max() <= 1  # the table rounds the linear value to 16 bits first
        assert rgba[mask].any()
        np.testing.assert_array_equal(fast.bgra8(poses[i]), rgba[..., [2, 1, 0, 3]])
    turned = poses[:1].clone()
    turned[0, 39] += 0.5  # the same face, another rotation
    fresh = Half(model, visible=mask, kernels=kernels, reuse=False, crop=(170, 260, 190, 320))
    part = fresh.rgba8(turned)
    assert part.shape == (90, 130, 4)
    np.testing.assert_array_equal(part, fast.rgba8(turned)[170:260, 190:320])


@pytest.mark.parametrize("widths", [(22, 15, 10), (50, 33), (140, 20)])
def test_kernel_levels(device: str, widths: tuple[int, ...]) -> None:
    from thadistill.runtime import triton_level

    model = random_model(widths)
    check_levels(model, device, triton_level.run_level)
    _, levels, _ = levels_of(model, corners())
    # rounding of a float32 sum in another order can turn a float16 activation by a unit in the last place
    level = levels[0]
    shift = torch.addmv(level.bias, level.by_pose, sample_poses(1, seed=4).to(device)[0])
    outs = [torch.zeros(level.size**2, level.widths[-1], device=device) for _ in range(2)]
    triton_level.run_level(level, shift, None, outs[0])
    half_level.run_level(level, shift, None, outs[1])
    torch.testing.assert_close(outs[0], outs[1], atol=1e-3, rtol=0)


@pytest.mark.parametrize("widths", [(22, 15, 10), (140, 20)])
def test_kernel_a_layer(device: str, widths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from thadistill.runtime import triton_level

    monkeypatch.setattr(triton_level, "_ACTIVATION_BYTES", 0)  # as if no activations fitted a program
    check_levels(random_model(widths), device, triton_level.run_level)


def test_kernel_sine(device: str) -> None:
    from sine_kernel import sines

    phase = torch.linspace(-70, 70, 4096, device=device)
    out = torch.empty_like(phase)
    sines[(1,)](phase, out, N=4096)
    exact = torch.sin(math.pi * phase.double()).float()
    torch.testing.assert_close(out, exact, atol=1e-6, rtol=0)  # the polynomial's 7e-7 and float32's rounding


def test_kernel_frames(device: str) -> None:
    check_frames(random_model(), device, kernels=True)


class Compiler:
    """Stands for a kernel, and compiles it for an H200 as it would be launched."""

    def __init__(self, kernel) -> None:
        self.kernel, self.compiled = kernel, []

    def __getitem__(self, grid: tuple[int, ...]) -> Compiler:
        return self

    def __call__(self, *tensors: torch.Tensor, num_warps: int = 4, enable_fp_fusion: bool, **constants: object) -> None:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        kinds = {torch.int32: "*i32", torch.float32: "*fp32", torch.float16: "*fp16", torch.uint8: "*u8"}
        names = self.kernel.arg_names
        source = ASTSource(
            fn=self.kernel,
            signature={
                **{name: kinds[tensor.dtype] for name, tensor in zip(names, tensors, strict=False)},
                **dict.fromkeys(constants, "constexpr"),
            },
            constexprs={(names.index(name),): value for name, value in constants.items()},
            attrs={(i,): [["tt.divisibility", 16]] for i in range(len(tensors))},
        )
        options = {"num_warps": num_warps, "enable_fp_fusion": enable_fp_fusion}
        self.compiled.append(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options))


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
def test_compiles_for_an_h200(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the interpreter does not see: that Triton's compiler takes the kernels; it needs no GPU for that."""
    pytest.importorskip("triton")
    from thadistill.runtime import triton_level, triton_paint

    compilers = {name: Compiler(getattr(triton_level, name)) for name in ("_level", "_first", "_layer")}
    for name, compiler in compilers.items():
        monkeypatch.setattr(triton_level, name, compiler)
    compilers["_paint"] = Compiler(triton_paint._paint)
    monkeypatch.setattr(triton_paint, "_paint", compilers["_paint"])
    _, levels, _ = levels_of(random_model((40, 20)), corners())
    shift, planes = torch.zeros(64), [torch.zeros(level.size**2, level.widths[-1]) for level in levels]
    triton_level.run_level(levels[0], shift, None, planes[0])
    triton_level.run_level(levels[1], shift, planes[0], planes[1])
    monkeypatch.setattr(triton_level, "_ACTIVATION_BYTES", 0)
    triton_level.run_level(levels[1], shift, planes[0], planes[1])
    rgba, table = torch.zeros(512 * 512, 4, dtype=torch.uint8), torch.zeros(65536, dtype=torch.uint8)
    pixels = levels[1].pixels
    triton_paint.paint(planes[1], torch.zeros(512 * 512, 4), pixels, pixels, rgba, table, True)
    assert [len(compiler.compiled) for compiler in compilers.values()] == [2, 1, 2, 1]
    for name, compiler in compilers.items():
        for made in compiler.compiled:
            assert made.metadata.shared <= 227 * 1024
            assert ("wgmma" in made.asm["ptx"]) == (name in ("_level", "_layer"))  # tensor cores


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.skipif(torch.cuda.is_available() or INTERPRETED, reason="the tests of kernels run in this process")
def test_interpreter() -> None:
    """The tests of kernels above, in Triton's interpreter."""
    command = [sys.executable, "-m", "pytest", str(Path(__file__)), "-k", "kernel", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted is not None, done.stdout
    assert int(counted[1]) == 7
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("widths", [(22, 15, 10), (50, 33), (8,)])
def test_plain_levels(widths: tuple[int, ...]) -> None:
    check_levels(random_model(widths), "cpu", half_level.run_level)


def test_plain_frames() -> None:
    check_frames(random_model(), "cpu", kernels=False)


@pytest.mark.slow
def test_plain_official(official: CharacterModel, official_frame: tuple[torch.Tensor, StudentOutput]) -> None:
    pose, exact = official_frame
    out = Half(official, visible=False, kernels=False)(pose)
    assert psnr(out.posed, exact.posed) >= 45
    assert float((out.grid_change - exact.grid_change).abs().max()) * PIXELS_A_UNIT < 1  # pixels


def test_visible_tiles_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    with torch.no_grad():  # neither moves nor paints: the frame is the character, a disc
        model.body_rotator.last_linear.weight.zero_()
        model.body_rotator.last_linear.bias.zero_()
        model.face_morpher.siren.last_linear.weight.zero_()
    monkeypatch.setattr(visible, "sampled_poses", lambda: sample_poses(1, seed=6))
    monkeypatch.setattr(visible, "corner_poses", lambda: sample_poses(1, seed=7))
    fast = Half(model, kernels=False)
    disc = (model.image[3] > -1).numpy()
    assert (disc <= fast.visible).all()
    assert fast.visible.mean() < disc.mean() + 0.05  # tiles and their border
    shown = fast.rgba8(sample_poses(1, seed=8))[..., 3] > 0
    top, bottom, left, right = STUDENT_FACE_REGION  # a corner of it lies outside the disc
    shown[top:bottom, left:right] = disc[top:bottom, left:right]
    np.testing.assert_array_equal(shown, disc)


def test_nothing_may_be_visible(model: CharacterModel) -> None:
    empty = Half(model, visible=np.zeros((512, 512), bool), kernels=False)
    assert not empty.rgba8(sample_poses(1, seed=5)).any()


def test_blocks() -> None:
    assert [channel_blocks(width) for width in (360, 180, 90, 128)] == [(3, 128), (3, 64), (3, 32), (1, 128)]
    assert [channel_blocks(width) for width in (1, 7, 16, 17, 1000)] == [(1, 16), (1, 16), (1, 16), (1, 32), (8, 128)]
    mask = corners()
    order = tile_order(mask)
    np.testing.assert_array_equal(np.sort(order), np.flatnonzero(mask))


def test_refusals(model: CharacterModel) -> None:
    with pytest.raises(UserError, match="runtime half got a model on cpu; expected cuda"):
        compile_model(model, "half")
    if not INTERPRETED and find_spec("triton") is not None:
        with pytest.raises(UserError, match="TRITON_INTERPRET"):
            compile_model(model, "half", kernels=True)
    assert compile_model(model, "half", kernels=False, visible=False).name == "half"
    assert resolve("reduced", "cuda") == "half"
    assert resolve("exact", "cuda") == "folded"
    assert resolve("reduced", "mps") == "folded"


@needs_cuda
@pytest.mark.parametrize("kernels", [True, False])
def test_cuda_frames(kernels: bool) -> None:
    check_frames(random_model(), "cuda", kernels)


@needs_cuda
def test_cuda_official(official: CharacterModel) -> None:
    model = official.to("cuda")
    try:
        fast = compile_model(model, "reduced", threads=1)
        assert fast.name == "half"
        assert 0.35 < fast.visible.mean() < 0.6
        poses = sample_poses(4, seed=21)
        whole = compile_model(model, "half", visible=False)
        with torch.no_grad():
            exact = model(poses.cuda())
        out = whole(poses)
        assert psnr(out.posed, exact.posed) >= 45
        assert float((out.grid_change - exact.grid_change).abs().max()) * PIXELS_A_UNIT < 1
        for pose in poses:
            assert np.abs(fast.rgba8(pose).astype(int) - whole.rgba8(pose))[fast.visible].max() <= 1
    finally:
        official.to("cpu")

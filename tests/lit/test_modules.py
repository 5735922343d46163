"""The LightningModules: what they compare, what they keep fixed, that they learn."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch

from thadistill import lit
from thadistill.callbacks import Budget
from thadistill.data.datamodule import DistillDataModule, WholeBodies, WholeFaces
from thadistill.data.error_map import WAIT, ErrorMap
from thadistill.data.poses import PoseSequence
from thadistill.data.sampling import BodyPatches, FacePixels, body_batch
from thadistill.data.target_builder import build_targets, open_cache
from thadistill.data.target_cache import SHARD, Targets
from thadistill.errors import UserError
from thadistill.kernels.patches import op as patches
from thadistill.lit import BodyRotatorModule, FaceMorpherModule
from thadistill.lit.body_rotator import FACIAL_COLUMNS, ROTATION_COLUMNS, first_layers
from thadistill.lit.optim import Muon
from thadistill.lit.schedule import PhaseWeights, WarmupCosine
from thadistill.pose import POSE_PARAMETERS
from thadistill.student import BodyRotator, FaceMorpher
from thadistill.teacher import load_teacher
from thadistill.warp import warp


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Targets | torch.Tensor]:
    teacher, poses = load_teacher("puppet", seed=0), PoseSequence(seed=3)
    image = teacher.character()  # type: ignore[operator]
    made: dict[str, Targets | torch.Tensor] = {"image": image}
    for kind in ("posed", "face"):
        cache = open_cache(kind, teacher, image, poses, tmp_path_factory.mktemp("targets") / kind)
        build_targets(cache, teacher, image, poses, SHARD)
        made[kind] = cache.open()
    return made


def body_module(targets: dict, **options: object) -> BodyRotatorModule:  # type: ignore[type-arg]
    torch.manual_seed(0)
    return BodyRotatorModule(
        BodyRotator(width_scale=0.1),
        partial(Muon, lr=1e-3, adam_lr=3e-3),
        WarmupCosine(),
        PhaseWeights([], [[1.0, 1.0, 60.0, 1.0]]),
        targets["image"],
        **options,  # type: ignore[arg-type]
    )


def trainer(steps: int, folder: Path) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0, limit_val_batches=0,
        callbacks=[Budget(count=steps * 8, progress_by="poses")],
    )  # fmt: skip


def test_the_teachers_own_outputs_cost_nothing(targets: dict) -> None:  # type: ignore[type-arg]
    """Squares warped by the teacher's grid change are its warped image, the face's edge included."""
    module, posed = body_module(targets), targets["posed"]
    index, corner = torch.tensor([2, 7]), torch.tensor([[0, 160], [96, 192], [200, 128], [448, 448]])
    batch = body_batch(posed, index, corner, 64)
    teacher = load_teacher("puppet", seed=0)
    out = teacher(targets["image"][None], posed.pose[index])
    found = module._warp(batch, batch.grid_change)
    for i, (top, left) in enumerate(corner.tolist()):
        expected = warp(out.face_morphed[i // 2][None], posed.get("grid_change", int(index[i // 2]))[None])[0]
        # the cached face is float16
        torch.testing.assert_close(found[i], expected[:, top : top + 64, left : left + 64], atol=2e-3, rtol=0)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_native_loss_is_torchs(targets: dict, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[type-arg]
    if patches.patch_kernels() is None:
        pytest.skip("no C++ compiler")
    posed, corner = (
        targets["posed"],
        torch.tensor([[-1, 163], [95, 191], [199, 127], [507, 507], [159, 255], [251, 63]]),
    )
    batch, before = body_batch(posed, torch.tensor([2, 7]), corner, 6), torch.get_num_threads()
    outcomes = []
    torch.set_num_threads(threads)
    try:
        for native in (True, False):
            if not native:
                monkeypatch.setattr(lit.body_rotator, "match_patches", lambda *given: None)
            module = body_module(targets, error_map=ErrorMap())
            module.weights = PhaseWeights([], [[10.0, 2.0, 20.0, 0.5]])
            channels = (torch.randn(6, 36, 7, generator=torch.Generator().manual_seed(1)) * 0.3).requires_grad_()
            matched = module._match(channels, batch, module.weights(0.0))
            (3 * matched.loss).backward()
            assert channels.grad is not None
            losses = module.losses(batch)
            outcomes.append((matched, channels.grad, losses, module.error_map.smoothed()))
    finally:
        torch.set_num_threads(before)
    (found, gradients, losses, errors), (expected, others, same, map_of_torch) = outcomes
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(errors, map_of_torch, atol=1e-6, rtol=1e-5)
    for name, value in losses.items():
        torch.testing.assert_close(value, same[name], atol=1e-6, rtol=1e-4)
    # where rounding puts a position on the other side of a pixel's centre, or an error beyond zero, the gradient is another
    assert torch.isclose(gradients, others, atol=1e-5, rtol=1e-3).float().mean() > 0.995


def test_facial_inputs_stay_silent_and_the_student_has_the_published_names(targets: dict, tmp_path: Path) -> None:  # type: ignore[type-arg]
    module = body_module(
        targets, facial_lr_scale=0.0, zero_facial_init=True, grid_lr_scale=0.05, near_identity_init=True
    )
    data = DistillDataModule(partial(BodyPatches, targets["posed"], batch_size=8, size=16))
    trainer(3, tmp_path).fit(module, data)
    for layers in module.network.siren_layers:
        assert float(layers[0].linear.weight[:, FACIAL_COLUMNS].abs().max()) == 0  # type: ignore[index]
    pose = torch.rand(1, 45)
    before = module.network(pose)
    student = module.student()
    assert list(student.state_dict()) == list(BodyRotator(width_scale=0.1).state_dict())
    other = pose.clone()
    other[:, POSE_PARAMETERS.facial] = 0
    for a, b, c in zip(before, student(pose), student(other), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(b, c)


def test_facial_inputs_are_learned_slowly_by_the_first_level(targets: dict, tmp_path: Path) -> None:  # type: ignore[type-arg]
    sizes = {}
    for rate in (0.05, 0.5):
        torch.manual_seed(0)
        module = body_module(targets, facial_lr_scale=rate, zero_facial_init=True)
        data = DistillDataModule(partial(BodyPatches, targets["posed"], batch_size=8, size=16))
        trainer(3, tmp_path).fit(module, data)
        student = module.student()
        first, *finer = (layers[0].linear.weight[:, FACIAL_COLUMNS].abs() for layers in student.siren_layers)  # type: ignore[index]
        assert all(float(weight.max()) == 0 for weight in finer)
        sizes[rate] = float(first.max())
        assert list(student.state_dict()) == list(BodyRotator(width_scale=0.1).state_dict())
    assert sizes[0.05] > 0
    assert 5 < sizes[0.5] / sizes[0.05] < 15  # steps of Adam, times the rate
    with pytest.raises(UserError, match=r"facial_lr_scale=-1\.0; expected a number from 0 to 1"):
        body_module(targets, facial_lr_scale=-1.0)


def test_facial_weights_that_an_init_brought_stay(targets: dict, tmp_path: Path) -> None:  # type: ignore[type-arg]
    module = body_module(targets, facial_lr_scale=0.03)
    before = [linear.weight[:, FACIAL_COLUMNS].detach().clone() for linear in first_layers(module.network)]
    assert all(float(weight.abs().min()) > 0 for weight in before)
    trainer(3, tmp_path).fit(module, DistillDataModule(partial(BodyPatches, targets["posed"], batch_size=8, size=16)))
    coarse, *finer = (linear.weight[:, FACIAL_COLUMNS] for linear in first_layers(module.student()))
    assert 0 < float((coarse - before[0]).abs().max()) < 3 * 3e-3 * 0.03 * 2  # steps of Adam, times the scale
    assert all(torch.equal(now, old) for now, old in zip(finer, before[1:], strict=True))


def test_a_learning_rate_scale_is_that_of_the_steps_whatever_the_optimiser(targets: dict, tmp_path: Path) -> None:  # type: ignore[type-arg]
    moved = {}
    for scale in (1.0, 0.25):
        module = body_module(targets, grid_lr_scale=scale)
        module.optimizer = partial(torch.optim.SGD, lr=1e-2)  # type: ignore[assignment]
        before = module.network.last_linear.weight.detach().clone()
        stream = partial(BodyPatches, targets["posed"], batch_size=8, size=16)
        trainer(1, tmp_path).fit(module, DistillDataModule(stream))
        moved[scale] = module.network.last_linear.weight.detach() - before
    torch.testing.assert_close(moved[0.25][:2], 0.25 * moved[1.0][:2], atol=1e-7, rtol=1e-2)  # of weights near 0.1
    torch.testing.assert_close(moved[0.25][2:], moved[1.0][2:])


def test_rotations_are_learned_slowly_by_all_levels(targets: dict, tmp_path: Path) -> None:  # type: ignore[type-arg]
    moved = {}
    for rate in (1.0, 0.05):
        torch.manual_seed(0)
        module = body_module(targets, rotation_lr_scale=rate)
        before = [layers[0].linear.weight.detach().clone() for layers in module.network.siren_layers]  # type: ignore[index]
        data = DistillDataModule(partial(BodyPatches, targets["posed"], batch_size=8, size=16))
        trainer(3, tmp_path).fit(module, data)
        student = module.student()
        changes = [layers[0].linear.weight - old for layers, old in zip(student.siren_layers, before, strict=True)]  # type: ignore[index]
        moved[rate] = [float(change[:, ROTATION_COLUMNS].abs().max()) for change in changes]
        assert all(float(change[:, :2].abs().max()) > 0 for change in changes)
    assert all(0 < slow < 0.1 * full for full, slow in zip(*moved.values(), strict=True))
    with pytest.raises(UserError, match=r"rotation_lr_scale=0\.0; expected a number above 0, to 1"):
        body_module(targets, rotation_lr_scale=0.0)


def test_a_position_gain_changes_the_first_weights_on_the_position_only(targets: dict) -> None:  # type: ignore[type-arg]
    plain = body_module(targets).network.state_dict()
    stronger = body_module(targets, position_gain=20.0).network.state_dict()
    changed = [name for name in plain if not torch.equal(plain[name], stronger[name])]
    assert changed == ["siren_layers.0.0.linear.weight"]
    torch.testing.assert_close(stronger[changed[0]][:, :2], 20 * plain[changed[0]][:, :2])
    assert torch.equal(stronger[changed[0]][:, 2:], plain[changed[0]][:, 2:])


@pytest.mark.parametrize("rotator", [True, False])
def test_modules_learn(targets: dict, tmp_path: Path, rotator: bool) -> None:  # type: ignore[type-arg]
    if rotator:
        module = body_module(targets, facial_lr_scale=0.0, grid_lr_scale=0.05)
        data = DistillDataModule(
            partial(BodyPatches, targets["posed"], batch_size=8, patches=8, size=6, overhang=1),
            WholeBodies(targets["posed"], 1),
        )
    else:
        torch.manual_seed(0)
        module = FaceMorpherModule(FaceMorpher(width=32, depth=4), partial(Muon, lr=1e-3, adam_lr=3e-3), WarmupCosine())  # type: ignore[assignment]
        crop = torch.ones(1, 128, 128)
        data = DistillDataModule(
            partial(FacePixels, targets["face"], crop, batch_size=8, pixels=256), WholeFaces(targets["face"], crop, 2)
        )
    judge = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    before = judge.validate(module, data, verbose=False)[0]["val/psnr"]
    trainer(20 if rotator else 100, tmp_path).fit(module, data)
    after = judge.validate(module, data, verbose=False)[0]["val/psnr"]
    assert module.progress == 1.0
    assert after > before + 1


def test_the_same_seed_gives_the_same_weights(targets: dict, tmp_path: Path) -> None:  # type: ignore[type-arg]
    weights = []
    for _ in range(2):
        error_map = ErrorMap()
        module = body_module(targets, error_map=error_map)
        stream = partial(BodyPatches, targets["posed"], batch_size=8, size=16, error_share=0.5, error_map=error_map)
        trainer(WAIT + 5, tmp_path).fit(module, DistillDataModule(stream, seed=5))
        weights.append(torch.cat([p.detach().flatten() for p in module.network.parameters()]))
    assert torch.equal(*weights)

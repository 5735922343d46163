"""Callbacks that watch the student against its teacher: names, files, and which state is kept."""

from __future__ import annotations

import copy
import csv
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger
from PIL import Image

from thadistill.callbacks import BestCheckpoint, Budget, Comparison, FrameRate, StudentVsTeacher
from thadistill.callbacks.comparison import Quality
from thadistill.callbacks.student_vs_teacher import error_by_parameter
from thadistill.data.datamodule import DistillDataModule, WholeBodies
from thadistill.data.poses import PoseSequence
from thadistill.data.sampling import BodyPatches
from thadistill.data.target_builder import build_targets, open_cache
from thadistill.data.target_cache import SHARD, Targets
from thadistill.errors import UserError
from thadistill.images import STUDENT_FACE_REGION
from thadistill.lit import BodyRotatorModule, FaceMorpherModule
from thadistill.lit.optim import Muon
from thadistill.lit.schedule import PhaseWeights, WarmupCosine
from thadistill.metrics.image import face_psnr, psnr
from thadistill.pose import FACIAL_SIZE, POSE_PARAMETERS
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher
from thadistill.teacher import load_teacher

pytestmark = pytest.mark.usefixtures("one_thread")
POSES = 16  # as many as tables by parameter need


class Recorder(Logger):
    """Stands for any second logger: what Weights & Biases would be sent."""

    name = "recorder"
    version = 0

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, float] = {}

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to keep."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.seen |= metrics


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    teacher, poses = load_teacher("puppet", seed=0), PoseSequence(seed=3)
    image = teacher.character()  # type: ignore[operator]
    made: dict[str, Targets] = {}
    for kind in ("posed", "face"):
        cache = open_cache(kind, teacher, image, poses, tmp_path_factory.mktemp("targets") / kind)  # type: ignore[arg-type]
        build_targets(cache, teacher, image, poses, SHARD)
        made[kind] = cache.open()
    mask = teacher.face_mask()  # type: ignore[operator]
    torch.manual_seed(1)
    face = FaceMorpher(width=16, depth=2)
    return SimpleNamespace(teacher=teacher, image=image, mask=mask, face=face, **{f"{k}s": v for k, v in made.items()})


def body_module(world: SimpleNamespace) -> BodyRotatorModule:
    torch.manual_seed(0)
    return BodyRotatorModule(
        BodyRotator(width_scale=0.05), partial(Muon, lr=1e-3, adam_lr=3e-3), WarmupCosine(),
        PhaseWeights([], [[1.0, 1.0, 60.0, 1.0]]), world.image, grid_lr_scale=0.05,
    )  # fmt: skip


def train(
    world: SimpleNamespace, folder: Path, callbacks: list[L.Callback], loggers: list[Logger]
) -> BodyRotatorModule:
    module = body_module(world)
    stream = partial(BodyPatches, world.poseds, batch_size=8, patches=2, size=8)
    data = DistillDataModule(stream, WholeBodies(world.poseds, 1))
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=-1, logger=loggers, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0, val_check_interval=6,
        log_every_n_steps=1, callbacks=[Budget(count=12 * 16, progress_by="poses"), *callbacks],
    )  # fmt: skip
    trainer.fit(module, data)
    return module


def comparison(world: SimpleNamespace) -> Comparison:
    return Comparison(world.image, world.poseds, world.mask, world.face, world.teacher)


def test_every_logger_gets_the_same_names(world: SimpleNamespace, tmp_path: Path) -> None:
    recorder, here = Recorder(), comparison(world)
    watching = [StudentVsTeacher(here, tmp_path, POSES, worst=2), FrameRate(here, runtime="folded")]
    train(world, tmp_path, watching, [CSVLogger(tmp_path, name="", version=""), recorder])
    with (tmp_path / "metrics.csv").open() as file:
        columns = {name for name in next(csv.reader(file)) if name.startswith(("quality/", "speed/"))}
    assert columns == {name for name in recorder.seen if name.startswith(("quality/", "speed/"))}
    expected = {"psnr", "psnr_display", "ssim", "face_psnr", "eye_mouth_psnr", "flow_epe_px"}
    assert {name.removeprefix("quality/") for name in columns if name.startswith("quality/")} == expected
    assert {"speed/student_ms", "speed/student_fps", "speed/teacher_ms"} <= columns
    assert recorder.seen["speed/student_fps"] == pytest.approx(1000 / recorder.seen["speed/student_ms"], rel=0.01)
    folder = tmp_path / "quality"
    assert len(list(folder.glob("worst-*.png"))) == 2
    with (folder / "poses.csv").open() as file:
        assert len(list(csv.DictReader(file))) == POSES
    with (folder / "pose_parameters.csv").open() as file:
        named = [row["parameter"] for row in csv.DictReader(file)]
    assert set(named) <= set(POSE_PARAMETERS)
    assert len(named) > 30
    with Image.open(folder / "pose_parameters.png") as picture:
        assert picture.height > 300


def test_figures_are_those_of_the_character_model(world: SimpleNamespace) -> None:
    module = body_module(world)
    quality = comparison(world).quality(module, 0, POSES)
    model = CharacterModel(world.image, world.face, copy.deepcopy(module.network)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        out = model(world.poseds.pose[:POSES])
    posed = torch.stack([world.poseds.get("posed", i) for i in range(POSES)])
    assert quality.figures["psnr"] == pytest.approx(float(psnr(out.posed, posed).mean()), abs=1e-3)
    assert quality.worst(1) == [int(psnr(out.posed, posed).argmin())]


def test_without_a_face_morpher_the_teachers_face_is_not_counted_as_the_students(world: SimpleNamespace) -> None:
    figures = Comparison(world.image, world.poseds, world.mask).quality(body_module(world), 0, 2).figures
    assert set(figures) == {"psnr_teacher_face", "psnr_display_teacher_face", "ssim_teacher_face", "flow_epe_px"}


def test_a_face_morpher_alone_is_judged_on_its_crop(world: SimpleNamespace) -> None:
    module = FaceMorpherModule(world.face, partial(Muon, lr=1e-3, adam_lr=1e-3), WarmupCosine())
    quality = Comparison(world.image, world.faces, world.mask).quality(module, 0, 2)
    with torch.no_grad():
        faces = world.face(world.faces.pose[:2, :FACIAL_SIZE])
    whole = STUDENT_FACE_REGION.paste(world.image, torch.stack([world.faces.get("face", i) for i in range(2)]))
    assert quality.figures["face_psnr"] == pytest.approx(float(face_psnr(faces, whole).mean()), abs=1e-3)
    assert set(quality.figures) == {"face_psnr", "eye_mouth_psnr"}


def test_error_by_parameter_finds_the_parameter_at_fault() -> None:
    generator = torch.Generator().manual_seed(0)
    poses = torch.rand(40, 45, generator=generator) * 2 - 1
    poses[:, 3] = 0  # never used
    guilty = POSE_PARAMETERS.index("head_y")
    rows = [{"index": i, "psnr": 30 - 5 * abs(float(pose[guilty]))} for i, pose in enumerate(poses)]
    table = error_by_parameter(Quality({}, rows, poses, "psnr", []))
    assert len(table) == 44
    worst = max(table, key=lambda row: row["correlation"])
    assert worst["parameter"] == "head_y"
    assert worst["correlation"] == pytest.approx(1, abs=1e-3)
    assert worst["psnr_low"] - worst["psnr_high"] == pytest.approx(2.5, abs=0.6)


class Given(Comparison):
    """A comparison whose checks have the results of a list, by turns."""

    checks: list[tuple[float, float]]

    def quality(self, module: Any, step: int, poses: int, perceptual: Any = ()) -> Any:
        return SimpleNamespace(figures={"psnr": self.checks[0][0]})

    def frame_rate(self, module: Any, step: int, runtime: str) -> Any:
        return {"student_fps": self.checks[0][1]}


def check_all(world: SimpleNamespace, folder: Path, floor: float, checks: list[tuple[float, float]]) -> Any:
    here = Given(world.image, world.poseds, face_morpher=world.face)
    here.checks = list(checks)
    best = BestCheckpoint(folder, here, fps_floor=float(floor))
    module = body_module(world)
    weight = module.network.last_linear.bias
    trainer = Mock(spec=L.Trainer, is_global_zero=True, sanity_checking=False, strategy=Mock())
    for number in range(len(checks)):
        with torch.no_grad():
            weight.fill_(number)  # the state's mark
        trainer.global_step = number
        here.checks = checks[number:]
        last = number == len(checks) - 1
        (best.on_train_end if last else best.on_validation_end)(trainer, module)
    return best.best, float(weight[0].detach())


def test_the_best_state_that_is_fast_enough_is_kept_and_restored(world: SimpleNamespace, tmp_path: Path) -> None:
    checks = [(20.0, 50.0), (30.0, 10.0), (25.0, 40.0), (24.0, 60.0)]
    best, mark = check_all(world, tmp_path, 0, checks)
    assert (best["step"], best["fps"], mark) == (1, None, 1)
    best, mark = check_all(world, tmp_path, 30, checks)
    assert (best["step"], best["fps"], mark) == (2, 40.0, 2)
    content = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert (content["value"], content["figure"]) == (25.0, "psnr")
    (tmp_path / "best.ckpt").unlink()
    with pytest.raises(UserError, match=r"fps_floor=100 frames a second \(the fastest: 50\.0\)"):
        check_all(world, tmp_path, 100, checks[:1])

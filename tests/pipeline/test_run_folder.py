"""The folder of a run: what it holds, and how it goes on after an interruption, a divergence, or with another run in it."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import lightning as L
import pytest
import torch
from filelock import FileLock
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from thadistill.callbacks.budget import Budget
from thadistill.config import conf_dir
from thadistill.errors import UserError
from thadistill.lit.base import StudentModule
from thadistill.pipeline.distill import train_one

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS, BATCH = 40, 32
TOY = (
    *("teacher=puppet", "character=puppet", "trainer=cpu", "module=body_rotator", "budget_minutes=30"),
    *("student.body_rotator.width_scale=0.05", "recipe.targets.posed=16", "validation.poses=1", "validation.checks=1"),
    *("recipe.body_rotator.progress_by=patches", f"recipe.body_rotator.patches={STEPS * BATCH}"),
    *(
        "recipe.body_rotator.stream.batch_size=4",
        "recipe.body_rotator.stream.patches=8",
        "trainer.log_every_n_steps=10",
    ),
    "callbacks=none",
)


def composed(out: Path, targets: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return compose("train", overrides=[*TOY, f"targets={targets}", f"out={out}", *overrides])


def train(out: Path, targets: Path, *overrides: str) -> None:
    train_one(composed(out, targets, *overrides), out, time.monotonic())


def weights(out: Path) -> torch.Tensor:
    state = torch.load(out / "final.ckpt", weights_only=True)["state_dict"]
    return torch.cat([value.flatten() for value in state.values()])


@pytest.fixture(scope="module")
def targets(toy_targets: Path) -> Path:
    return toy_targets / "by_name"


@pytest.fixture(scope="module")
def plain(targets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run without callbacks."""
    out = tmp_path_factory.mktemp("plain") / "run"
    train(out, targets)
    return out


def test_it_holds_its_configuration_versions_and_what_loggers_were_reported(plain: Path) -> None:
    config = OmegaConf.load(plain / "config.yaml")
    assert config.recipe.body_rotator.patches == STEPS * BATCH  # type: ignore[union-attr]
    assert "${" in (plain / "config_composed.yaml").read_text()
    about = json.loads((plain / "run.json").read_text())["about"]
    assert {"torch", "lightning", "python", "thadistill"} <= set(about["versions"])
    assert "commit" in about
    assert OmegaConf.load(plain / "hparams.yaml").recipe.name == "fast"  # type: ignore[union-attr]
    assert "train/lr_0" in (plain / "metrics.csv").read_text()


class Zeroes(L.Callback):
    """Leaves another state than the last, as BestCheckpoint may."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for parameter in pl_module.parameters():
            parameter.data.zero_()


def test_the_final_checkpoint_has_what_callbacks_left(targets: Path, tmp_path: Path) -> None:
    """The background worker's face morpher and the tables' rows are read from it."""
    train(tmp_path / "run", targets, f"++callbacks.end._target_={Zeroes.__module__}.Zeroes")
    state = torch.load(tmp_path / "run" / "final.ckpt", weights_only=True)["state_dict"]
    trained = {name: value for name, value in state.items() if name.startswith("network.")}
    assert trained
    assert not any(value.any() for value in trained.values())


def test_observing_does_not_change_the_training(plain: Path, targets: Path, tmp_path: Path) -> None:
    rates = "+callbacks.rates={_target_: lightning.pytorch.callbacks.LearningRateMonitor}"
    train(tmp_path / "run", targets, "callbacks=default", "callbacks.frame_rate.runtime=folded", rates)
    assert torch.equal(weights(plain), weights(tmp_path / "run"))
    text = (tmp_path / "run" / "metrics.csv").read_text()
    assert all(
        name in text for name in ("quality/psnr_teacher_face", "speed/student_ms", "speed/teacher_ms", "lr-Muon")
    )


def test_a_second_run_in_the_folder_is_refused(targets: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".run.lock"), pytest.raises(UserError, match="another run at work in it"):
        train(tmp_path / "run", targets)


def test_a_continued_run_continues_its_metrics(
    plain: Path, targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Budget, trainer: object, *rest: object) -> None:
        if trainer.global_step == 25:  # type: ignore[attr-defined]
            trainer.save_checkpoint(tmp_path / "run" / "last.ckpt")  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        follow(self, trainer, *rest)  # type: ignore[arg-type]

    follow = Budget.on_train_batch_start
    with monkeypatch.context() as patch:
        patch.setattr(Budget, "on_train_batch_start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", targets)
    train(tmp_path / "run", targets)

    def logged(out: Path) -> list[int]:
        with (out / "metrics.csv").open(newline="") as file:
            return sorted({int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]})

    assert logged(tmp_path / "run")[:2] == logged(plain)[:2] == [9, 19]  # before the interruption
    assert max(logged(tmp_path / "run")) >= 39


def test_a_training_that_diverged_says_so_and_can_be_asked_for_again(
    plain: Path, targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(self: StudentModule, batch: object, batch_idx: int) -> torch.Tensor:
        return step(self, batch, batch_idx) * (float("nan") if self.trainer.global_step > 5 else 1.0)

    step = StudentModule.training_step
    with monkeypatch.context() as patch:
        patch.setattr(StudentModule, "training_step", spoilt)
        with pytest.raises(SystemExit, match="thadistill: the training diverged: its loss is nan at step 10"):
            train(tmp_path / "run", targets)
    assert not (tmp_path / "run" / "final.ckpt").is_file()
    train(tmp_path / "run", targets)
    assert torch.equal(weights(plain), weights(tmp_path / "run"))


def test_one_batch_goes_through_all(targets: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", targets, "trainer.fast_dev_run=true")
    assert (tmp_path / "run" / "final.ckpt").is_file()


def test_a_given_check_interval_decides(targets: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", targets, "trainer.val_check_interval=15", "validation.checks=9")
    assert {path.stem for path in (tmp_path / "run" / "grids").glob("*.png")} == {
        "0000015",
        "0000030",
        "0000040",
    }  # and the end
    with pytest.raises(UserError, match=r"trainer.val_check_interval=0.5; expected a whole number"):
        train(tmp_path / "other", targets, "trainer.val_check_interval=0.5")

"""Sameness: what is the same bit for bit when it is made again, and what only a clock decides."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from tests.students import toy_student
from thadistill.callbacks import Budget, budget
from thadistill.data.poses import sample_poses
from thadistill.drive.video import open_video
from thadistill.export.character_file import pack_character
from thadistill.metrics.evaluate import evaluate, live_targets
from thadistill.teacher import load_teacher


class Counter(L.LightningModule):
    """Trains nothing much, a step a batch."""

    progress = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        return self.layer(batch[0]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def steps_at(speed: float, folder: Path, monkeypatch: pytest.MonkeyPatch, **limits: object) -> int:
    """Steps of a training on a machine of so many steps a second."""
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, callbacks=[Budget(**limits)],  # type: ignore[arg-type]
    )  # fmt: skip
    clock = SimpleNamespace(monotonic=lambda: trainer.global_step / speed)
    monkeypatch.setattr(budget, "time", clock)
    trainer.fit(Counter(), DataLoader([[torch.zeros(1)]] * 1000))
    return trainer.global_step


def test_minutes_give_as_many_steps_as_the_machine_makes_and_a_count_gives_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = partial(steps_at, folder=tmp_path, monkeypatch=monkeypatch)
    assert (steps(10.0, minutes=0.1), steps(20.0, minutes=0.1)) == (60, 120)
    counted = {"count": 40, "progress_by": "poses"}
    assert steps(10.0, **counted) == steps(20.0, **counted) == 40


def test_an_evaluation_gives_the_same_figures_again() -> None:
    student, teacher = toy_student(), load_teacher("puppet", seed=0)
    image, mask = teacher.character(), teacher.face_mask()  # type: ignore[operator]
    rows = [
        evaluate(student, live_targets(teacher, image, sample_poses(2, 5), "cpu"), mask)["per_pose"] for _ in range(2)
    ]
    assert rows[0] == rows[1]


def test_an_export_and_a_video_have_the_same_bytes_again(tmp_path: Path) -> None:
    pytest.importorskip("av")
    visible = np.ones((512, 512), bool)
    assert pack_character(toy_student(), "a", visible) == pack_character(toy_student(), "a", visible)
    frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 4), dtype=np.uint8)
    for name in ("a.mp4", "b.mp4"):
        with open_video(tmp_path / name, 20.0) as video:
            for frame in frames:
                video.write(frame)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()

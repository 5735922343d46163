"""FrameRate: frame time of the body rotator in training, compiled as it would be used, and of the teacher."""

from __future__ import annotations

from typing import Any

import lightning as L

from thadistill.callbacks.comparison import Comparison
from thadistill.student import BodyRotator

LATE = 0.9  # of the progress: near the end, but within the budget


class FrameRate(L.Callback):
    """``speed/student_ms``, ``speed/student_fps``, ``speed/teacher_ms`` and others, in every logger, once in a training.

    When 90 % are done; ``first=True`` also at the start: the sizes don't change, but the machine may. Each takes a second
    or a few, of the training's budget. A face morpher's training is passed over: it is a small part of a frame.

    Args:
        comparison: student and teacher.
        runtime: ``exact``, ``reduced``, or another of thadistill.runtime.
        first: whether it is also measured at the start.
    """

    def __init__(self, comparison: Comparison, runtime: str = "exact", first: bool = False) -> None:
        self.comparison, self.runtime, self.first = comparison, runtime, first
        self.late = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.first:
            self._measure(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self.late and float(pl_module.progress) >= LATE:  # type: ignore[arg-type]
            self.late = True
            self._measure(trainer, pl_module)

    def _measure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero or not isinstance(pl_module.network, BodyRotator):
            return
        speed = self.comparison.frame_rate(pl_module, trainer.global_step, self.runtime)
        values = {f"speed/{name}": value for name, value in speed.items() if isinstance(value, (int, float))}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return {"late": self.late}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.late = state_dict["late"]

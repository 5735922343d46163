"""Budget: ends a training after minutes or examples, and tells the module how far along it is."""

from __future__ import annotations

import time
from typing import Any

import lightning as L


class Budget(L.Callback):
    """Sets ``module.progress`` before each batch and stops the trainer when it reaches 1.

    Args:
        minutes: wall-clock time from the first batch, validation and checkpoints included; earlier runs of the same
            training count. None: no limit.
        examples: examples over all processes: rows of each batch's first field. None: no limit.
        progress_by: which of the two the schedules follow; the other only ends the training.

    What was spent is in the checkpoint, so an interrupted training continues on the same schedule.
    """

    def __init__(self, minutes: float | None = None, examples: int | None = None, progress_by: str = "minutes") -> None:
        limits = {"minutes": minutes, "examples": examples}
        if progress_by not in limits or limits[progress_by] is None:
            raise ValueError(f"progress_by={progress_by} needs a limit on minutes or examples; got {limits}")
        self.minutes, self.examples, self.progress_by = minutes, examples, progress_by
        self.seconds_before = 0.0
        self.examples_seen = 0
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far, earlier runs included."""
        return self.seconds_before + (0.0 if self._started is None else time.monotonic() - self._started)

    def spent(self) -> dict[str, float]:
        """The share spent of each limit that is set."""
        shares = {}
        if self.minutes is not None:
            shares["minutes"] = self.seconds / (60 * self.minutes) if self.minutes > 0 else 1.0
        if self.examples is not None:
            shares["examples"] = self.examples_seen / self.examples
        return shares

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = time.monotonic()
        self._follow(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        pl_module.progress = min(1.0, _of_the_first(trainer, self.spent()[self.progress_by]))  # type: ignore[assignment]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.examples_seen += len(batch[0]) * trainer.world_size
        self._follow(trainer, pl_module)

    def _follow(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        spent = _of_the_first(trainer, max(self.spent().values())) >= 1
        if spent:
            pl_module.progress = 1.0  # type: ignore[assignment]
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "examples": self.examples_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds_before, self.examples_seen = state_dict["seconds"], state_dict["examples"]


def _of_the_first(trainer: L.Trainer, value: float) -> float:
    """The value of the first of several processes: their clocks differ, the rates that follow them must not."""
    return value if trainer.world_size == 1 else float(trainer.strategy.broadcast(value))

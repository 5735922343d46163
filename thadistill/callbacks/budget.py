"""Budget: ends a training after minutes, or so many poses, patches or triples, and tells the module how far it is."""

from __future__ import annotations

import time
from typing import Any

import lightning as L

from thadistill.errors import UserError


class Budget(L.Callback):
    """Sets ``module.progress`` before each batch and stops the trainer when it reaches 1.

    Args:
        minutes: wall-clock time from the first batch, validation and checkpoints included; earlier runs of the same
            training count. None: no limit.
        count: over all processes, rows of each batch's first field: poses of a face morpher, patches of a body rotator,
            triples of a teacher. None: no limit.
        progress_by: which of the two the schedules follow, ``minutes``, or what ``counted`` says (``poses``...); the
            other only ends the training.
        counted: what ``count`` is called.

    What was spent is in the checkpoint, so an interrupted training continues on the same schedule.

    Raises: UserError when what the schedules are to follow has no limit.
    """

    def __init__(
        self,
        minutes: float | None = None,
        count: int | None = None,
        progress_by: str = "minutes",
        counted: str = "poses",
    ) -> None:
        limits = {"minutes": minutes, counted: count}
        if progress_by not in limits:
            raise UserError(f"progress_by={progress_by}; expected minutes or {counted}")
        if limits[progress_by] is None:
            raise UserError(f"progress_by={progress_by}, and {progress_by} is null; expected a number of {progress_by}")
        self.minutes, self.count, self.progress_by, self.counted = minutes, count, progress_by, counted
        self.seconds_before = 0.0
        self.seen = 0
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
        if self.count is not None:
            shares[self.counted] = self.seen / self.count
        return shares

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = time.monotonic()
        self._tell(trainer, pl_module)  # before other callbacks ask how far a continued training is
        self._follow(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._tell(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seen += len(batch[0]) * trainer.world_size
        self._follow(trainer, pl_module)

    def _tell(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.progress = min(1.0, _of_the_first(trainer, self.spent()[self.progress_by]))  # type: ignore[assignment]

    def _follow(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        spent = _of_the_first(trainer, max(self.spent().values())) >= 1
        if spent:
            pl_module.progress = 1.0  # type: ignore[assignment]
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "count": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds_before, self.seen = state_dict["seconds"], state_dict["count"]


def _of_the_first(trainer: L.Trainer, value: float) -> float:
    """The value of the first of several processes: their clocks differ, the rates that follow them must not."""
    return value if trainer.world_size == 1 else float(trainer.strategy.broadcast(value))

"""Progress: one line with the share of the budget spent, the time left and the current PSNR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
from rich.progress import Progress, TaskID

from thadistill.console import progress_bar


class SaidProgress(L.Callback):
    """Says ``module.progress`` in words, a percent at a time.

    Args:
        description: what is trained.
        say: called with the progress.
    """

    def __init__(self, description: str, say: Callable[[str], None]) -> None:
        self.description, self.say, self._said = description, say, -1

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        percent = int(100 * float(pl_module.progress))  # type: ignore[arg-type]
        if percent > self._said:
            self._said = percent
            self.say(f"{self.description}: {percent}%")


class BudgetBar(L.Callback):
    """A rich progress bar over ``module.progress``.

    Args:
        description: what is trained.
        also: what else goes on meanwhile, in a few words; asked after each batch.
    """

    def __init__(self, description: str = "training", also: Callable[[], str] | None = None) -> None:
        self.description, self.also = description, also
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self._progress = progress_bar()
            self._progress.start()
            self._task = self._progress.add_task(self.description, total=1.0, note="")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._show(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._show(trainer, pl_module)

    def _show(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._progress is None or self._task is None:
            return
        value = trainer.callback_metrics.get("val/psnr")
        note = f"step {trainer.global_step}" + ("" if value is None else f"  psnr {float(value):.2f} dB")
        note += "" if self.also is None else f"  in parallel: {self.also()}"
        self._progress.update(self._task, completed=float(pl_module.progress), note=note)  # type: ignore[arg-type]

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")

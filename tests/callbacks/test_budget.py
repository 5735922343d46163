"""Budget and Checks: a continued training knows how far it is before its first batch."""

from __future__ import annotations

import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset

from thadistill.callbacks import Budget, Checks


class Line(L.LightningModule):
    """Learns nothing of use; counts its validations."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.progress, self.checked = 0.0, list[float]()

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.checked.append(self.progress)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(budget: Budget, steps: int, checkpoint: str | None, folder: str) -> tuple[Line, L.Trainer]:
    module, data = Line(), DataLoader(TensorDataset(torch.ones(400, 1)), batch_size=1)
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, num_sanity_val_steps=0, callbacks=[budget, Checks(3)], default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, data, DataLoader(TensorDataset(torch.ones(1, 1))), ckpt_path=checkpoint)
    return module, trainer


def test_continuing_does_not_check_at_once(tmp_path) -> None:  # type: ignore[no-untyped-def]
    _, trainer = train(Budget(count=100, progress_by="poses"), 60, None, str(tmp_path))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    module, _ = train(Budget(count=100, progress_by="poses"), 70, str(tmp_path / "a.ckpt"), str(tmp_path))
    assert module.progress >= 0.6
    assert not [progress for progress in module.checked if progress < 0.65]  # the next is due at 2 / 3.5 or later

"""DistillDataModule: an endless training stream and a validation set, of a student's targets or a teacher's triples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from thadistill.data.sampling import BodyBatch, FaceBatch, body_batch
from thadistill.data.target_cache import Targets
from thadistill.pose import POSE_PARAMETERS
from thadistill.student.face_morpher import FACE_SIZE
from thadistill.warp import position_grid


class DistillDataModule(L.LightningDataModule):
    """Training batches from a stream, validation poses one by one.

    Args:
        train: makes the endless training stream; called with ``seed`` and ``start``.
        validation: what is evaluated during training, one pose per batch.
        seed: of the stream.

    After an interruption the stream goes on from a seed of its own (``start``): no batch is repeated or replayed.
    """

    def __init__(
        self, train: Callable[..., IterableDataset[Any]], validation: Dataset[Any] | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.train, self.validation, self.seed = train, validation, seed

    def train_dataloader(self) -> DataLoader[Any]:
        trainer = self.trainer
        start = (trainer.global_step, trainer.global_rank) if trainer is not None else (0, 0)
        return DataLoader(self.train(seed=self.seed, start=start[0] * 64 + start[1]), batch_size=None)

    def val_dataloader(self) -> Any:
        return [] if self.validation is None else DataLoader(self.validation, batch_size=None)


class WholeFaces(Dataset[FaceBatch]):
    """The first ``count`` facial poses, whole crops, for validation."""

    def __init__(self, targets: Targets, mask: Float[Tensor, "1 128 128"], count: int) -> None:
        self.targets, self.mask = targets, mask.flatten()[None]
        self.position = position_grid(FACE_SIZE, FACE_SIZE).flatten(1).T[None]
        self.count = min(count, len(targets))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> FaceBatch:
        target = self.targets.get("face", index).flatten(1).T[None]
        return FaceBatch(self.targets.pose[index, POSE_PARAMETERS.facial][None], self.position, target, self.mask)


class WholeBodies(Dataset[BodyBatch]):
    """The first ``count`` poses, whole images, for validation."""

    def __init__(self, targets: Targets, count: int, size: int = 512) -> None:
        self.targets, self.count, self.size = targets, min(count, len(targets)), size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> BodyBatch:
        return body_batch(self.targets, torch.tensor([index]), torch.zeros(1, 2, dtype=torch.long), self.size)

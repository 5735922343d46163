"""Distributed building: one target cache by several processes, GPUs or nodes, in Lightning's predict loop.

Shards belong to ranks by number, so that no two write the same; the manifest is rank 0's, after all are done.
"""

from __future__ import annotations

import hydra
import lightning as L
import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader

from thadistill.console import progress_bar
from thadistill.data.poses import PoseSequence
from thadistill.data.target_builder import shard_poses, shard_targets
from thadistill.data.target_cache import TargetCache
from thadistill.devices import placed
from thadistill.errors import UserError
from thadistill.pipeline.fit import quiet_lightning
from thadistill.teacher import Teacher


class ShardBuilder(L.LightningModule):
    """Writes the shards of a cache that are not there yet, a shard a predict step.

    Args:
        cache: is filled.
        teacher, image: make the targets; the trainer brings both to its device.
        parts: the poses of each shard.
        batch_size: poses the teacher sees at once.
    """

    image: Tensor

    def __init__(
        self,
        cache: TargetCache,
        teacher: Teacher,
        image: Float[Tensor, "4 512 512"],
        parts: list[Float[Tensor, "_n 45"]],
        batch_size: int = 4,
    ) -> None:
        super().__init__()
        self.cache, self.teacher, self.parts, self.batch_size = cache, teacher, parts, batch_size
        self.register_buffer("image", image[None].clone(), persistent=False)

    def predict_dataloader(self) -> DataLoader[int]:
        # by number, not by what is missing: another rank may have written some before this one looks
        mine = range(self.trainer.global_rank, len(self.parts), self.trainer.world_size)
        return DataLoader([index for index in mine if not self.cache.has_shard(index)], batch_size=None)  # type: ignore[arg-type]

    def predict_step(self, index: int, batch_idx: int) -> None:
        kind = self.cache.key.kind
        self.cache.write_shard(index, shard_targets(kind, self.teacher, self.image, self.parts[index], self.batch_size))


class ShardBar(L.Callback):
    """Rank 0's progress bar over its own shards."""

    def __init__(self, title: str) -> None:
        self.bar, self.title = progress_bar(), title

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.bar.start()
            self.task = self.bar.add_task(f"teacher: {self.title}", total=sum(trainer.num_predict_batches), note="")

    def on_predict_batch_end(self, trainer: L.Trainer, *rest: object) -> None:
        if trainer.is_global_zero:
            self.bar.advance(self.task)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.bar.stop()


def predict_targets(
    settings: DictConfig,
    cache: TargetCache,
    teacher: Teacher,
    image: Float[Tensor, "4 512 512"],
    poses: PoseSequence,
    count: int,
    batch_size: int = 4,
) -> bool:
    """Fills ``cache`` up to ``count`` poses by the trainer of ``settings`` (conf/trainer), continuing what is there.

    The result does not depend on how many processes work. Returns whether this process is the first of them.

    Raises: UserError when the trainer would change the teacher's precision, or the disk is full.
    """
    if settings.precision != "32-true":
        raise UserError(
            f"trainer.precision={settings.precision} would change the targets behind their key; expected 32-true: "
            "set teacher.dtype or teacher.autocast"
        )
    quiet_lightning()
    trainer: L.Trainer = hydra.utils.instantiate(
        settings, **placed(settings), logger=False, enable_checkpointing=False, callbacks=[ShardBar(cache.key.kind)]
    )
    builder = ShardBuilder(cache, teacher, image, shard_poses(poses, count, cache.shard), batch_size)
    with torch.inference_mode():
        trainer.predict(builder, return_predictions=False)
    trainer.strategy.barrier("targets")
    if trainer.is_global_zero:
        cache.write_manifest()
    return trainer.is_global_zero

"""thadistill cache: teacher targets to disk, by as many processes as trainer= says."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from thadistill.cli.relaunch import relaunchable
from thadistill.data.build import open_cache
from thadistill.data.distributed import predict_targets
from thadistill.devices import trainer_device
from thadistill.errors import UserError


def run(config: DictConfig, out: Path) -> None:
    """Builds, or continues, the cache of the first ``n`` poses and prints its folder."""
    if config.kind not in ("posed", "face") or config.n < 1 or config.batch < 1:
        raise UserError(
            f"kind={config.kind} n={config.n} batch={config.batch}; expected kind posed or face, n and batch above 0"
        )
    trainer_device(config.trainer)
    character = hydra.utils.instantiate(config.character)
    teacher = hydra.utils.instantiate(config.teacher)
    poses = hydra.utils.instantiate(config.poses)
    cache = open_cache(config.kind, teacher, character.image, poses, config.targets)
    with relaunchable("cache"):
        first = predict_targets(config.trainer, cache, teacher, character.image, poses, config.n, config.batch)
    if first:
        print(f"{cache.folder}: {len(cache)} poses, key {cache.key.digest}")

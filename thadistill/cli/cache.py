"""thadistill cache: teacher targets to disk, by as many processes as trainer= says."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from thadistill.cli.relaunch import relaunchable
from thadistill.devices import trainer_device
from thadistill.pipeline.character import prepare_character
from thadistill.pipeline.distributed_targets import predict_targets
from thadistill.pipeline.targets import TargetSets, check_targets


def run(config: DictConfig, out: Path) -> None:
    """Builds, or continues, one of a recipe's target sets and prints its folder: what a distillation then finds there."""
    prepare_character(config)
    device = trainer_device(config.trainer)
    check_targets(config)
    character = hydra.utils.instantiate(config.character)
    teacher = hydra.utils.instantiate(config.teacher, device=device)  # rounding, which the key has, depends on it
    sets = TargetSets(config, teacher, character.image, None)
    cache, wanted = sets.cache(config.kind), sets.wanted[config.kind]
    count = wanted.most if config.n is None else config.n
    with relaunchable("cache"), sets.precision(config.kind):
        first = predict_targets(config.trainer, cache, teacher, character.image, wanted.poses, count, config.batch)
    if first:
        print(f"{cache.folder}: {len(cache)} poses, key {cache.key.digest}")

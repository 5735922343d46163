"""thadistill cache: teacher targets to disk."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from thadistill.data.build import open_cache
from thadistill.distillation import fill
from thadistill.errors import UserError


def run(config: DictConfig, out: Path) -> None:
    """Builds, or continues, the cache of the first ``n`` poses and prints its folder."""
    if config.kind not in ("posed", "face") or config.n < 1 or config.batch < 1:
        raise UserError(
            f"kind={config.kind} n={config.n} batch={config.batch}; expected kind posed or face, n and batch above 0"
        )
    character = hydra.utils.instantiate(config.character)
    teacher = hydra.utils.instantiate(config.teacher)
    poses = hydra.utils.instantiate(config.poses)
    cache = open_cache(config.kind, teacher, character.image, poses, config.targets)
    have = fill(cache, teacher, character.image, poses, config.n, None, config.kind, batch_size=config.batch)
    print(f"{cache.folder}: {have} poses, key {cache.key.digest}")

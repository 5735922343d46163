"""thadistill prepare: a picture to a character folder."""

from __future__ import annotations

import shlex
from pathlib import Path

import hydra
from omegaconf import DictConfig

from thadistill.console import shown
from thadistill.pipeline.prepare import prepare_folder


def run(config: DictConfig, out: Path) -> None:
    """Writes ``character.png``, ``face_mask.png`` and ``prepare.png`` (what was done, to look at) into ``out``."""
    prepared = prepare_folder(
        config.image,
        out,
        lambda: hydra.utils.instantiate(config.teacher),
        head=None if config.head is None else list(config.head),
        segmenter=config.segmenter,
        face_mask=config.face_mask,
        force=config.force,
    )
    for note in prepared.notes:
        print(note)
    for hint in prepared.hints:
        print(f"! {hint}")
    print(
        f"look at {shown(out / 'prepare.png')}: the head belongs in the red box; "
        f"then 'thadistill distill character={shlex.quote(str(shown(out)))}'"
    )

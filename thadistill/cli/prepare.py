"""thadistill prepare: a picture to a character image."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from thadistill.data.face_mask import computed_face_mask
from thadistill.data.prepare import overlay, prepare
from thadistill.errors import UserError
from thadistill.images import load_character, save_face_mask


def run(config: DictConfig, out: Path) -> None:
    """Writes ``character.png``, ``face_mask.png`` and ``prepare.png`` (what was done, to look at) into ``out``."""
    head = None if config.head is None else tuple(config.head)
    if head is not None and len(head) != 4:
        raise UserError(f"head={list(head)}; expected [left,top,right,bottom] in pixels")
    prepared = prepare(config.image, head)
    out.mkdir(parents=True, exist_ok=True)
    prepared.character.save(out / "character.png")
    overlay(prepared.character).save(out / "prepare.png")
    if config.face_mask:
        teacher = hydra.utils.instantiate(config.teacher)
        save_face_mask(computed_face_mask(teacher, load_character(out / "character.png")), out / "face_mask.png")
    for note in prepared.notes:
        print(note)
    print(f"look at {out / 'prepare.png'}: the head belongs in the red box; then 'thadistill distill character={out}'")

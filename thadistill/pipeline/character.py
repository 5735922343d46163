"""Character: where ``character=`` is a picture as people have it, a run begins by preparing it."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from thadistill.config import character_folder
from thadistill.console import console, shown
from thadistill.errors import UserError


def prepare_character(config: DictConfig) -> None:
    """Where ``character=`` is a picture, prepares it, once, and says where its folder is.

    Raises: UserError.
    """
    picture = config.character.get("folder")
    if picture is None or not Path(picture).is_file():
        return
    folder = character_folder(picture)
    if (folder / "character.png").is_file():
        console.print(f"{shown(Path(picture))} was prepared before, in {shown(folder)}", soft_wrap=True)
        return
    from thadistill.pipeline.prepare import prepare_folder  # brings SciPy, which other characters do without

    try:
        prepared = prepare_folder(picture, folder, lambda: hydra.utils.instantiate(config.teacher))
    except UserError as error:
        raise UserError(
            f"{error}. 'thadistill prepare image={shown(Path(picture))} out=FOLDER' takes head=, segmenter=, force=; then "
            "give character=FOLDER"
        ) from None
    for hint in prepared.hints:
        console.print(f"! {hint}", soft_wrap=True)
    console.print(
        f"prepared {shown(Path(picture))} in {shown(folder)}: look at {shown(folder / 'prepare.png')}", soft_wrap=True
    )

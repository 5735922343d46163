"""Character: a picture to animate, and the face mask that may come with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from thadistill import assets
from thadistill.config import character_folder, character_name
from thadistill.errors import UserError
from thadistill.images import load_character, load_face_mask


@dataclass(frozen=True)
class Character:
    """A character image in network space, and its face mask where one was given (else it is computed)."""

    name: str
    image: Float[Tensor, "4 512 512"]
    face_mask: Float[Tensor, "1 512 512"] | None = None


def sample(name: str, face_mask: str | Path | None = None) -> Character:
    """A sample character, fetched where it is not in the cache folder yet.

    Raises: UserError when there is none of this name, or it cannot be fetched.
    """
    return Character(name, load_character(assets.sample_character(name)), _mask(face_mask))


def from_folder(folder: str | Path, face_mask: str | Path | None = None) -> Character:
    """The ``character.png`` of a folder, with its ``face_mask.png`` if there is one; of a picture, as it was prepared.

    Raises: UserError when a picture is missing or unusable.
    """
    name = character_name(folder)
    folder = character_folder(folder)
    if not folder.is_dir():
        raise UserError(f"character={folder} is neither a character of conf/character nor a folder with character.png")
    if face_mask is None and (folder / "face_mask.png").is_file():
        face_mask = folder / "face_mask.png"
    return Character(name, load_character(folder / "character.png"), _mask(face_mask))


def puppet(seed: int = 0, face_mask: str | Path | None = None) -> Character:
    """The procedural character of the puppet teacher."""
    from thadistill.teacher.puppet import load_puppet  # drawn at import only when asked for

    drawn = load_puppet(seed=seed)
    return Character(f"puppet_{seed}", drawn.character(), drawn.face_mask() if face_mask is None else _mask(face_mask))


def _mask(path: str | Path | None) -> Float[Tensor, "1 512 512"] | None:
    return None if path is None else load_face_mask(path)

"""Web export: students packed for the browser player, each checked against the student it was made from."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool

from thadistill.errors import UserError
from thadistill.export.character_file import SUFFIX, file_name, pack_character, unpack_character
from thadistill.metrics.image import psnr
from thadistill.runtime import compile_model
from thadistill.runtime.visible import find_visible, sampled_poses
from thadistill.student import CharacterModel
from thadistill.student.published import is_published

_CHECKED = 4  # poses
LEAST_DB = 70.0


@dataclass(frozen=True)
class Exported:
    """A student that the player can show."""

    name: str
    model: CharacterModel
    packed: bytes | None = None  # where it came as a character file

    @property
    def file(self) -> str:
        """Its file's name within the site's ``characters/``."""
        return file_name(self.name)

    def pack(self) -> bytes:
        """The character file, made (seconds, the first time on a machine) unless there is one.

        Raises: UserError when its frames are not the student's.
        """
        return self.packed if self.packed is not None else _checked(self.model, self.name)


def visible_pixels(model: CharacterModel) -> Bool[np.ndarray, "512 512"]:
    """The pixels that the player computes: all but what no pose paints by more than a 8-bit frame would show."""

    def begin():  # type: ignore[no-untyped-def]
        whole = compile_model(model, "exact", reuse=False, visible=False)
        return lambda pose: whole(torch.from_numpy(pose)[None]).posed[0].numpy()

    return find_visible(model, False, None, begin)


def _checked(model: CharacterModel, name: str) -> bytes:
    packed = pack_character(model, name, visible_pixels(model))
    again, visible = unpack_character(packed)
    shown = torch.from_numpy(visible)
    with torch.inference_mode():
        for pose in sampled_poses(_CHECKED).split(1):
            frame = torch.where(shown, again(pose).posed, -1.0)
            quality = float(psnr(frame, model(pose).posed))
            if quality < LEAST_DB:
                raise UserError(
                    f"the exported {name} is {quality:.1f} dB from its student; expected {LEAST_DB:g} or more: "
                    "nothing was written"
                )
    return packed


def open_students(given: Sequence[str]) -> list[Exported]:
    """The students that users name: character-model folders, exported character files, patterns of either.

    Raises: UserError for one that is not there or cannot be read, or whose levels do not double.
    """
    found: list[Exported] = []
    for path in (path for pattern in given for path in _paths(pattern)):
        name = _unused(_name(path), {student.name for student in found})
        if path.suffix == SUFFIX and path.is_file():
            packed = path.read_bytes()
            model = unpack_character(packed, str(path))[0]
            found.append(Exported(name, model, packed))
            continue
        model = CharacterModel.load(path)
        sizes = model.body_rotator.sizes
        if any(b != 2 * a for a, b in pairwise(sizes)):
            raise UserError(
                f"{path} has levels of {list(sizes)} pixels; expected each twice the last, as the player draws"
            )
        found.append(Exported(name, model))
    return found


def _paths(pattern: str) -> list[Path]:
    if Path(pattern).exists() or not glob.has_magic(pattern):
        return [Path(pattern)]
    found = sorted(Path(path) for path in glob.glob(pattern, recursive=True))
    students = [path for path in found if _is_student(path)]
    if not students:
        raise UserError(f"model={pattern} matches no character model; expected folders with character_model.yaml")
    return students


def _is_student(path: Path) -> bool:
    return path.suffix == SUFFIX or (path / "character_model.yaml").is_file() or is_published(path)


def _name(path: Path) -> str:
    """What the menu calls a student: its folder, or the run's where it lies in a run."""
    path = path.absolute()
    return path.parent.name if path.name == "character_model" else path.stem if path.is_file() else path.name


def _unused(name: str, used: set[str]) -> str:
    names = [name, *(f"{name}-{i}" for i in range(2, len(used) + 3))]
    return next(other for other in names if other not in used and file_name(other) not in map(file_name, used))

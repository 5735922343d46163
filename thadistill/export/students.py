"""Students: those that ``model=`` names, for the verbs that show or export them."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from omegaconf import ListConfig

from thadistill.console import shown
from thadistill.errors import UserError
from thadistill.export.character_file import SUFFIX, file_name, unpack_character
from thadistill.export.web import Exported
from thadistill.student import CharacterModel
from thadistill.student.published import is_published


def find_students(given: object) -> list[Exported]:
    """The students of ``model=``: a folder, several between commas, a list or a pattern; None: the newest, else the puppet.

    Raises: as :func:`open_students`.
    """
    return open_students(_named(given) or [str(newest() or packaged_puppet())])


def find_student(given: object) -> Exported:
    """The one student of ``model=``.

    Raises: UserError where it names several; as :func:`open_students`.
    """
    students = find_students(given)
    if len(students) > 1:
        raise UserError(f"model={given} names {len(students)} students; expected one")
    return students[0]


def _named(given: object) -> list[str]:
    if given is None:
        return []
    if isinstance(given, ListConfig):
        return [str(one) for one in given]
    text = str(given)
    return [text] if Path(text).exists() else [part.strip() for part in text.split(",") if part.strip()]


def packaged_puppet() -> Path:
    """The student that comes with the package, of a drawn character."""
    return Path(__file__).parent.parent / "serve" / "puppet.safetensors"


def newest() -> Path | None:
    """The student that was distilled last under ``outputs/`` of the current folder."""
    found = Path("outputs").glob("**/character_model/character_model.yaml")
    latest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    return None if latest is None else shown(latest.parent.absolute())


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

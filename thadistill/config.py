"""Config: where conf/ lies, what its resolvers say, and what a run is keyed by."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

_INITS = Path(__file__).parent / "student" / "inits"
# keys that may change without changing the result
_WITHOUT_EFFECT = ("out", "targets", "logger", "trainer")


def folder_name(overrides: str) -> str:
    """A sweep job's folder: its overrides; long ones are cut, and told apart by a hash."""
    name = overrides.replace("/", "_").replace("'", "")
    raw = name.encode()
    if len(raw) <= 240:  # file systems end at 255
        return name
    return f"{raw[:220].decode(errors='ignore')}-{hashlib.sha256(raw).hexdigest()[:12]}"


def run_name(choice: str, folder: str | None) -> str:
    """What a run on a character is named after: its choice of conf/character, or the folder that it lies in."""
    return choice if folder is None else character_name(folder)


def by_init(pretrained: Any, random: Any, *, _root_: DictConfig) -> Any:
    """``${by_init:A,B}``: A where a student begins with pretrained weights (``init``), B where with random ones."""
    return random if OmegaConf.select(_root_, "init") is None else pretrained


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
OmegaConf.register_new_resolver("run_name", run_name, replace=True)
OmegaConf.register_new_resolver("by_init", by_init, replace=True)


def conf_dir() -> Path:
    """The Hydra configs: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def keyed(config: DictConfig) -> tuple[dict[str, Any], dict[str, str]]:
    """A composed configuration as it counts, and the hashes in it by key.

    A picture, a mask, an init, poses or weights that change under the same name so change the run. Of training data, which
    may be large, names and sizes count.
    """
    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    hashes: dict[str, str] = {}
    for key, read in _READERS.items():
        *way, name = key.split(".")
        place: Any = content
        for part in way:
            place = place.get(part) if isinstance(place, dict) else None
        value = place.get(name) if isinstance(place, dict) else None
        if isinstance(value, str):
            digest = hashlib.sha256()
            for piece in read(value):
                digest.update(piece)
            hashes[key] = place[name] = digest.hexdigest()[:16]
    return {key: value for key, value in content.items() if key not in _WITHOUT_EFFECT}, hashes  # type: ignore[misc]


def character_name(folder: str | Path) -> str:
    """What a character of a folder is called: the folder's name, as far as files may be called so."""
    return re.sub(r"[^\w.-]+", "_", Path(folder).resolve().name) or "character"


def _whole(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        yield f";{path.name};".encode()
        with path.open("rb") as file:
            yield hashlib.file_digest(file, "sha256").digest()


def _character(folder: str) -> Iterator[bytes]:
    return _whole([path for name in ("character.png", "face_mask.png") if (path := Path(folder) / name).is_file()])


def _file_or_folder(value: str) -> Iterator[bytes]:
    path = Path(value)
    if path.is_dir():
        return _whole(sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")))
    if path.is_file():
        return _whole([path])
    return iter([value.encode()])  # a word, or what is refused when it is read


def _init(value: str) -> Iterator[bytes]:
    return _whole(sorted(_INITS.iterdir())) if value == "warm" else _file_or_folder(value)


def _listing(value: str) -> Iterator[bytes]:
    path = Path(value)
    files = sorted(path.rglob("*")) if path.is_dir() else sorted(path.parent.glob(path.name)) if path.name else []
    yield value.encode()
    for file in files:
        yield f";{file.name} {file.stat().st_size}".encode()


_READERS: dict[str, Callable[[str], Iterator[bytes]]] = {
    "character.folder": _character,
    "character.face_mask": _file_or_folder,
    "init": _init,
    "recipe.targets.poses.source": _file_or_folder,
    "teacher.weights": _file_or_folder,
    "stage.coarse": _file_or_folder,
    "triples.folder": _listing,
    "triples.shards": _listing,
    "triples.test": _listing,
}

"""Config: composes conf/ for a command, says what its resolvers stand for, and what a run is keyed by."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from thadistill.config.overrides import quoted, read_overrides
from thadistill.config.schema import check_values, schedules
from thadistill.errors import UserError
from thadistill.files import conf_dir, sha256_of

__all__ = ["character_folder", "character_name", "compose", "conf_dir", "folder_name", "keyed", "one_line"]

_INITS = Path(__file__).parents[1] / "student" / "inits"
# keys of which a run continues when they change: where things go, what an experiment's other scales have, and on what a
# trainer runs
_NOT_KEYED = ("out", "targets", "logger", "minutes", "equal_patches")
_NOT_KEYED_OF_TRAINER = ("accelerator", "devices", "num_nodes", "strategy", "log_every_n_steps", "default_root_dir")


def folder_name(overrides: str) -> str:
    """A sweep job's folder: its overrides; long ones are cut, and kept distinct by a hash."""
    name = overrides.replace("/", "_").replace("'", "")
    raw = name.encode()
    if len(raw) <= 240:  # file systems end at 255
        return name
    return f"{raw[:220].decode(errors='ignore')}-{hashlib.sha256(raw).hexdigest()[:12]}"


def run_name(*, _root_: DictConfig) -> str:
    """What a run is named after: its character, or the folder that it lies in, its teacher and its recipe.

    A teacher's training has none of them: its stage and size.
    """
    if _root_.get("module") == "teacher":
        return f"{_root_.stage.name}-{_root_.stage.size}"
    character = _root_.character
    name = character_name(character.folder) if "folder" in character else character.get("name")
    name = name or str(character.get("_target_", "character")).rpartition(".")[2]
    return f"{name}-{_root_.teacher.get('name', 'teacher')}-{_root_.recipe.name}"


def default_character(teacher: str) -> str:
    """The character of a plain command: the puppet teacher draws its own, the others take THA3's sample."""
    return "puppet" if teacher == "puppet" else "lambda_00"


def default_budget(*, _root_: DictConfig) -> float | None:
    """Minutes that suit machine and teacher: ten, with or without a GPU, which then gets further in them.

    The procedural teacher needs no minutes of its own: under five. Schedules that count poses or patches end with the last
    of them, however long that takes, unless minutes are given: None.
    """
    if all(schedule.progress_by != "minutes" for schedule in schedules(_root_).values()):
        return None
    return 4.7 if "teacher" in _root_ and _root_.teacher.get("name") == "puppet" else 10.0


def shipped_init(*, _root_: DictConfig) -> str | None:
    """``warm`` where the package has a pretrained init for the student's sizes; else None: random weights.

    They were learned under THA3, of which the puppet is no character.
    """
    if _root_.get("module") == "teacher" or _root_.teacher.get("name") == "puppet":
        return None
    student = OmegaConf.to_container(_root_.student, resolve=True)
    assert isinstance(student, dict)
    sizes = {key: value for key, value in student.items() if key != "name"}
    fits = any(sizes == _student(path.stem) for path in _INITS.glob("*.safetensors"))
    return "warm" if fits else None


def with_init(with_one: Any, without: Any, *, _root_: DictConfig) -> Any:
    """The first value where training begins with pretrained weights, the second where it begins with random ones."""
    chosen = without if OmegaConf.select(_root_, "init") is None else with_one
    return OmegaConf.create(chosen) if isinstance(chosen, list) else chosen  # or OmegaConf cannot put it in its place


@functools.cache
def _student(name: str) -> dict[str, Any]:
    """The sizes of conf/student/NAME.yaml, of which Hydra's defaults lists make one config."""
    own = OmegaConf.load(conf_dir() / "student" / f"{name}.yaml")
    assert isinstance(own, DictConfig)
    bases = [_student(base) for base in own.pop("defaults", []) if base != "_self_"]
    made = OmegaConf.to_container(OmegaConf.merge(*bases, own))
    assert isinstance(made, dict)
    return {str(key): value for key, value in made.items() if key != "name"}


for _resolver in (folder_name, run_name, default_character, default_budget, shipped_init, with_init):
    OmegaConf.register_new_resolver(_resolver.__name__, _resolver, replace=True)


def compose(
    verb: str, overrides: Sequence[str] = (), config_dir: str | Path | None = None, with_hydra: bool = False
) -> DictConfig:
    """What ``thadistill VERB OVERRIDES`` runs with, its values checked; the one place that composes conf/.

    Args:
        overrides: as typed on the command line: paths in any spelling, ``character=FOLDER``.
        config_dir: a further folder of configs, as ``--config-dir`` gives it.
        with_hydra: with Hydra's own node.

    Raises: UserError, in one line, where Hydra cannot compose it or a value is not what its key takes.
    """
    folders = [conf_dir(), *([] if config_dir is None else [Path(config_dir).resolve()])]
    given = read_overrides(overrides, folders)
    if config_dir is not None:
        own = quoted(f"file://{folders[1]}")
        before = next((one for one in given if one.startswith("hydra.searchpath=[")), "hydra.searchpath=[]")
        given.append(before.replace("[", f"[{own},", 1).replace(",]", "]"))
    for name, value in (override.split("=", 1) for override in overrides if "=" in override):
        if value == "null" and (folders[0] / name).is_dir():
            choices = sorted(file.stem for folder in folders for file in (folder / name).glob("*.yaml"))
            raise UserError(f"{name}=null; expected one of {', '.join(choices)}")
    running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None  # a command may compose another
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(folders[0])):
            config = hydra.compose(verb, overrides=given, return_hydra_config=with_hydra)
        check_values(config, verb)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{one_line(error)}: see 'thadistill {verb} --help'") from None
    finally:
        GlobalHydra.instance().hydra = running
    return config


def one_line(error: Exception) -> str:
    """What Hydra or OmegaConf say, without the lines about their own objects."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    noise = ("full_key", "object_type", "reference_type", "^", "Config search path", "provider=")
    return " ".join(line for line in lines if not line.startswith(noise)) or type(error).__name__


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
    kept = {str(key): _plain(value) for key, value in content.items() if key not in _NOT_KEYED}
    trainer = kept["trainer"] if isinstance(kept.get("trainer"), dict) else {}
    for key in (*_NOT_KEYED_OF_TRAINER, *(key for key in trainer if key.startswith("enable_"))):
        trainer.pop(key, None)
    return kept, hashes


def _plain(value: Any) -> Any:
    """The same value however it is typed: 10 and 10.0 are one budget."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def character_name(folder: str | Path) -> str:
    """What a character of a folder, or a picture, is called: the folder's name, as far as files may be called so."""
    path = Path(folder).resolve()
    return re.sub(r"[^\w.-]+", "_", path.stem if path.is_file() else path.name) or "character"


def character_folder(given: str | Path) -> Path:
    """The character's folder: itself, or of a picture the one that it is prepared into, named by its content."""
    path = Path(given)
    if not path.is_file():
        return path
    return Path.cwd() / "outputs" / "prepare" / f"{character_name(path)}-{sha256_of(path)[:8]}"


def _whole(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        yield f";{path.name};".encode()
        with path.open("rb") as file:
            yield hashlib.file_digest(file, "sha256").digest()


def _character(folder: str) -> Iterator[bytes]:
    own = character_folder(folder)
    return _whole([path for name in ("character.png", "face_mask.png") if (path := own / name).is_file()])


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

"""The entry point: finds the verb, reads names and folders alike, and turns users' mistakes into one line and status 2."""

from __future__ import annotations

import errno
import importlib
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from thadistill.config import conf_dir
from thadistill.errors import UserError
from thadistill.sweeps import job
from thadistill.sweeps.job import SweepFailed

STARTED = time.monotonic()  # budgets count from here: imports are part of what a user waits for

VERBS = {
    "assets": "list or fetch weights, sample characters and the face tracker",
    "prepare": "check a picture and bring it to the input rules",
    "cache": "teacher targets to disk",
    "train": "one LightningModule (module=face_morpher|body_rotator|teacher)",
    "distill": "all of it: cache, face morpher, body rotator, evaluation",
    "evaluate": "a student against its teacher",
    "benchmark": "frame rate of a student or a teacher",
    "animate": "a pose track to a video of a student",
    "export": "a student as an ONNX file, or with the browser player around it",
    "serve": "the browser player on this machine",
}
WITH_CHARACTER = ("cache", "train", "distill")
# keys whose values are taken as they are typed: names between commas are no sweep, and paths may hold anything
_AS_TYPED = {"assets": ("path",), "benchmark": ("runtime",), "export": ("model", "out"), "serve": ("model",)}
_SWEEP_FLAGS = {"-m", "--multirun"}
_FLAGS_WITHOUT_CHECK = {*_SWEEP_FLAGS, "--help", "-h", "--hydra-help", "--info", "--version", "--cfg", "-c"}


def main(arguments: list[str] | None = None) -> None:
    """Runs ``thadistill VERB ...``; exits 0, 2 after a user's mistake, 130 when interrupted, else 1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return
    verb, *rest = arguments
    if verb not in VERBS:
        fail(f"'{verb}' is not a command; expected one of {', '.join(VERBS)}: see 'thadistill --help'")
    overrides = with_start(verb, read_folders(verb, rest))
    sweep = bool(_SWEEP_FLAGS & set(overrides))
    if sweep or any(argument.startswith("hydra/") for argument in overrides):
        from thadistill.sweeps.plugins import register

        register()
    if not _FLAGS_WITHOUT_CHECK & set(overrides):
        check(verb, overrides)
    sys.argv = [f"thadistill {verb}", *overrides]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # what is not a user's mistake deserves its traceback
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=verb)(guarded(verb))()
    except UserError as error:
        fail(str(error))
    except SweepFailed as error:
        print(f"thadistill: {error}", file=sys.stderr)
        sys.exit(1)
    except (HydraException, OmegaConfBaseException) as error:
        if not sweep:
            raise
        fail(_one_line(error, verb))
    except KeyboardInterrupt:
        print("interrupted: what was saved is kept, the same command continues", file=sys.stderr)
        sys.exit(130)


def usage() -> str:
    """What ``thadistill`` alone prints."""
    lines = [f"  {verb:<10} {does}" for verb, does in VERBS.items()]
    return "\n".join(
        [
            "usage: thadistill VERB [key=value ...]",
            "",
            *lines,
            "",
            "thadistill VERB --help lists its keys, --cfg job prints its configuration, -m sweeps over values.",
            "The main job, on a sample character with real weights: thadistill distill",
        ]
    )


def guarded(verb: str) -> Callable[[DictConfig], Any]:
    """The verb as Hydra calls it: with the output folder, removed again if a mistake left it empty.

    In a sweep it is a process of its own instead.
    """

    def run(config: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return job.run(job.describe(config, verb))
        out = Path(HydraConfig.get().runtime.output_dir)
        try:
            return importlib.import_module(f"thadistill.cli.{verb}").run(config, out)
        except (UserError, InstantiationException, OSError, RuntimeError) as error:
            mistake = _mistake(error)
            if mistake is None:
                raise
            remove_empty(out)
            fail(str(mistake))

    return run


def _mistake(error: Exception) -> UserError | None:
    """What of an error is the user's to mend: a mistake, also where Hydra wrapped it, or a full disk."""
    cause = error.__cause__ if isinstance(error, InstantiationException) else error
    if isinstance(cause, UserError):
        return cause
    full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    # torch.save reports a full disk in its own words
    if full or (isinstance(cause, RuntimeError) and "PytorchStreamWriter failed writing" in str(cause)):
        return UserError("the disk is full; what was saved is kept: make room, and the same command continues")
    return None


def remove_empty(folder: Path) -> None:
    """Removes a folder that has nothing in it, and what of its parents that leaves empty."""
    while folder.is_dir() and folder != Path.cwd() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def read_folders(verb: str, arguments: list[str]) -> list[str]:
    """Reads values as users write them: ``character=FOLDER``, ``runtime=a,b``, and the puppet teacher's own character."""
    read: list[str] = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "character" and value and not _is_option("character", value):
            read += _characters(value)
        elif key in _AS_TYPED.get(verb, ()) and not _SWEEP_FLAGS & set(arguments):
            read.append(f"{key}={_quoted(value)}")
        else:
            read.append(argument)
    if (
        verb in WITH_CHARACTER
        and "teacher=puppet" in read
        and not any(argument.startswith("character=") for argument in read)
    ):
        read.append("character=puppet")
    return read


def _quoted(value: str) -> str:
    """A value that Hydra's grammar takes as it was typed; what is quoted or a list already, and null, stay as they are."""
    if value in ("", "null") or value[0] in "'\"[":
        return value
    # only backslashes in front of a quote mean anything to it
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def with_start(verb: str, overrides: list[str]) -> list[str]:
    """Adds recipe=warm where nobody has chosen a recipe and there is a start: one of the user's, or that of the package.

    A value within the recipe (recipe.x=) changes that one. The package's weights fit their own sizes and were learned under
    THA3, of which the puppet is no character; and the jobs of a sweep are to be alike.
    """
    if verb != "distill" or _SWEEP_FLAGS & set(overrides):
        return overrides
    chosen = {key.lstrip("+~"): value for key, _, value in (override.partition("=") for override in overrides)}
    if {"recipe", "experiment", "scale", "hparams_search"} & set(chosen):
        return overrides
    has_start = chosen.get("init", "null") != "null"
    if "init" not in chosen and chosen.get("teacher") != "puppet":
        own_sizes = any(key.startswith("student.") for key in chosen)
        has_start = not own_sizes and chosen.get("student", "paper") in ("paper", "slim")
    return [*overrides, "recipe=warm"] if has_start else overrides


def _characters(value: str) -> list[str]:
    """A folder, or several names or folders to sweep over, as overrides: ``a,b``, ``glob(crypko_*)``, ``mine/*``."""
    samples = [path.stem for path in (conf_dir() / "character").glob("*.yaml") if path.stem not in ("folder", "puppet")]
    if value.startswith("glob("):
        pattern = OverridesParser.create().parse_override(f"character={value}").value()
        assert isinstance(pattern, Glob)
        chosen = pattern.filter(sorted(samples))
    elif "*" in value and not Path(value).exists():
        chosen = sorted(str(path.parent) for path in Path.cwd().glob(f"{value}/character.png"))
    else:
        chosen = [value] if Path(value).exists() else value.split(",")
    unknown = [name for name in chosen or [value] if not _is_option("character", name) and not Path(name).is_dir()]
    if unknown:
        expected = f"a folder with character.png, or one of {', '.join(sorted([*samples, 'puppet']))}"
        fail(f"character={unknown[0]} is unknown; expected {expected}")
    folders = [name for name in chosen if not _is_option("character", name)]
    if not folders:
        return [f"character={','.join(chosen)}"]
    if len(folders) < len(chosen):
        fail(f"character={value} mixes names and folders; expected one kind in a sweep: run two")
    quoted = ",".join(f"'{Path(folder).resolve()}'" for folder in folders)
    return ["character=folder", f"character.folder={quoted}"]


def _is_option(group: str, value: str) -> bool:
    return (conf_dir() / group / f"{value}.yaml").is_file()


def check(verb: str, overrides: list[str]) -> None:
    """Composes the configuration once before Hydra does, so that a mistake in it is one line instead of a traceback."""
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            given = [x for x in overrides if not x.startswith("-")]
            config = compose(verb, overrides=given, return_hydra_config=True)
        HydraConfig.instance().set_config(config)  # what ${hydra:...} reads
        missing = [key for key in OmegaConf.missing_keys(config) if not key.startswith("hydra.")]
        if missing:
            fail(f"{sorted(missing)[0]}= is missing; expected a value: see 'thadistill {verb} --help'")
    except (HydraException, OmegaConfBaseException) as error:
        fail(_one_line(error, verb))
    finally:
        GlobalHydra.instance().clear()


def _one_line(error: Exception, verb: str) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("full_key", "object_type", "reference_type", "^"))]
    return f"{' '.join(lines) or type(error).__name__}: see 'thadistill {verb} --help'"


def fail(message: str) -> NoReturn:
    """One line on stderr, exit status 2."""
    print(f"thadistill: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)

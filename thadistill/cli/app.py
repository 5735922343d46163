"""The entry point: finds the verb, reads what was typed, and turns users' mistakes into one line and status 2.

Nothing heavy is imported here before it is needed: help and version answer at once.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import thadistill
from thadistill.cli.help import VERBS, help_of, usage
from thadistill.errors import UserError, mistake

if TYPE_CHECKING:
    from omegaconf import DictConfig

STARTED = time.monotonic()  # budgets count from here: imports are part of what a user waits for
_FLAGS_WITHOUT_RUN = {"--hydra-help", "--info", "-i", "--cfg", "-c"}


def main(arguments: list[str] | None = None) -> None:
    """Runs ``thadistill VERB ...``; exits 0, 2 after a user's mistake, 130 when interrupted, else 1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0].partition("=")[0] in ("--shell-completion", "-sc"):
        from thadistill.cli.completion import complete

        complete(arguments)
        return
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if "--version" in arguments:
        print(f"thadistill {thadistill.__version__}")
        return
    verb, *rest = arguments
    if verb not in VERBS:
        fail(f"'{verb}' is not a command; expected one of {', '.join(VERBS)}: see 'thadistill --help'")
    if {"-h", "--help"} & set(rest):
        print(help_of(verb))
        return
    from thadistill.processes import end_with_parent

    end_with_parent()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may hold what the terminal's encoding does not
            stream.reconfigure(errors="backslashreplace")
    try:
        _run(verb, rest)
    except UserError as error:
        fail(str(error))
    except OSError as error:
        found = mistake(error)
        if found is None:
            raise
        fail(str(found))
    except KeyboardInterrupt:
        print("interrupted: what was saved is kept, the same command continues", file=sys.stderr)
        sys.exit(130)


def _run(verb: str, arguments: Sequence[str]) -> None:
    """Checks what was given, and hands it to Hydra."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from thadistill.config import conf_dir, one_line
    from thadistill.config.overrides import SWEEP_FLAGS, flag_value, read_overrides, split_flags
    from thadistill.sweeps.job import SweepFailed

    flags, given = split_flags(arguments)
    sweep = bool(SWEEP_FLAGS & set(flags))
    if flag_value(flags, "--experimental-rerun") is not None:
        raise UserError("--experimental-rerun runs code that its file holds; expected the overrides themselves")
    own = flag_value(flags, "--config-dir", "-cd")
    if own is not None and not Path(own).is_dir():
        raise UserError(f"--config-dir {own} is no folder; expected one with configs such as recipe/NAME.yaml")
    folders = [conf_dir(), *([] if own is None else [Path(own)])]
    overrides = read_overrides(given, folders, sweep)
    if sweep or any(override.startswith("hydra/") for override in overrides):
        from thadistill.sweeps.plugins import register

        register()
    if "--hydra-help" not in flags and flag_value(flags, "--config-name", "-cn", "--config-path", "-cp") is None:
        check(verb, overrides, own, complete=not _FLAGS_WITHOUT_RUN & {flag.partition("=")[0] for flag in flags})
    sys.argv = [f"thadistill {verb}", *overrides, *flags]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # what is not a user's mistake deserves its traceback
    try:
        with unread_help():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=verb)(guarded(verb))()
    except SweepFailed as error:
        print(f"thadistill: {error}", file=sys.stderr)
        sys.exit(1)
    except (HydraException, OmegaConfBaseException) as error:
        if not sweep:
            raise
        raise UserError(f"{one_line(error)}: see 'thadistill {verb} --help'") from None


@contextmanager
def unread_help() -> Iterator[None]:
    """Keeps argparse from reading the help of options as they are added, which it does from Python 3.14 on.

    Hydra gives it an object there that is no text (hydra issue 3121).
    """
    check = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None:
        yield
        return
    argparse.ArgumentParser._check_help = lambda self, action: None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        argparse.ArgumentParser._check_help = check  # type: ignore[attr-defined]


def _be_the_first(trainer: DictConfig) -> None:
    """Where a trainer is one process, this is the first of its training, whatever SLURM calls it."""
    from thadistill.console import console
    from thadistill.devices import is_alone  # brings torch, which verbs without a trainer may do without
    from thadistill.processes import train_alone

    if is_alone(trainer):
        train_alone()
        console.quiet = False


def guarded(verb: str) -> Callable[[DictConfig], Any]:
    """The verb as Hydra calls it: with the output folder, removed again if a mistake left it empty.

    In a sweep it is a process of its own instead.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import InstantiationException
    from hydra.types import RunMode

    from thadistill.sweeps import job

    def run(config: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            described = job.describe(config, verb)
            job.check_folder(described)
            return job.run(described)
        out = Path(HydraConfig.get().runtime.output_dir)
        if "trainer" in config:
            _be_the_first(config.trainer)
        try:
            return importlib.import_module(f"thadistill.cli.{verb}").run(config, out)
        except (UserError, InstantiationException, OSError, RuntimeError) as error:
            # Hydra wraps what happens while it makes an object
            found = mistake(error.__cause__ if isinstance(error, InstantiationException) else error)
            if found is None:
                raise
            remove_empty(out)
            fail(str(found))

    return run


def remove_empty(folder: Path) -> None:
    """Removes a folder that has nothing in it, and what of its parents that leaves empty."""
    while folder.is_dir() and folder != Path.cwd() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def check(verb: str, overrides: Sequence[str], config_dir: str | None = None, complete: bool = True) -> None:
    """Composes the config once before Hydra does, so that a mistake in it is one line instead of a traceback.

    Of a sweep the first combination is composed. ``complete``: whether a value that is missing is a mistake.

    Raises: UserError.
    """
    from omegaconf import OmegaConf

    from thadistill.config import compose
    from thadistill.config.schema import check_accounts

    config = compose(verb, [one for override in overrides for one in _first(override)], config_dir)
    missing = sorted(OmegaConf.missing_keys(config))
    if missing and complete:
        raise UserError(f"{missing[0]}= is missing; expected a value: see 'thadistill {verb} --help'")
    if complete:
        check_accounts(config)


def _first(override: str) -> list[str]:
    """An override with the first of its values; none where a search is to find them, or Hydra shall say what is wrong."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
        if not parsed.is_sweep_override():
            return [override]
        if not (parsed.is_choice_sweep() or parsed.is_range_sweep()):
            return []
        return [f"{override.partition('=')[0]}={next(iter(parsed.sweep_string_iterator()))}"]
    except (HydraException, StopIteration):
        return [override]


def fail(message: str) -> NoReturn:
    """One line on stderr, exit status 2."""
    print(f"thadistill: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)

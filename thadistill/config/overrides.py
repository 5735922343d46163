"""Overrides: what users type as KEY=VALUE, brought into the words of Hydra's grammar.

Paths and names are taken as they are typed, whatever characters they hold; characters are names or folders alike.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from thadistill.config.schema import is_as_typed, kind_of
from thadistill.errors import UserError

SWEEP_FLAGS = {"-m", "--multirun", "hydra.mode=MULTIRUN"}
# Hydra's flags that take the next argument as their value
FLAGS_WITH_VALUE = {
    "--config-dir",
    "-cd",
    "--config-path",
    "-cp",
    "--config-name",
    "-cn",
    "--cfg",
    "-c",
    "--package",
    "-p",
}
FLAGS_WITH_VALUE |= {"--info", "-i", "--experimental-rerun", "--shell-completion", "-sc"}
_NO_SAMPLES = ("folder", "puppet")
_SWEEP = re.compile(r"(choice|glob|range|interval|shuffle|sort|tag)\(.*\)", re.DOTALL)
_QUOTED = re.compile(r"'([^'\\]|\\.)*'|\"([^\"\\]|\\.)*\"", re.DOTALL)


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags, with their values, and the overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    value_next = False
    for argument in arguments:
        if value_next or argument.startswith("-") or argument == "hydra.mode=MULTIRUN":
            flags.append(argument)
            value_next = not value_next and argument in FLAGS_WITH_VALUE
        else:
            overrides.append(argument)
    return flags, overrides


def flag_value(flags: Sequence[str], *names: str) -> str | None:
    """The value of one of Hydra's flags: ``--config-dir DIR`` or ``--config-dir=DIR``."""
    for index, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        if name in names:
            return value if equals else next(iter(flags[index + 1 :]), None)
    return None


def read_overrides(overrides: Iterable[str], conf: Sequence[Path], sweep: bool = False) -> list[str]:
    """KEY=VALUE as typed, in Hydra's grammar.

    Args:
        conf: folders of configs, whose ``character`` groups say what is a name and not a folder.
        sweep: whether values between commas are several; what lies on the disk as a whole is one all the same.

    Raises: UserError for a character that is neither.
    """
    read: list[str] = []
    for override in overrides:
        name, equals, value = override.partition("=")
        key = name.lstrip("+")
        if key == "character" and value:
            read += _characters(value, conf)
        elif sweep and key == "out":
            if not value:
                raise UserError("out=; expected a folder: give its name")
            read.append(f"hydra.sweep.dir={_as_typed('hydra.sweep.dir', value, sweep=False)}")
        elif equals and is_as_typed(key):
            read.append(f"{name}={_as_typed(key, value, sweep)}")
        else:
            read.append(override)
    return read


def quoted(value: str) -> str:
    """A string of Hydra's grammar that means ``value`` to the letter."""
    # only backslashes in front of a quote mean anything to it
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def unquoted(value: str) -> str:
    """What a string of Hydra's grammar means; what is not quoted is itself."""
    if not _QUOTED.fullmatch(value):
        return value
    quote = value[0]
    # backslashes in front of a quote, or of the end, stand for half of them
    return re.sub(rf"(\\+)({quote}|$)", lambda found: found[1][: len(found[1]) // 2] + found[2], value[1:-1])


def _as_typed(key: str, value: str, sweep: bool) -> str:
    kind = kind_of(key)
    assert kind is not None
    if value in ("", "null", "???") or _QUOTED.fullmatch(value):
        return value
    if value.lower() in ("true", "false") and kind.accepts(True):
        return value
    if value[0] == "[" and value[-1] == "]" and kind.accepts(["a name"]) and not Path(value).exists():
        return value
    if not sweep:
        return quoted(value)
    if _SWEEP.fullmatch(value) or value[0] in "'\"":
        return value
    return ",".join(quoted(part) for part in _parts(value))


def _parts(value: str) -> list[str]:
    """What stands between commas; commas of paths that exist divide nothing."""
    pieces, parts, first = value.split(","), [], 0
    while first < len(pieces):
        ends = range(len(pieces), first, -1)
        last = next((end for end in ends if end == first + 1 or _exists(",".join(pieces[first:end]))), first + 1)
        parts.append(",".join(pieces[first:last]))
        first = last
    return parts


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # too long for a name
        return False


def _characters(value: str, conf: Sequence[Path]) -> list[str]:
    """A picture or folder, or several names or folders to sweep over: ``a,b``, ``glob(crypko_*)``, ``mine/*``."""
    known = {path.stem for folder in conf for path in (folder / "character").glob("*.yaml")}
    samples = sorted(known - set(_NO_SAMPLES))
    value = unquoted(value)
    if value in known:
        return [f"character={value}"]
    pattern = re.fullmatch(r"glob\((.*)\)", value)
    if pattern and not _exists(value):
        chosen = _globbed(pattern[1], samples)
    elif re.search(r"[*?\[]", value) and not _exists(value) and not any(_exists(part) for part in _parts(value)):
        chosen = sorted(str(Path(path).parent) for path in glob.glob(f"{value}/character.png"))
    else:
        chosen = _parts(value)
    unknown = [name for name in chosen or [value] if name not in known and not _exists(name)]
    if unknown:
        expected = f"a picture, a folder with character.png, or one of {', '.join(sorted([*samples, 'puppet']))}"
        raise UserError(f"character={unknown[0]} is unknown; expected {expected}")
    folders = [name for name in chosen if name not in known]
    if not folders:
        return [f"character={','.join(chosen)}"]
    if len(folders) < len(chosen):
        raise UserError(f"character={value} mixes names and folders; expected one kind in a sweep: run two")
    return ["character=folder", f"character.folder={','.join(quoted(str(Path(name).resolve())) for name in folders)}"]


def _globbed(pattern: str, names: Sequence[str]) -> list[str]:
    """Hydra's glob over names: ``*``, ``[a*,b*]``, ``*,exclude=a*``."""
    include, _, exclude = pattern.partition("exclude=")

    def patterns(text: str) -> list[str]:
        return [
            part.strip() for part in text.strip(" []").removeprefix("include=").strip(" [],").split(",") if part.strip()
        ]

    wanted, unwanted = patterns(include.strip().rstrip(",")), patterns(exclude)
    return [
        name
        for name in names
        if any(fnmatchcase(name, one) for one in wanted) and not any(fnmatchcase(name, one) for one in unwanted)
    ]

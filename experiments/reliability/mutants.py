"""Mutants: files spoiled by number, as bytes and by their structure; what fuzz.py gives to the loaders.

A mutant that no loader may accept (code to run, a path out of its folder) says so: ``refuse``.
"""

from __future__ import annotations

import json
import pickle
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

RAN = "ran"  # the folder that a pickle or a YAML tag makes where its code is run
BOMB = zlib.compress(bytes(64 << 20), 9)  # 64 kB for 64 MB
_MAGICS = (b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"\x93NUMPY\x01\0", b"\x80\x02", b"GIF89a", b"RIFF\xff\xff\xff\xffWEBP")
_HUGE = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\xc0\x7f", b"\0\0\x80\xff", b"\0" * 4)
PATHS = (
    "../other/{}",
    "../../etc/passwd",
    "/etc/passwd",
    "a/../../other/{}",
    "..\\other\\{}",
    "C:\\{}",
    "{}\0",
    "//x/{}",
)
_DEEP = 20_000


class Mutant(NamedTuple):
    """A file's content; ``bytes_only``: its structure was left alone, so that checksums have to tell."""

    content: bytes
    refuse: bool = False
    bytes_only: bool = False


class _Code:
    """What a pickle runs when it is opened without care."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (RAN,)


CODE = pickle.dumps({"weight": _Code()}, protocol=2)


def pick(generator: np.random.Generator, choices: Sequence[Any]) -> Any:
    """One of some choices."""
    return choices[int(generator.integers(len(choices)))]


def spoil_bytes(data: bytes, generator: np.random.Generator) -> Mutant:
    """Cut, flipped, overwritten, doubled, moved, grown; noise, nothing, another format's beginning."""
    kind, size = int(generator.integers(10)), max(1, len(data))
    place = int(generator.integers(size))
    made = bytearray(data)
    if kind == 0:
        made = made[:place]
    elif kind <= 3:
        for at in generator.integers(0, size, int(generator.integers(1, 8 if kind < 3 else 200))):
            if at < len(made):
                made[at] ^= 1 << int(generator.integers(8))
    elif kind == 4:
        for at in generator.integers(0, size, int(generator.integers(1, 6))):
            made[at : at + 4] = pick(generator, _HUGE)
    elif kind == 5:
        made[place:place] = made[int(generator.integers(size)) :][: int(generator.integers(1, 4096))]
    elif kind == 6:
        del made[place : place + int(generator.integers(1, 256))]
    elif kind == 7:
        made += generator.bytes(int(generator.integers(1, 64)))
    elif kind == 8:
        made = bytearray(pick(generator, _MAGICS) + generator.bytes(int(generator.integers(0, 400))))
    else:
        made = bytearray(pick(generator, (b"", b"\0" * 4096, b"\xff\xfe", b"\n", CODE, BOMB[:4096])))
    return Mutant(bytes(made), bytes_only=kind <= 7)


ODD_JSON = (
    *(
        "null",
        "true",
        "-1",
        "0",
        "1",
        "2",
        "1e400",
        "NaN",
        "-Infinity",
        "9" * 400,
        "9" * 5000,
        "1e308",
        "-0.0",
        "1e-320",
    ),
    *("[]", "{}", "[null]", "[[1]]", '{"a": 1}', "[1, 2, 3]", '""', '"x"', '"nan"', '"1"', '"\\u0000"', '"\\ud800"'),
    *(
        '"a\\nb\\u001b[2J"',
        f'"{"x" * 50_000}"',
        "[" * _DEEP + "]" * _DEEP,
        '{"a":' * _DEEP + "1" + "}" * _DEEP,
        "2147483648",
    ),
    *("-9223372036854775809", "0.1", "[1e999]", "[true]", "123456789012"),
)
_ODD_KEYS = ("", "x", "__proto__", "format", "a" * 3000, "\n", "time", "0")


def spoil_json(content: Any, generator: np.random.Generator, files: Sequence[str] = ()) -> Mutant:
    """A value swapped, a key gone, doubled or renamed; once or several times. ``files``: values that name files."""
    tree, raw = json.loads(json.dumps(content)), {}
    refuse = False
    for number in range(int(pick(generator, (1, 1, 1, 2, 4)))):
        parent, key = _place(tree, generator)
        if parent is None:
            return Mutant(pick(generator, ODD_JSON).encode("utf-8", "surrogatepass"))
        kind = int(generator.integers(6))
        if parent[key] in files and kind < 4:
            shape = pick(generator, PATHS)
            parent[key], refuse = shape.format(parent[key]), True
        elif kind <= 2:
            parent[key] = f"@{number}@"
            raw[f'"@{number}@"'] = pick(generator, ODD_JSON)
        elif kind == 3:
            del parent[key]
        elif kind == 4 and isinstance(parent, list):
            parent[key:key] = parent[key:] * int(generator.integers(1, 4))
        elif kind == 4:
            parent[pick(generator, _ODD_KEYS)] = parent.pop(key)
        else:
            other, place = _place(tree, generator)
            parent[key] = json.loads(json.dumps(None if other is None else other[place]))
    text = json.dumps(tree)
    for mark, odd in raw.items():
        text = text.replace(mark, odd, 1)
    encoded = text.encode("utf-8", "surrogatepass")
    return Mutant(
        pick(generator, (b"", b"", b"", b"\xef\xbb\xbf")) + encoded, refuse and bool(files) and _names(tree, files)
    )


def _names(tree: Any, files: Sequence[str]) -> bool:
    """Whether a path out of the folder is among the tree's paths still: a later change may have taken it away."""
    manifest = tree.get("weightsManifest") if isinstance(tree, dict) else None
    groups = [group for group in manifest if isinstance(group, dict)] if isinstance(manifest, list) else []
    text = json.dumps([group.get("paths") for group in groups])
    return any(json.dumps(shape.format(name))[1:-1] in text for shape in PATHS for name in files)


def _place(tree: Any, generator: np.random.Generator) -> tuple[Any, Any]:
    """A container in a tree and a key of it; None for the root of a tree without any."""
    found, node = (None, None), tree
    while isinstance(node, (dict, list)) and node:
        key = pick(generator, [*node] if isinstance(node, dict) else range(len(node)))
        found, node = (node, key), node[key]
        if generator.random() < 0.15:
            break
    return found


ODD_YAML = (
    f"!!python/object/apply:os.mkdir [{RAN}]",
    f'!!python/object/new:os.mkdir ["{RAN}"]',
    "!!python/name:os.system",
    "2001-13-45",
    "!!int x",
    "!!float x",
    "!!binary x",
    "!!timestamp 0",
    "&a [*a]",
    "[" * 2000,
    "{a: " * 2000,
    "[&a0 [x], " + ", ".join(f"&a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)) + "]",
    "? [a]\n: b",
    "\t- x",
    "!!set {a}",
    "0x7fffffffffffffffffff",
    ".nan",
    "~",
    "''",
    ".",
    "x" * 300,
    '"a\\nb"',
    '"\\0"',
    "--- a\n--- b",
    "%YAML 9.9\n---\n",
)


def spoil_yaml(values: Mapping[str, str], generator: np.random.Generator) -> Mutant:
    """A mapping of names of files: a value swapped for an odd one or a path out of the folder, a key gone or doubled."""
    made, refuse = dict(values), False
    key = pick(generator, [*made])
    kind = int(generator.integers(5))
    if kind == 0:
        del made[key]
    elif kind <= 2:
        made[key] = pick(generator, ODD_YAML)
        refuse = "os.mkdir" in made[key]
    elif kind == 3:
        made[key], refuse = json.dumps(pick(generator, PATHS).format(made[key])), True
    text = "\n".join(f"{name}: {value}" for name, value in made.items())
    if kind == 4:
        text = pick(generator, (pick(generator, ODD_YAML), text + "\n" + text, f"- {text}", text * 3000))
    return Mutant(text.encode(), refuse)


def spoil_table(text: str, generator: np.random.Generator) -> Mutant:
    """Cells, rows, separators and encodings of a CSV file."""
    rows = [line.split(",") for line in text.splitlines()]
    odd = (
        "nan",
        "inf",
        "-1",
        "2",
        "1e999",
        "9" * 400,
        "",
        "x",
        '"',
        '"a\nb',
        "\0",
        "٣",
        "0x10",
        "1;2",
        "1,5",
        "x" * 140_000,
        "-",
    )
    for _ in range(int(pick(generator, (1, 1, 3)))):
        row = pick(generator, rows)
        cell, kind = int(generator.integers(len(row))), int(generator.integers(6))
        if kind <= 2:
            row[cell] = pick(generator, odd)
        elif kind == 3:
            row.insert(cell, pick(generator, odd))
        elif kind == 4 and len(row) > 1:
            del row[cell]
        else:
            rows.insert(int(generator.integers(len(rows))), pick(generator, ([""], ["x"], [*row], row[:3])))
    separator = pick(generator, (",", ",", ",", ";", "\t", ", "))
    made = pick(generator, ("\n", "\n", "\r\n", "\r", "\n\n")).join(separator.join(row) for row in rows)
    return Mutant(made.encode(pick(generator, ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32")), "replace"))

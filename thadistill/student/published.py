"""Published web characters: TensorFlow.js files to the tensors that CharacterModel.load opens.

A folder without a YAML file: ``face_morpher.json`` and ``body_morpher.json`` (TF.js "layers-model"; arrays named
``<layer>/kernel`` [1, 1, in, out] and ``<layer>/bias`` [out], ``<layer>`` as in the .pt files), each with its
``.weights.bin`` (float32, little-endian), and ``character.png``.

Here rather than in ``export``, which builds on characters: CharacterModel.load calls it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thadistill.errors import UserError, first_line
from thadistill.files import read_json

IMAGE, FACE_MORPHER, BODY_MORPHER = "character.png", "face_morpher.json", "body_morpher.json"
_KINDS = {"kernel": "weight", "bias": "bias"}


def is_published(folder: Path) -> bool:
    """Whether a folder holds a web character."""
    return (folder / FACE_MORPHER).is_file()


def load_layers_model(path: Path) -> dict[str, Tensor]:
    """Reads one TF.js layers model as tensors with the names and shapes of the .pt files.

    Nothing is allocated for a shape before the files are known to hold as many values.

    Raises: UserError when a file is missing, cut short or too long, of another format, quantised, outside the folder, or
        holds values that are not finite.
    """
    groups = _manifest(path)
    tensors: dict[str, Tensor] = {}
    for group in groups:
        entries = [_entry(path, entry) for entry in _list(path, group, "weights")]
        files = [file_beside(path, name, "weights") for name in _list(path, group, "paths")]
        data = _read(path, files, 4 * sum(math.prod(shape) for _, shape in entries))
        at = 0
        for name, shape in entries:
            if name in tensors:
                raise UserError(f"{path} has {name} twice; expected each array once")
            array = np.frombuffer(data, "<f4", math.prod(shape), at).reshape(shape)
            at += array.nbytes
            if not np.isfinite(array).all():
                raise UserError(f"{path} has values in {name} that are not finite; expected trained weights")
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
            tensors[name] = torch.from_numpy(np.array(array, np.float32, order="C"))
    return tensors


def _manifest(path: Path) -> list[Any]:
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; expected a web character's network: check the folder") from None
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise UserError(f"{path} cannot be read ({reason}); expected a TF.js layers model") from None
    found = content.get("format") if isinstance(content, Mapping) else None
    if found != "layers-model":
        raise UserError(f"{path} has the format {_brief(found)}; expected a TF.js layers-model")
    return _list(path, content, "weightsManifest")


def _list(path: Path, group: object, key: str) -> list[Any]:
    value = group.get(key) if isinstance(group, Mapping) else None
    if not isinstance(value, list) or not value:
        raise UserError(f"{path} has no list of {key}; expected a TF.js layers model's")
    return value


def _entry(path: Path, entry: object) -> tuple[str, list[int]]:
    """An array's name, as the .pt files have it, and its shape in the file."""
    entry = entry if isinstance(entry, Mapping) else {}
    name, shape = entry.get("name"), entry.get("shape")
    layer, _, kind = name.rpartition("/") if isinstance(name, str) else ("", "", "")
    if not layer or kind not in _KINDS:
        raise UserError(f"{path} has an array named {_brief(name)}; expected <layer>/kernel and <layer>/bias")
    if entry.get("dtype") != "float32" or entry.get("quantization") is not None:
        raise UserError(f"{path} has {_brief(name)} quantised, or not in float32; expected float32: convert it without")
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        raise UserError(f"{path} has {_brief(name)} of shape {_brief(shape)}; expected whole numbers above 0")
    if len(shape) != (4 if kind == "kernel" else 1) or (kind == "kernel" and shape[:2] != [1, 1]):
        raise UserError(f"{path} has {_brief(name)} of shape {_brief(shape)}; expected [1, 1, in, out], a bias [out]")
    return f"{layer}.{_KINDS[kind]}", shape


def file_beside(path: Path, name: object, what: str) -> Path:
    """The file that a manifest calls ``name``, which may not lie outside the manifest's folder.

    Raises: UserError, which calls the file ``what``.
    """
    posix = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("..")
    outside = posix.is_absolute() or ".." in posix.parts or len(str(name)) > 255
    if outside or any(character in str(name) for character in "\\\0") or PureWindowsPath(str(name)).drive:
        raise UserError(f"{path} names {_brief(name)} as its {what}; expected a file in its own folder")
    return path.parent / posix


def _read(path: Path, files: list[Path], size: int) -> bytes:
    """The weights, of ``size`` bytes in all."""
    for file in files:
        if not file.is_file():
            raise UserError(f"{file} does not exist; expected the weights of {path.name}: check the folder")
    found = sum(file.stat().st_size for file in files)
    if found != size:
        raise UserError(f"{files[0]} has {found} bytes; expected {size}, as {path.name} says: download it again")
    return b"".join(file.read_bytes() for file in files)


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

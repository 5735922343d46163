"""Character file: one student as one file for the browser player, picture and weights together.

The container is safetensors: 8 bytes of header length, a JSON header, the arrays. ``thadistill/web/character.js`` reads it.

| entry | what |
|---|---|
| ``face_morpher.*``, ``body_rotator.*`` | float32 tensors by the names of the published files, without omega |
| ``picture`` | uint8: the character as a PNG file, 512x512 RGBA |
| ``visible`` | uint8 [size * size / 8]: bit i % 8 (highest first) of byte i // 8 says whether pixel i is ever painted |
| metadata ``format``, ``version`` | ``thadistill.character``, ``1`` |
| metadata ``name``, ``architecture`` | the menu's name; JSON: what FaceMorpher and BodyRotator are made with |
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from safetensors.torch import load, save
from torch import Tensor

from thadistill.errors import UserError, first_line
from thadistill.images import IMAGE_SIZE, encode_rgba, to_pil
from thadistill.images.picture import decode_picture
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher
from thadistill.student.character_model import Network, filled
from thadistill.student.siren import SineLayer
from thadistill.tensors import oddity

FORMAT = "thadistill.character"
VERSION = "1"
SUFFIX = ".safetensors"


def pack_character(model: CharacterModel, name: str, visible: Bool[np.ndarray, "size size"]) -> bytes:
    """A student as a character file.

    Args:
        model: the student; its levels must double.
        name: what the player's menu calls it.
        visible: the pixels of the frame, of the last level's size, that it ever paints; the others are left transparent.
    """
    picture = io.BytesIO()
    to_pil(model.image).save(picture, format="PNG", optimize=True)
    tensors = {
        f"{part}.{key}": value.detach().float().cpu().contiguous()
        for part in ("face_morpher", "body_rotator")
        for key, value in getattr(model, part).state_dict().items()
    }
    tensors["picture"] = torch.frombuffer(bytearray(picture.getvalue()), dtype=torch.uint8)
    tensors["visible"] = torch.from_numpy(np.packbits(visible))
    architecture = {"face_morpher": _face_architecture(model), "body_rotator": _body_architecture(model)}
    metadata = {"format": FORMAT, "version": VERSION, "name": name, "architecture": json.dumps(architecture)}
    return _sorted(save(tensors, metadata))


def _sorted(packed: bytes) -> bytes:
    """The same file with its metadata in order, which safetensors does not keep: a student is exported to the same bytes."""
    start = 8 + int.from_bytes(packed[:8], "little")
    header = json.loads(packed[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + packed[start:]


def _face_architecture(model: CharacterModel) -> dict[str, Any]:
    layers: list[SineLayer] = list(model.face_morpher.siren.sine_layers)  # type: ignore[arg-type]
    return {"width": len(layers[0].bias), "depth": len(layers), "omega": float(layers[0].omega)}


def _body_architecture(model: CharacterModel) -> dict[str, Any]:
    levels: list[list[SineLayer]] = [list(level) for level in model.body_rotator.siren_layers]  # type: ignore[call-overload]
    return {
        "sizes": list(model.body_rotator.sizes),
        "widths": [len(layers[0].bias) for layers in levels],
        "depth": len(levels[0]),
        "omega": float(levels[0][0].omega),
    }


def file_name(name: str) -> str:
    """A character's file name in a site: its name with anything but letters, digits, ``.``, ``_`` and ``-`` replaced."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', name).strip('._') or 'character'}{SUFFIX}"


def unpack_character(packed: bytes, source: str = "the character file") -> tuple[CharacterModel, np.ndarray]:
    """The student of a character file, and its visible pixels, bool [size, size].

    Args:
        packed: the file's content.
        source: what errors call it.

    Raises: UserError when it is damaged or something else.
    """
    try:
        # safetensors reads metadata of files on disk only
        metadata = json.loads(packed[8 : 8 + int.from_bytes(packed[:8], "little")])["__metadata__"]
        if (metadata["format"], metadata["version"]) != (FORMAT, VERSION):
            raise UserError(f"a {metadata['format']} {metadata['version']} came; expected {FORMAT} {VERSION}")
        tensors = load(packed)
        architecture = json.loads(metadata["architecture"])
        picture = decode_picture(io.BytesIO(tensors.pop("picture").numpy().tobytes()), "its picture")
        if picture.size != (IMAGE_SIZE, IMAGE_SIZE) or not picture.kind.startswith("PNG "):
            width, height = picture.size
            raise UserError(
                f"a picture of {width}x{height}, {picture.kind}, came; expected {IMAGE_SIZE}x{IMAGE_SIZE} PNG"
            )
        image = encode_rgba(np.asarray(picture.image))
        size = architecture["body_rotator"]["sizes"][-1]
        visible = np.unpackbits(tensors.pop("visible").numpy()).astype(bool).reshape(size, size)
        face = _network(FaceMorpher, "face_morpher", architecture, tensors)
        body = _network(BodyRotator, "body_rotator", architecture, tensors)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    except Exception as error:  # of safetensors, Pillow, and whatever a damaged header makes stumble
        reason = first_line(error)
        raise UserError(
            f"{source} cannot be read ({reason}); expected a character file of 'thadistill export format=web'"
        ) from None
    return CharacterModel(image, face, body).eval(), visible


def _network(
    make: Callable[..., Network], part: str, architecture: dict[str, Any], tensors: dict[str, Tensor]
) -> Network:
    own = {key.removeprefix(f"{part}."): value for key, value in tensors.items() if key.startswith(f"{part}.")}
    for key, value in own.items():
        if (odd := oddity(value)) is not None:
            raise UserError(f"{part}.{key}, {odd}; expected finite numbers: export it again")
    if not 1 <= architecture[part]["depth"] <= len(own):  # or as many layers would be made before they are compared
        raise ValueError(f"{part} of depth {architecture[part]['depth']} with {len(own)} tensors")
    return filled(partial(make, **architecture[part]), own, part)

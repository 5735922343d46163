"""Character file: one student as one file for the browser player, picture and weights together.

The container is safetensors: 8 bytes of header length, a JSON header, the arrays. ``thadistill/web/character.js`` reads it.

| entry | what |
|---|---|
| ``face_morpher.*``, ``body_rotator.*`` | float32 tensors by the names of the published files, without omega |
| ``picture`` | uint8: the character as a PNG file, 512x512 RGBA |
| ``visible`` | uint8 [32768]: bit i % 8 (highest first) of byte i // 8 says whether pixel i is ever painted |
| metadata ``format``, ``version`` | ``thadistill.character``, ``1`` |
| metadata ``name``, ``architecture`` | the menu's name; JSON: sizes, and omega of each network |
"""

from __future__ import annotations

import io
import json
import re

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from safetensors.torch import save

from thadistill.images import IMAGE_SIZE, to_rgba8
from thadistill.student import CharacterModel
from thadistill.student.siren import SineLayer

FORMAT = "thadistill.character"
VERSION = "1"
SUFFIX = ".safetensors"


def pack_character(model: CharacterModel, name: str, visible: Bool[np.ndarray, "512 512"]) -> bytes:
    """A student as a character file.

    Args:
        model: the student; its levels must double.
        name: what the player's menu calls it.
        visible: the pixels that it ever paints; the others are left transparent.
    """
    picture = io.BytesIO()
    Image.fromarray(to_rgba8(model.image), mode="RGBA").save(picture, format="PNG", optimize=True)
    tensors = {
        f"{part}.{key}": value.detach().float().cpu().contiguous()
        for part in ("face_morpher", "body_rotator")
        for key, value in getattr(model, part).state_dict().items()
    }
    tensors["picture"] = torch.frombuffer(bytearray(picture.getvalue()), dtype=torch.uint8)
    tensors["visible"] = torch.from_numpy(np.packbits(visible))
    architecture = {
        "sizes": list(model.body_rotator.sizes),
        "image_size": IMAGE_SIZE,
        "omega": {"face_morpher": _omega(model.face_morpher), "body_rotator": _omega(model.body_rotator)},
    }
    metadata = {"format": FORMAT, "version": VERSION, "name": name, "architecture": json.dumps(architecture)}
    return save(tensors, metadata)


def _omega(network: torch.nn.Module) -> float:
    factors = {layer.omega for layer in network.modules() if isinstance(layer, SineLayer)}
    assert len(factors) == 1  # a network is made with one
    return float(factors.pop())


def file_name(name: str) -> str:
    """A character's file name in a site: its name with anything but letters, digits, ``.``, ``_`` and ``-`` replaced."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', name).strip('._') or 'character'}{SUFFIX}"

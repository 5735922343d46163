"""Web export: students packed for the browser player, each checked against the student it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool

from thadistill.errors import UserError
from thadistill.export.character_file import file_name, pack_character, unpack_character
from thadistill.metrics.image import psnr
from thadistill.runtime import compile_model
from thadistill.runtime.visible import find_visible, sampled_poses
from thadistill.student import CharacterModel

_CHECKED = 4  # poses
LEAST_DB = 70.0


@dataclass(frozen=True)
class Exported:
    """A student that the player can show."""

    name: str
    model: CharacterModel
    packed: bytes | None = None  # where it came as a character file

    @property
    def file(self) -> str:
        """Its file's name within the site's ``characters/``."""
        return file_name(self.name)

    def pack(self) -> bytes:
        """The character file, made (seconds, the first time on a machine) unless there is one.

        Raises: UserError when its frames are not the student's.
        """
        return self.packed if self.packed is not None else _checked(self.model, self.name)


def visible_pixels(model: CharacterModel) -> Bool[np.ndarray, "512 512"]:
    """The pixels that the player computes: all but what no pose paints by more than a 8-bit frame would show."""

    def begin():  # type: ignore[no-untyped-def]
        whole = compile_model(model, "exact", reuse=False, visible=False)
        return lambda pose: whole(torch.from_numpy(pose)[None]).posed[0].numpy()

    return find_visible(model, False, None, begin)


def _checked(model: CharacterModel, name: str) -> bytes:
    packed = pack_character(model, name, visible_pixels(model))
    again, visible = unpack_character(packed)
    shown = torch.from_numpy(visible)
    with torch.inference_mode():
        for pose in sampled_poses(_CHECKED).split(1):
            frame = torch.where(shown, again(pose).posed, -1.0)
            quality = float(psnr(frame, model(pose).posed))
            if quality < LEAST_DB:
                raise UserError(
                    f"the exported {name} is {quality:.1f} dB from its student; expected {LEAST_DB:g} or more: "
                    "nothing was written"
                )
    return packed

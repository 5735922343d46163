"""Preparing: a picture of a character, cropped and scaled to the input rules of the networks.

The rules: 512x512 RGBA, one upright front-facing character on an alpha of exactly 0, the head
roughly inside the 128x128 box centred in the upper half.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from thadistill.errors import UserError
from thadistill.images import IMAGE_SIZE, Region, open_png

HEAD_BOX = Region(64, 192, 192, 320)
FAINT = 8  # of 255: alpha below this is the haze that cut-out tools leave, and is cleared
HEAD_TO_BODY = 0.28  # where nothing else is known: the head's share of a standing character's height


@dataclass(frozen=True)
class Prepared:
    """A character image that obeys the rules, and how it was come by."""

    character: Image.Image  # 512x512 RGBA
    scale: float
    offset: tuple[int, int]  # where the given picture's top left corner went
    notes: tuple[str, ...]


def prepare(path: str | Path, head: tuple[float, float, float, float] | None = None) -> Prepared:
    """Scales and shifts a picture so that its head fills the head box, and clears what is almost transparent.

    Args:
        path: a PNG with transparency, any size.
        head: the head's box in the picture (left, top, right, bottom, pixels). None: guessed from the outline, where the
            picture is not 512x512 already.

    Raises: UserError when the file is no PNG, has no transparency or nothing on it, or the head's box is not in it.
    """
    picture = open_png(path)
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        raise UserError(f"{path} has no transparency ({picture.mode}); expected a character cut out on alpha 0")
    rgba = np.asarray(picture.convert("RGBA")).copy()
    alpha = rgba[..., 3]
    notes = []
    haze = (alpha > 0) & (alpha < FAINT)
    if haze.any():
        notes.append(f"cleared {int(haze.sum())} almost transparent pixels")
    rgba[alpha < FAINT] = 0
    if not rgba[..., 3].any():
        raise UserError(f"{path} is transparent everywhere; expected a character")
    if float((rgba[..., 3] > 0).mean()) > 0.97:
        raise UserError(f"{path} is opaque almost everywhere; expected a character cut out on alpha 0")
    if head is None and picture.size == (IMAGE_SIZE, IMAGE_SIZE):
        notes.append("kept the framing of the 512x512 picture: give head=[left,top,right,bottom] to change it")
        return Prepared(Image.fromarray(rgba), 1.0, (0, 0), tuple(notes))
    if head is None:
        head = _guess_head(rgba[..., 3])
        notes.append("guessed the head from the outline: give head=[left,top,right,bottom] if prepare.png looks wrong")
    left, top, right, bottom = head
    if not (0 <= left < right <= picture.width and 0 <= top < bottom <= picture.height):
        raise UserError(
            f"head={list(head)}; expected left < right <= {picture.width}, top < bottom <= {picture.height}"
        )
    box_height = HEAD_BOX.bottom - HEAD_BOX.top
    scale = box_height / max(right - left, bottom - top)
    middle_x, middle_y = (left + right) / 2 * scale, (top + bottom) / 2 * scale
    offset = (
        round((HEAD_BOX.left + HEAD_BOX.right) / 2 - middle_x),
        round((HEAD_BOX.top + HEAD_BOX.bottom) / 2 - middle_y),
    )
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # premultiplied while scaling: colours hidden under alpha 0 must not bleed into the outline
    scaled = Image.fromarray(rgba).convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    page = Image.new("RGBA", (IMAGE_SIZE, IMAGE_SIZE))
    page.paste(scaled, offset)
    cleared = np.asarray(page).copy()
    cleared[cleared[..., 3] < FAINT] = 0
    notes.append(f"scaled by {scale:.3f}, moved by {offset}")
    return Prepared(Image.fromarray(cleared), scale, offset, tuple(notes))


def _guess_head(alpha: np.ndarray) -> tuple[float, float, float, float]:
    """The head at the top of the outline: as high as its share of the figure, around the outline's middle there."""
    rows = np.where((alpha > 127).any(axis=1))[0]
    if len(rows) == 0:
        rows = np.where((alpha > 0).any(axis=1))[0]
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.where((alpha > 0).any(axis=0))[0]
    width = int(columns[-1]) + 1 - int(columns[0])
    height = min(bottom - top, max(HEAD_TO_BODY * (bottom - top), 0.5 * width if width > bottom - top else 0))
    band = alpha[top : top + max(1, int(height))]
    across = np.where((band > 127).any(axis=0))[0] if (band > 127).any() else columns
    middle = (int(across[0]) + int(across[-1]) + 1) / 2
    half = height / 2
    return (max(0.0, middle - half), float(top), min(float(alpha.shape[1]), middle + half), float(top + height))


def overlay(character: Image.Image) -> Image.Image:
    """The character on white with the boxes the networks look at, to check by eye: head (red) and teacher's face (blue)."""
    page = Image.new("RGBA", character.size, "white")
    page.alpha_composite(character)
    drawing = ImageDraw.Draw(page)
    for region, color in ((HEAD_BOX, "red"), (Region(32, 224, 160, 352), "blue")):
        drawing.rectangle((region.left, region.top, region.right - 1, region.bottom - 1), outline=color, width=2)
    return page.convert("RGB")

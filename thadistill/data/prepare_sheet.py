"""Sheet: ``prepare.png``, on which a user sees what was made of a picture, how it moves and what to mend."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from thadistill.data.cutout import checkerboard
from thadistill.data.prepare import HEAD_BOX
from thadistill.images import FACE_REGION, IMAGE_SIZE, encode_rgba, to_pil
from thadistill.pose import POSE_PARAMETERS
from thadistill.teacher import Teacher
from thadistill.teacher.chain import ChainTeacher

_WIDTH = 2 * IMAGE_SIZE
_LINE = 22  # pixels
_LEGEND = (
    ("red: where the head belongs", "red"),
    ("blue: what the face networks see", "blue"),
    ("right: the cut-out", "dimgray"),
)
_LEGEND_POSES = ("below: poses by the teacher", "dimgray")
# five poses that show what goes wrong first: eyes, mouth, both turns, the tilt
POSES: Final[Sequence[dict[str, float]]] = (
    {"eye_wink_left": 1, "eye_wink_right": 1},
    {"mouth_aaa": 1, "eyebrow_raised_left": 1, "eyebrow_raised_right": 1},
    {"head_y": 1, "body_y": 0.7},
    {"head_y": -1, "body_y": -0.7},
    {"neck_z": 0.8, "head_x": 0.6, "eye_happy_wink_left": 1, "eye_happy_wink_right": 1},
)


def sheet(character: Image.Image, teacher: Teacher | None, notes: Sequence[str], hints: Sequence[str]) -> Image.Image:
    """The character with the boxes that the networks look at, its cut-out, a legend, poses by the teacher, and the lines."""
    lines = [(f"! {line}", "firebrick") for hint in hints for line in wrap(hint, 120)]
    lines += [(line, "dimgray") for note in notes for line in wrap(note, 120)]
    poses = posed(character, teacher) if isinstance(teacher, ChainTeacher) else []  # a puppet draws itself
    strip = _WIDTH // len(POSES) if poses else 0
    top = IMAGE_SIZE + _LINE  # below the legend
    page = Image.new("RGB", (_WIDTH, top + strip + _LINE * len(lines) + (12 if lines else 0)), "white")
    page.paste(boxes(character), (0, 0))
    page.paste(checkerboard(character), (IMAGE_SIZE, 0))
    for index, one in enumerate(poses):
        upper = one.crop((96, 0, 416, 320)).resize((strip, strip), Image.Resampling.LANCZOS)
        page.paste(checkerboard(upper, 8), (index * strip, top))
    drawing, font = ImageDraw.Draw(page), ImageFont.load_default(16)
    x = 10.0
    for text, color in (*_LEGEND, _LEGEND_POSES) if poses else _LEGEND:
        drawing.text((x, IMAGE_SIZE + 1), text, color, font)
        x += drawing.textlength(text, font) + _LINE
    for row, (line, color) in enumerate(lines):
        drawing.text((10, top + strip + 6 + _LINE * row), _shown(line), color, font)
    return page


def _shown(line: str) -> str:
    """What the built-in font has letters for."""
    return line.encode("latin-1", "replace").decode("latin-1")


def boxes(character: Image.Image) -> Image.Image:
    """On white: where the head belongs (red), and the teacher's face (blue)."""
    page = Image.new("RGBA", character.size, "white")
    page.alpha_composite(character)
    drawing = ImageDraw.Draw(page)
    for region, color in ((HEAD_BOX, "red"), (FACE_REGION, "blue")):
        drawing.rectangle((region.left, region.top, region.right - 1, region.bottom - 1), outline=color, width=2)
    return page.convert("RGB")


def posed(character: Image.Image, teacher: Teacher) -> list[Image.Image]:
    """The character in :data:`POSES`, as the teacher draws it."""
    poses = POSE_PARAMETERS.rest(len(POSES))
    for row, values in enumerate(POSES):
        for name, value in values.items():
            poses[row, POSE_PARAMETERS.index(name)] = value
    device = next(teacher.parameters(), torch.empty(0)).device
    image = encode_rgba(np.array(character))[None].to(device)
    with torch.inference_mode():
        return [to_pil(teacher(image, pose[None].to(device)).posed[0].cpu()) for pose in poses]

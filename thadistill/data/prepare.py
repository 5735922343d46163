"""Preparing: a picture as people have it, cut out, framed and checked, to a character image of the networks' rules.

The rules: 512x512 RGBA, one upright front-facing character on an alpha of exactly 0, the head roughly inside the 128x128
box centred in the upper half.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from scipy import ndimage

from thadistill.data.cutout import FAINT, CutOut, cut_out, srgb_to_lab
from thadistill.data.framing import (
    MEAN_MOUTH,
    Answer,
    Framed,
    Placement,
    answer_at,
    fits,
    frame,
    outline_guess,
    placed,
)
from thadistill.errors import UserError
from thadistill.images import IMAGE_SIZE, Region
from thadistill.images.picture import read_picture
from thadistill.teacher import Teacher
from thadistill.teacher.chain import ChainTeacher

HEAD_BOX = Region(64, 192, 192, 320)
LEAST_SIDE = 64  # pixels of a picture
WORKED_ON = 2560  # pixels of the longer side at most: a head a tenth of it fills the head box twice
_LEAST_HEAD = 16  # pixels of head=
# fineness around the eyes is 0.70 to 1.34 of drawn characters, also as JPEGs of half the size, and 0.41 to 0.58 of photos of
# eight people (experiments/LOG.md); a picture that is enlarged by more has no fine detail of its own, whatever it shows
_LINES, _ENLARGED = 0.62, 1.25
_AROUND_EYES = Region(125, 205, 206, 306)


@dataclass(frozen=True)
class Prepared:
    """A character image that obeys the rules, and how it was come by."""

    character: Image.Image  # 512x512 RGBA
    placement: Placement  # of the picture's own pixels
    notes: tuple[str, ...]  # what was done
    hints: tuple[str, ...]  # what a user should mend


def prepare(
    path: str | Path,
    head: Sequence[int | float] | None = None,
    make_teacher: Callable[[], Teacher] | None = None,
    segmenter: str | Path | None = None,
    force: bool = False,
) -> Prepared:
    """Takes a picture's background away and places its head where the networks expect it.

    Args:
        path: any picture that Pillow reads, 64 to 20,000 pixels a side.
        head: the head's box in the upright picture, hair to chin: left, top, right, bottom, in pixels, or in fractions of
            width and height where none is above 1. None: found by the teacher; of a 512x512 picture kept where it fits.
        make_teacher: gives THA3 or THA4, whose answer to facial poses finds the head; with another, or None, the outline is
            all there is.
        segmenter: an ONNX model for backgrounds that are neither transparent nor flat.
        force: takes a picture in which the teacher finds no face.

    Raises: UserError when the file is no picture, its background cannot be taken away, ``head`` is not in it, or the teacher
        finds no face.
    """
    picture = read_picture(path, most=WORKED_ON)
    width, height = picture.size
    if min(width, height) < LEAST_SIDE:
        raise UserError(f"{path} is {width}x{height}; expected at least {LEAST_SIDE} pixels a side: take a larger one")
    box = None if head is None else _box(head, width, height)
    cut = cut_out(np.asarray(picture.image), str(path), segmenter)
    figure = Image.fromarray(cut.rgba).convert("RGBa")
    shrunk = figure.width / width  # of a large picture
    teacher = None if make_teacher is None else make_teacher()
    asked = teacher if isinstance(teacher, ChainTeacher) else None
    notes, hints = [*picture.notes, *cut.notes], list[str]()
    if box is not None:
        framed = _framed(asked, figure, _from_box([side * shrunk for side in box]))
    elif asked is None:
        framed = _framed(
            None, figure, Placement(1, 0, 0) if figure.size == (IMAGE_SIZE,) * 2 else outline_guess(figure)
        )
        hints.append("the head was guessed from the outline: give head=[left,top,right,bottom] if its box looks wrong")
    else:
        framed = _found(asked, figure, force, str(path), notes)
    if framed.answer is not None:
        hints += _face_hints(framed, asked_for=box is not None or force)
    page = np.array(placed(figure, framed.placement).convert("RGBA"))
    page[page[..., 3] < FAINT] = 0
    if not page[..., 3].any():
        raise UserError(f"{path}: nothing of the character is where head={head} puts it; expected its head there")
    scale, left, top = framed.placement
    placement = Placement(scale * shrunk, left, top)
    notes.append(f"scaled by {placement.scale:.3f}, moved by ({left:.0f}, {top:.0f})")
    if placement.scale > 2.5:
        hints.append(f"the head is small and was enlarged {placement.scale:.1f} times: a larger picture is sharper")
    hints += _figure_hints(cut, page, framed)
    return Prepared(Image.fromarray(page), placement, tuple(notes), tuple(hints))


def _found(teacher: ChainTeacher, figure: Image.Image, force: bool, name: str, notes: list[str]) -> Framed:
    """The place that the teacher finds; of a 512x512 picture its own, where the teacher agrees.

    Raises: UserError where it finds no face, unless ``force``.
    """
    if figure.size == (IMAGE_SIZE, IMAGE_SIZE):
        own = _framed(teacher, figure, Placement(1, 0, 0))
        if own.face and own.answer is not None and fits(own.answer):
            _refuse_photo(figure, own, force, name)
            notes.append("kept the framing of the 512x512 picture, in which the head lies right")
            return own
    framed = frame(teacher, figure)
    if framed.face:
        _refuse_photo(figure, framed, force, name)
        notes.append("found eyes and mouth by the teacher's answer to poses")
        return framed
    if not force:
        raise UserError(
            f"{name}: the teacher finds no face in it; expected one drawn character that looks ahead: say where the head is "
            "by head=[left,top,right,bottom], or give force=true"
        )
    guessed = _framed(teacher, figure, outline_guess(figure))
    return guessed._replace(face=False)


def _refuse_photo(figure: Image.Image, framed: Framed, force: bool, name: str) -> None:
    """A person's face answers like a drawn one, but moves badly; a photo has shading where a drawing has lines.

    Raises: UserError, unless ``force``.
    """
    if force or framed.placement.scale > _ENLARGED:
        return
    if _fineness(np.array(placed(figure, framed.placement, _AROUND_EYES).convert("RGBA"))) < _LINES:
        raise UserError(
            f"{name} looks like a photo of a person; expected a drawn character: force=true takes it nevertheless"
        )


def _fineness(rgba: UInt8[np.ndarray, "h w 4"]) -> float:
    """How much of a picture's contrast is fine: its typical second derivative against its first; 0.7 to 1.1 of drawings."""
    alpha = rgba[..., 3:] / 255
    light = (rgba[..., :3] * alpha + 255 * (1 - alpha)) @ np.array([0.299, 0.587, 0.114])
    fine = np.abs(ndimage.gaussian_laplace(light, 1.0))
    coarse = np.hypot(*(ndimage.gaussian_filter(light, 1.5, order) for order in ((0, 1), (1, 0))))
    inner = np.s_[4:-4, 4:-4]
    return float(np.median(fine[inner]) / max(1e-6, np.median(coarse[inner])))


def _framed(teacher: ChainTeacher | None, figure: Image.Image, placement: Placement) -> Framed:
    answer = None if teacher is None else answer_at(teacher, figure, placement)
    return Framed(placement, answer, answer is not None and answer.is_face)


def _box(head: Sequence[int | float], width: int, height: int) -> tuple[float, float, float, float]:
    """``head=`` in pixels.

    Raises: UserError.
    """
    if len(head) != 4 or not all(math.isfinite(side) for side in head):
        raise UserError(
            f"head={list(head)}; expected [left,top,right,bottom], in pixels or in fractions of the picture"
        )
    left, top, right, bottom = (float(side) for side in head)
    if max(head) <= 1:
        left, top, right, bottom = left * width, top * height, right * width, bottom * height
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise UserError(f"head={list(head)}; expected left < right <= {width}, top < bottom <= {height}, or fractions")
    if max(right - left, bottom - top) < _LEAST_HEAD:
        raise UserError(
            f"head={list(head)} is {right - left:.0f}x{bottom - top:.0f} pixels; expected the whole head, {_LEAST_HEAD} "
            "pixels or more"
        )
    return left, top, right, bottom


def _from_box(box: Sequence[int | float]) -> Placement:
    left, top, right, bottom = box
    scale = (HEAD_BOX.bottom - HEAD_BOX.top) / max(right - left, bottom - top)
    return Placement(
        scale,
        (HEAD_BOX.left + HEAD_BOX.right) / 2 - scale * (left + right) / 2,
        (HEAD_BOX.top + HEAD_BOX.bottom) / 2 - scale * (top + bottom) / 2,
    )


def _face_hints(framed: Framed, asked_for: bool) -> list[str]:
    answer = framed.answer
    assert answer is not None
    if not framed.face:
        return ["no face that the teacher answers to: it will not move well"] if asked_for else []
    hints = []
    if asked_for and not fits(answer):
        hints.append("eyes and mouth lie elsewhere than the networks expect them: leave head= out to have them found")
    aside = (answer.mouth[0] - answer.eyes[0]) / answer.eye_distance
    tilt = (answer.left[1] - answer.right[1]) / answer.eye_distance
    uneven = math.log(answer.strength[0] / answer.strength[1])
    if abs(aside) > 0.25 or abs(tilt) > 0.2 or abs(uneven) > 0.9:
        hints.append("the head seems turned or tilted: characters that look straight ahead move better")
    return hints


def _figure_hints(cut: CutOut, page: UInt8[np.ndarray, "512 512 4"], framed: Framed) -> list[str]:
    """Of the whole picture and of the head's surroundings in the character image."""
    hints = []
    solid = cut.rgba[..., 3] > 127
    labels, count = ndimage.label(solid)
    sizes = np.sort(np.bincount(labels.ravel(), minlength=count + 1)[1:])
    if count > 1 and sizes[-2] > 0.15 * sizes[-1]:
        hints.append("two figures, or parts that do not touch: cut out one character")
    top_edge = framed.placement.top  # where the picture's upper edge lies
    across = np.nonzero(solid[0])[0] * framed.placement.scale + framed.placement.left
    if ((across > HEAD_BOX.left) & (across < HEAD_BOX.right)).sum() > 2 and top_edge > -40:
        hints.append("the hair is cut off at the upper edge: take a picture with all of it")
    if framed.answer is not None and framed.face and _skin_beside(page, framed.answer) > 150:
        hints.append("something of the colour of skin is near the head: hands there will be bent with it")
    return hints


def _skin_beside(page: UInt8[np.ndarray, "512 512 4"], answer: Answer) -> int:
    """Pixels, in one piece, of the colour of the cheeks left and right of the head."""
    y, half = int((answer.eyes[1] + answer.mouth[1]) / 2), answer.eye_distance / 2
    cheeks = [page[y - 3 : y + 4, int(x) - 3 : int(x) + 4] for x in (MEAN_MOUTH[0] - half, MEAN_MOUTH[0] + half)]
    colors = np.concatenate([cheek[..., :3].reshape(-1, 3) for cheek in cheeks])
    if not len(colors):
        return 0
    skin = np.median(srgb_to_lab(colors), axis=0)
    around = page[70:180]
    like = (np.linalg.norm(srgb_to_lab(around[..., :3]) - skin, axis=-1) < 7) & (around[..., 3] > 200)
    like[:, int(256 - 1.7 * 2 * half) : int(256 + 1.7 * 2 * half)] = False  # the face itself, and ears
    like[:, :120] = like[:, 392:] = False
    labels, _ = ndimage.label(ndimage.binary_opening(like, iterations=2))
    return int(np.bincount(labels.ravel())[1:].max(initial=0))

"""Framing: where a character's head goes in the 512x512 image, found by the teacher's own answers to facial poses.

The step of ``prepare`` between the cut-out and the character image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from thadistill.images import FACE_REGION, IMAGE_SIZE, Region, encode_rgba
from thadistill.pose import POSE_PARAMETERS
from thadistill.teacher.chain import ChainTeacher

PAGE: Final = Region(0, IMAGE_SIZE, 0, IMAGE_SIZE)
# Means over the ten characters that come with THA3 (experiments/prepare), in pixels of the character image.
MEAN_EYES_Y: Final = 144.2
MEAN_MOUTH: Final = (256.0, 179.5)
MEAN_EYE_DISTANCE: Final = 40.7
MEAN_EYES_TO_MOUTH: Final = 35.3
MEAN_HAIR_TO_EYES: Final = 80.8
_HAIR_TOP, _CHIN = 63.0, 190.4
_CHANGED = 0.1  # of a channel's range [-1, 1], summed over channels: the face morpher's trembling stays below
_WEAKEST = 15.0  # change, summed over pixels, below which an eye or a mouth is not one
_LIKE_A_FACE = 1.0  # the most of Answer.oddness
_PROMISING = 3.0  # the most of what a start is worth mending at
# above it for all of the first seven starts, no others are tried: characters have 0.2 to 1.0, other things 2.2 on
_HOPELESS = 2.0
_STEPS = 6


class Placement(NamedTuple):
    """Where a picture goes: its pixel (x, y) is at (scale x + left, scale y + top) of the character image."""

    scale: float
    left: float
    top: float

    def then(self, scale: float, left: float, top: float) -> Placement:
        """This placement, and what it gives placed once more."""
        return Placement(self.scale * scale, self.left * scale + left, self.top * scale + top)


def placed(picture: Image.Image, placement: Placement, region: Region = PAGE) -> Image.Image:
    """A part of the character image that a placement gives.

    ``picture`` is premultiplied ("RGBa"), so that colours hidden under alpha 0 do not bleed into outlines; so is the result.
    """
    scale, left, top = placement
    # whole pixels of the page on which the picture lies, and what of the picture lies on them
    x0, x1 = max(region.left, int(np.ceil(left))), min(region.right, int(np.floor(left + scale * picture.width)))
    y0, y1 = max(region.top, int(np.ceil(top))), min(region.bottom, int(np.floor(top + scale * picture.height)))
    page = Image.new("RGBa", (region.right - region.left, region.bottom - region.top))
    if x1 > x0 and y1 > y0:
        box = ((x0 - left) / scale, (y0 - top) / scale, (x1 - left) / scale, (y1 - top) / scale)
        box = (max(0.0, box[0]), max(0.0, box[1]), min(picture.width, box[2]), min(picture.height, box[3]))
        part = picture.resize((x1 - x0, y1 - y0), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
        page.paste(part, (x0 - region.left, y0 - region.top))
    return page


class Answer(NamedTuple):
    """What the face morpher changes when it closes the eyes and opens the mouth: where (x, y) in the character image."""

    left: Float[np.ndarray, "2"]  # the character's left eye, which is on the right
    right: Float[np.ndarray, "2"]
    mouth: Float[np.ndarray, "2"]
    spread: float  # of an eye's change, as a share of the distance of the eyes
    strength: Float[np.ndarray, "3"]

    @property
    def eyes(self) -> Float[np.ndarray, "2"]:
        """The middle between them."""
        return (self.left + self.right) / 2

    @property
    def eye_distance(self) -> float:
        """In pixels."""
        return max(1.0, float(np.linalg.norm(self.left - self.right)))

    @property
    def has_eyes(self) -> bool:
        """Whether both answer at all."""
        return bool(min(self.strength[:2]) >= _WEAKEST)

    @property
    def has_mouth(self) -> bool:
        """Whether it answers, below the eyes."""
        return bool(self.strength[2] >= _WEAKEST and self.mouth[1] > self.eyes[1] + 0.3 * self.eye_distance)

    @property
    def is_face(self) -> bool:
        """Whether it looks like one; a network that paints eyes where there are none is found out by :func:`frame`."""
        return self.oddness < _LIKE_A_FACE

    @property
    def oddness(self) -> float:
        """How little eyes and mouth lie as in a face that looks ahead: 0.1 to 0.5 for faces, above 1 for what is none."""
        if not self.has_eyes:
            return math.inf
        distance = self.eye_distance
        odd = 2 * abs(self.left[1] - self.right[1]) / distance + 4 * max(0.0, self.spread - 0.3)
        odd += max(0.0, abs(math.log(self.strength[0] / self.strength[1])) - 0.7)
        if not self.has_mouth:
            return float(odd + 1)
        below = (self.mouth[1] - self.eyes[1]) / distance - MEAN_EYES_TO_MOUTH / MEAN_EYE_DISTANCE
        return float(odd + 2 * abs(self.mouth[0] - self.eyes[0]) / distance + 2 * max(0.0, abs(below) - 0.25))


def face_answers(teacher: ChainTeacher, faces: Float[Tensor, "n 4 192 192"]) -> list[Answer]:
    """The teacher's face morpher on its crops of character images, at rest, with eyes closed, with the mouth open."""
    poses = POSE_PARAMETERS.rest(3)
    for name in ("eye_wink_left", "eye_wink_right"):
        poses[1, POSE_PARAMETERS.index(name)] = 1
    poses[2, POSE_PARAMETERS.index("mouth_aaa")] = 1
    device = next(teacher.parameters()).device
    given = faces.to(device).repeat_interleave(3, 0)
    with torch.inference_mode():
        posed = teacher.face_morpher(given, poses[:, POSE_PARAMETERS.face].repeat(len(faces), 1).to(device)).output
    return [_answer(*three) for three in posed.float().cpu().unflatten(0, (len(faces), 3))]


def _answer(rest: Float[Tensor, "4 h w"], closed: Float[Tensor, "4 h w"], opened: Float[Tensor, "4 h w"]) -> Answer:
    eyes, mouth = (_changed(posed, rest) for posed in (closed, opened))
    x = np.arange(eyes.shape[1])
    middle = float((eyes.sum(0) * x).sum() / eyes.sum().clip(1e-6))
    for _ in range(4):  # two means along x
        left, right = _centre(np.where(x > middle, eyes, 0)), _centre(np.where(x > middle, 0, eyes))
        middle = (left[0][0] + right[0][0]) / 2 - FACE_REGION.left
    distance = max(1.0, float(np.linalg.norm(left[0] - right[0])))
    strength = np.array([eyes[:, x > middle].sum(), eyes[:, x <= middle].sum(), mouth.sum()])
    return Answer(left[0], right[0], _centre(mouth)[0], max(left[1], right[1]) / distance, strength)


def _changed(posed: Float[Tensor, "4 h w"], rest: Float[Tensor, "4 h w"]) -> Float[np.ndarray, "h w"]:
    change = (posed - rest).abs().sum(0).numpy()
    return np.where(change > _CHANGED, change, 0)


def _centre(change: Float[np.ndarray, "h w"]) -> tuple[Float[np.ndarray, "2"], float]:
    """Centroid (x, y) in the character image, and standard deviation along x, of what changes in a face crop."""
    y, x = np.mgrid[: change.shape[0], : change.shape[1]]
    whole = change.sum().clip(1e-6)
    centre = np.array([(change * x).sum(), (change * y).sum()]) / whole
    spread = float(np.sqrt((change * (x - centre[0]) ** 2).sum() / whole))
    return centre + np.array([FACE_REGION.left, FACE_REGION.top]), spread


def answers_at(teacher: ChainTeacher, picture: Image.Image, placements: Sequence[Placement]) -> list[Answer]:
    """:func:`face_answers` of a premultiplied picture in several places, at once: the threads share all of them."""
    faces = [placed(picture, placement, FACE_REGION).convert("RGBA") for placement in placements]
    return face_answers(teacher, torch.stack([encode_rgba(np.array(face)) for face in faces]))


def answer_at(teacher: ChainTeacher, picture: Image.Image, placement: Placement) -> Answer:
    """The answer in one place."""
    return answers_at(teacher, picture, [placement])[0]


class Framed(NamedTuple):
    """A placement with the teacher's answer there; ``face``: whether it answers as to a face, wherever that is moved."""

    placement: Placement
    answer: Answer | None
    face: bool


def fits(answer: Answer) -> bool:
    """Whether eyes and mouth lie about where the networks expect them, as they do in the characters that come with THA3."""
    step = _step(answer, None)
    return _moved(step) < 15 and abs(math.log(step.scale)) < 0.3


def outline_guess(picture: Image.Image) -> Placement:
    """Where the head is, as far as the outline says: the upper 37 % of a figure, all of one that is not tall."""
    solid = np.asarray(picture)[..., 3] > 127
    rows, columns = np.nonzero(solid.any(1))[0], np.nonzero(solid.any(0))[0]
    tall = len(rows) > 0 and np.ptp(rows) > 1.3 * np.ptp(columns)
    return _from_outline(solid, 0.0)[3 if tall else 1]


def frame(teacher: ChainTeacher, picture: Image.Image) -> Framed:
    """Places a cut-out figure so that the teacher's eyes and mouth lie on its own.

    Coarsely, heads of several sizes at the top of the outline are tried; from those to which the teacher answers most as to
    a face, scale and place are mended until they stay, so that eyes and mouth lie where they do in the characters that come
    with THA3. Where none of the first heads has eyes and a mouth about as a face has, no others are tried.

    Args:
        teacher: its face morpher is asked.
        picture: premultiplied ("RGBa"), on alpha 0.
    """
    solid = np.asarray(picture)[..., 3] > 127
    tried: list[tuple[Placement, Answer]] = []
    found: list[tuple[Placement, Answer]] = []
    for aside in (0.0, 0.3, -0.3):  # of the head's height: hands, hair or a companion move the middle of the outline
        starts = _from_outline(solid, aside)
        tried += zip(starts, answers_at(teacher, picture, starts), strict=True)
        tried.sort(key=lambda one: _promise(one[1]))
        if _promise(tried[0][1]) > _HOPELESS:
            break
        for start, answer in tried[:2]:
            if _promise(answer) > _PROMISING:
                break
            found.append(_refined(teacher, picture, solid, start, answer))
            if found[-1][1].is_face and _follows(teacher, picture, *found[-1]):
                return Framed(*found[-1], True)
    return Framed(*min(found or tried, key=lambda one: one[1].oddness), False)


def _promise(answer: Answer) -> float:
    """Smaller is better: like a face, and not far from where the teacher expects one."""
    step = _step(answer, None)
    return answer.oddness + abs(math.log(step.scale)) + _moved(step) / 100


def _moved(step: Placement) -> float:
    """Pixels by which a step moves the face."""
    face = np.array([256.0, 160.0])
    return float(np.linalg.norm(face * step.scale + (step.left, step.top) - face))


def _from_outline(solid: Bool[np.ndarray, "h w"], aside: float) -> list[Placement]:
    """Heads of seven sizes below the top of the outline; ``aside`` moves them by a share of their height."""
    rows, made = np.nonzero(solid.any(1))[0], []
    height = int(rows[-1]) + 1 - int(rows[0])
    for share in (1.0, 0.72, 0.52, 0.37, 0.27, 0.19, 0.14):
        head = max(8.0, share * height)
        top = _hair_top(solid, 0.2 * head)
        across = solid[int(top) : int(top + 0.7 * head) + 1].sum(0)
        middle = float((across * np.arange(len(across))).sum() / max(1, across.sum()))
        scale = (_CHIN - _HAIR_TOP) / head
        made.append(Placement(scale, MEAN_MOUTH[0] - scale * (middle + aside * head), _HAIR_TOP - scale * top))
    return made


def _hair_top(solid: np.ndarray, wide: float) -> float:
    """The first row at which the outline is ``wide`` pixels wide: single strands and ears do not make a head."""
    rows = np.nonzero(solid.sum(1) >= wide)[0]
    return float(rows[0]) if len(rows) else float(np.nonzero(solid.any(1))[0][0])


def _step(answer: Answer, hair_to_eyes: float | None) -> Placement:
    """What brings eyes, and where they are seen mouth and hair, to their means."""
    sizes, weights = [answer.eye_distance / MEAN_EYE_DISTANCE], [0.25]
    (x, y), meant = answer.eyes, MEAN_EYES_Y
    if answer.has_mouth:
        sizes.append((answer.mouth[1] - y) / MEAN_EYES_TO_MOUTH)
        weights.append(0.25)
        (x, y), meant = (answer.eyes + answer.mouth) / 2, (MEAN_EYES_Y + MEAN_MOUTH[1]) / 2
    if hair_to_eyes is not None:
        sizes.append(hair_to_eyes / MEAN_HAIR_TO_EYES)
        weights.append(0.5)
    scale = float(np.exp(-np.average(np.log(np.clip(sizes, 0.4, 2.5)), weights=weights)))
    return Placement(scale, MEAN_MOUTH[0] - scale * float(x), meant - scale * float(y))


def _refined(
    teacher: ChainTeacher, picture: Image.Image, solid: Bool[np.ndarray, "h w"], placement: Placement, answer: Answer
) -> tuple[Placement, Answer]:
    for _ in range(_STEPS):
        if not answer.has_eyes:
            break
        top = _hair_top(solid, 30 / placement.scale)
        hair = float(answer.eyes[1]) - (placement.scale * top + placement.top)
        seen = top > 0.5 and 0.6 < hair / MEAN_HAIR_TO_EYES < 1.5  # neither cut off nor another thing's
        step = _step(answer, hair if seen else None)
        placement = placement.then(*step)
        answer = answer_at(teacher, picture, placement)
        if abs(step.scale - 1) < 0.015 and _moved(step) < 1.5:
            break
    return placement, answer


def _follows(teacher: ChainTeacher, picture: Image.Image, placement: Placement, answer: Answer) -> bool:
    """Whether eyes and mouth move with the picture: a network paints them where it expects them where there are none."""
    moved = answer_at(teacher, picture, placement.then(1.0, 14.0, 9.0))
    if not moved.has_eyes:
        return False
    before, after = (np.stack([one.left, one.right, one.mouth]) for one in (answer, moved))
    return bool(np.linalg.norm(after - before - (14.0, 9.0), axis=1).max() < 6.0)

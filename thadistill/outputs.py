"""Outputs: the named results of teachers and students, so that nobody counts positions.

The published systems order their outputs differently (THA4's teacher: merged, alpha, warped, grid change, direct; its
student: blended, alpha, colour change, warped, grid change); here a field has one name and one meaning.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

VISIBLE = -0.99  # alpha in [-1, 1] above which a pixel counts as visible where speed or sampling skip the others


class TeacherOutput(NamedTuple):
    """What a teacher gives for n poses. Images are linear premultiplied RGBA in [-1, 1]."""

    posed: Float[Tensor, "n 4 512 512"]  # the final image
    warped: Float[Tensor, "n 4 512 512"]  # the face-morphed image moved by grid_change
    grid_change: Float[Tensor, "n 2 512 512"]  # x, y offsets; 2 spans the image
    color_change: Float[Tensor, "n 4 512 512"]  # what is painted ("direct")
    alpha: Float[Tensor, "n a 512 512"]  # 1 = fully painted; four channels in THA3, one in THA4
    face_morphed: Float[Tensor, "n 4 512 512"]  # the character with eyebrows, eyes and mouth posed, not yet rotated


class StudentOutput(NamedTuple):
    """What a character model gives for n poses. Images are linear premultiplied RGBA in [-1, 1]."""

    posed: Float[Tensor, "n 4 512 512"]  # blended: (1 - alpha) * warped + alpha * color_change
    warped: Float[Tensor, "n 4 512 512"]
    grid_change: Float[Tensor, "n 2 512 512"]
    color_change: Float[Tensor, "n 4 512 512"]
    alpha: Float[Tensor, "n 1 512 512"]  # no sigmoid: it may leave [0, 1]
    face: Float[Tensor, "n 4 128 128"]  # the face morpher's crop, pasted into the character before the warp


class TargetOutput(NamedTuple):
    """What evaluation needs of a teacher, live or from a target cache."""

    posed: Float[Tensor, "n 4 512 512"]
    grid_change: Float[Tensor, "n 2 512 512"]
    face_morphed: Float[Tensor, "n 4 512 512"]

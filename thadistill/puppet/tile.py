"""Tile: a rectangle of the puppet's face in which features are drawn for a batch of poses, between smooth curves.

Every feature lies between curves y = f(x): each curve is a row of numbers per pose, and a pixel's coverage is its
distance to the curve, so that edges are smooth and move continuously with the pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.images import STUDENT_FACE_REGION
from thadistill.puppet.brush import Colour, Number

Curve = Float[Tensor, "_ w"]  # one for all poses, or one each
Cover = Float[Tensor, "_ h w"]


@dataclass
class Tile:
    """The pixels around a feature, with coordinates from its middle in pixels."""

    x: Float[Tensor, "1 w"]
    y: Float[Tensor, "1 h 1"]
    rows: slice
    columns: slice

    @classmethod
    def around(
        cls, canvas: Float[Tensor, "n 3 h w"], left: Number, x: Number, y: Number, half: tuple[Number, Number]
    ) -> Tile:
        """The rectangle ``half`` a width and height around ``x``, ``y`` of the character image.

        ``canvas`` begins at column ``left`` and at the face crop's first row.
        """
        first, top = int(x - left - half[0]), int(y - STUDENT_FACE_REGION.top - half[1])
        columns = slice(max(first, 0), min(first + int(2 * half[0]) + 1, canvas.shape[3]))
        rows = slice(max(top, 0), min(top + int(2 * half[1]) + 1, canvas.shape[2]))
        u = torch.arange(columns.start, columns.stop, device=canvas.device) + (0.5 + left - x)
        v = torch.arange(rows.start, rows.stop, device=canvas.device) + (0.5 + STUDENT_FACE_REGION.top - y)
        return cls(u[None], v[None, :, None], rows, columns)

    def below(self, curve: Curve, softness: Number = 1.0) -> Cover:
        """How much of each pixel lies under the curve."""
        return (self._distance(curve) / softness + 0.5).clamp(0, 1)

    def above(self, curve: Curve, softness: Number = 1.0) -> Cover:
        return (0.5 - self._distance(curve) / softness).clamp(0, 1)

    def between(self, top: Curve, bottom: Curve) -> Cover:
        """How much of each pixel lies between two curves; nothing where they meet or cross."""
        gap = (bottom - top).clamp(0, 1)[:, None]
        return torch.minimum(self.below(top), self.above(bottom)) * gap

    def line(self, curve: Curve, width: Curve) -> Cover:
        """A stroke along the curve."""
        distance = self._distance(curve).abs()
        half = width[:, None] / 2
        return (half - distance + 0.5).clamp(0, 1) * (width[:, None]).clamp(0, 1)

    def ellipse(self, x: Tensor, y: Tensor, rx: Tensor, ry: Tensor, softness: Number = 1.0) -> Cover:
        """An ellipse; each argument [n, 1]."""
        u = (self.x[:, None] - x[..., None]) / rx[..., None]
        v = (self.y - y[..., None]) / ry[..., None]
        radius = torch.sqrt(u * u + v * v + 1e-6)
        return ((1 - radius) * torch.minimum(rx, ry)[..., None] / softness + 0.5).clamp(0, 1)

    def paint(
        self, canvas: Float[Tensor, "n 3 _h _w"], cover: Cover, colour: Colour | Float[Tensor, "n 3 h _"]
    ) -> None:
        """Lays a colour over the canvas."""
        below = canvas[:, :, self.rows, self.columns]
        ink = colour if isinstance(colour, Tensor) else below.new_tensor(colour)[None, :, None, None]
        below += (ink - below) * cover[:, None]

    def _distance(self, curve: Curve) -> Cover:
        """Signed distance below the curve, to first order."""
        slope = torch.gradient(curve, dim=1)[0]
        return (self.y - curve[:, None]) / torch.sqrt(1 + slope[:, None] ** 2)


def smooth(x: Tensor, low: Number, high: Number) -> Tensor:
    """0 at ``low``, 1 at ``high``, smooth in between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)

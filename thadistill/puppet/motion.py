"""Motion: how head, neck, body and breathing move each layer of the puppet, as backward flow on a coarse lattice.

Directions are those of the published teachers' students (measured on lambda_00): head_x = 1 looks up, head_y = 1 turns
to the viewer's left, neck_z = 1 and body_z = 1 lean the top to the viewer's left, body_y = 1 turns the chest to the
viewer's left.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.images import IMAGE_SIZE

CELL = 4  # pixels between two points of the lattice
LATTICE = IMAGE_SIZE // CELL + 2  # one point beyond the image on every side, so that upsampling needs no border rule
NECK = (256.0, 203.0)  # where the head turns
HIPS = (256.0, 345.0)  # where the body leans
NECK_ANGLE, BODY_ANGLE = math.radians(15), math.radians(5.5)
BODY_TURN, BREATH_LIFT, CHEST_LIFT = 8.0, 0.9, 1.7  # pixels


class Material(NamedTuple):
    """How much of each motion a layer takes; lengths in pixels."""

    full: float  # y above which it moves with the head
    free: float  # y below which it keeps only ``rest`` of the head's motion
    rest: float
    head: float  # share of the head's motion at full
    turn: float  # sideways shift at head_y = 1
    bulge: float  # and how much more at the middle of the face, which is nearest to the viewer
    nod: float  # shift upwards at head_x = 1
    nod_bulge: float
    roundness: float  # how much less the sides of the body turn than its middle


MATERIALS = {
    "back_hair": Material(170, 310, 0.12, 1.0, -2.0, -1.5, 1.0, -3.0, 0.35),
    "body": Material(168, 224, 0.0, 0.85, 3.0, 0.0, 3.5, 0.0, 1.0),
    "head": Material(300, 400, 1.0, 1.0, 4.2, 7.6, 4.2, 7.4, 0.0),
    "front_hair": Material(186, 262, 0.35, 1.0, 4.6, 8.2, 4.4, 7.8, 0.0),
}


def _smooth(x: Tensor, low: Tensor | int, high: Tensor | int) -> Tensor:
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _rotate(x: Tensor, y: Tensor, centre: tuple[float, float], angle: Tensor) -> tuple[Tensor, Tensor]:
    dx, dy = x - centre[0], y - centre[1]
    cos, sin = torch.cos(angle) - 1, torch.sin(angle)  # minus 1: no angle moves nothing, to the last bit
    return x + cos * dx - sin * dy, y + sin * dx + cos * dy


def lattice(device: torch.device | str = "cpu") -> tuple[Float[Tensor, "1 side"], Float[Tensor, "side 1"]]:
    """x and y of the lattice's points, pixels."""
    at = (torch.arange(LATTICE, device=device, dtype=torch.float32) - 0.5) * CELL
    return at[None], at[:, None]


def sources(rotation: Float[Tensor, "6"]) -> Float[Tensor, "layers 2 side side"]:
    """Where each layer (in the order of ``MATERIALS``) takes each point of the lattice from, in pixels.

    ``rotation`` is pose[39:45]. The motions are undone from the outside in: the lean and turn of the body, breathing,
    the neck, then the head.
    """
    head_x, head_y, neck_z, body_y, body_z, breathing = rotation.unbind()
    table = rotation.new_tensor(list(MATERIALS.values()))
    full, free, rest, head, turn, bulge, nod, nod_bulge, roundness = table.T[:, :, None, None]
    x0, y0 = lattice(rotation.device)

    x, y = _rotate(x0, y0, HIPS, body_z * BODY_ANGLE)
    middle = torch.exp(-(((x - 256) / 55) ** 2))
    girth = 1 - roundness * 1.25 * (1 - middle)
    height = 0.45 + 0.55 * _smooth(y, 200, 285) - 0.7 * _smooth(y, 390, 520)
    chest = torch.exp(-(((y - 258) / 38) ** 2)) * roundness * middle
    shoulders = 1 - _smooth(y, 220, 345)
    x = x + body_y * BODY_TURN * girth * height - breathing * 0.016 * chest * (x - 256)
    y = y + breathing * (BREATH_LIFT * shoulders + CHEST_LIFT * chest)

    share = head * (1 - (1 - rest) * _smooth(y, full, free))
    x, y = _rotate(x, y, NECK, neck_z * NECK_ANGLE * share)
    share = head * (1 - (1 - rest) * _smooth(y, full, free))
    near = torch.exp(-(((x - 256) / 46) ** 2) - ((y - 146) / 43) ** 2)
    return torch.stack(
        [x + head_y * share * (turn + bulge * near), y + head_x * share * (nod + nod_bulge * near)], dim=1
    )


def around_head(flow: Float[Tensor, "2 side side"], body: Float[Tensor, "2 side side"]) -> Float[Tensor, "2 side side"]:
    """The flow of empty space: the front hair's near the head, the body's far from it."""
    x, y = lattice(flow.device)
    near = torch.exp(-((torch.hypot((x - 256) / 100, (y - 125) / 105)) ** 4))
    return body + (flow - body) * near

"""Features: eyes, eyebrows and mouth of the puppet, drawn for a batch of poses on the face crop.

Every feature lies between curves y = f(x): each curve is a row of numbers per pose, and a pixel's coverage is its
distance to the curve, so that edges are smooth and move continuously with the pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.images import STUDENT_FACE_REGION
from thadistill.pose import POSE_PARAMETERS
from thadistill.teacher.puppet.brush import Colour, Number, line_of, mix, shadow_of
from thadistill.teacher.puppet.design import Design

Curve = Float[Tensor, "_ w"]  # one for all poses, or one each
Cover = Float[Tensor, "_ h w"]


_MOUTHS = {  # half width, rise of the upper lip, fall of the lower lip, depth of the upper teeth: pixels
    "aaa": (8.8, 1.6, 10.0, 2.6),
    "iii": (9.6, 0.8, 3.8, 4.0),
    "uuu": (3.6, 1.6, 3.4, 0.0),
    "eee": (8.8, 1.0, 5.8, 2.8),
    "ooo": (5.2, 3.0, 7.4, 0.0),
    "delta": (7.4, 5.4, 2.4, 0.0),
}


class FacialPose:
    """Pose values by name, each [n, 1], ready to multiply curves."""

    def __init__(self, pose: Float[Tensor, "n p"]) -> None:
        self._pose = pose

    def __getitem__(self, name: str) -> Float[Tensor, "n 1"]:
        index = POSE_PARAMETERS.index(name)
        return self._pose[:, index : index + 1]


@dataclass
class Tile:
    """A rectangle of the face crop with its own coordinates: pixels from a feature's middle, x outwards."""

    x: Float[Tensor, "1 w"]
    y: Float[Tensor, "1 h 1"]
    rows: slice
    columns: slice
    canvas: Float[Tensor, "n 3 128 128"]  # sRGB

    @classmethod
    def around(
        cls, canvas: Float[Tensor, "n 3 128 128"], x: Number, y: Number, half: tuple[Number, Number], mirror: bool = False
    ) -> Tile:
        """``x``, ``y``: the middle in the character image; ``half``: half width and height; ``mirror``: x to the left."""
        left, top = int(x - STUDENT_FACE_REGION.left - half[0]), int(y - STUDENT_FACE_REGION.top - half[1])
        columns = slice(max(left, 0), min(left + int(2 * half[0]) + 1, canvas.shape[3]))
        rows = slice(max(top, 0), min(top + int(2 * half[1]) + 1, canvas.shape[2]))
        u = torch.arange(columns.start, columns.stop, device=canvas.device) + (0.5 + STUDENT_FACE_REGION.left - x)
        v = torch.arange(rows.start, rows.stop, device=canvas.device) + (0.5 + STUDENT_FACE_REGION.top - y)
        return cls((-u if mirror else u)[None], v[None, :, None], rows, columns, canvas)

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

    def paint(self, cover: Cover, colour: Colour | Float[Tensor, "n 3 h w"]) -> None:
        """Lays a colour over the canvas."""
        below = self.canvas[:, :, self.rows, self.columns]
        ink = colour if isinstance(colour, Tensor) else below.new_tensor(colour)[None, :, None, None]
        self.canvas[:, :, self.rows, self.columns] = below + (ink - below) * cover[:, None]

    def _distance(self, curve: Curve) -> Cover:
        """Signed distance below the curve, to first order."""
        slope = torch.gradient(curve, dim=1)[0]
        return (self.y - curve[:, None]) / torch.sqrt(1 + slope[:, None] ** 2)


def smooth(x: Tensor, low: Number, high: Number) -> Tensor:
    """0 at ``low``, 1 at ``high``, smooth in between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


class Features:
    """Draws a design's eyes, eyebrows and mouth."""

    def __init__(self, design: Design) -> None:
        self.design = design

    def draw(
        self, face: Float[Tensor, "3 128 128"], hair: Float[Tensor, "3 128 128"], pose: Float[Tensor, "n p"]
    ) -> tuple[Float[Tensor, "n 3 128 128"], Float[Tensor, "n 3 128 128"]]:
        """The face crops of the head and of the front hair (sRGB) with each pose's features; reads pose[0:39] only.

        Eyebrows show through the hair faintly, as painters do it, so that a long fringe hides no expression.
        """
        head, fringe = (layer.expand(len(pose), -1, -1, -1).clone() for layer in (face, hair))
        values = FacialPose(pose)
        self._mouth(head, values)
        for side in ("left", "right"):
            self._eye(head, values, side)
            self._eyebrow(head, values, side)
            self._eyebrow(fringe, values, side, opacity=0.4)
        return head, fringe

    def _eye(self, canvas: Tensor, pose: FacialPose, side: str) -> None:
        d = self.design
        # the character's left is the viewer's right
        sign = 1 if side == "left" else -1
        tile = Tile.around(canvas, 256 + sign * d.eye_x, d.eye_y, (22, 21), mirror=sign < 0)
        x, w = tile.x, d.eye_width
        u = x / w
        top, bottom = _lids(d, pose, side, u)

        opening = tile.between(top, bottom) * (u.abs() < 1)[:, None]
        tile.paint(opening, (0.985, 0.98, 0.99))
        lid_shadow = opening * tile.above(top + 4.5, softness=2.0)
        tile.paint(lid_shadow * 0.55, (0.72, 0.70, 0.84))
        self._iris(tile, pose, side, sign, opening, top)

        ink = mix(line_of(d.hair), (0.13, 0.08, 0.12), 0.75)
        taper = smooth(u, -1.08, -0.2) * (1 - smooth(u, 1.0, 1.32))
        weight = (0.7 + 0.3 * d.lashes + 2.1 * d.lashes * smooth(u, -1.0, 0.75)) * taper
        lash = tile.between(top - weight * 0.8, top + weight * 0.35)
        tile.paint(lash, ink)
        # two flicks beyond the outer corner
        flick = top - 2.6 * smooth(u, 0.72, 1.3)
        tile.paint(
            tile.line(flick - 1.0, 1.9 * min(1.0, d.lashes**2) * smooth(u, 0.6, 0.9) * (1 - smooth(u, 1.0, 1.36))), ink
        )
        lower = 0.9 * smooth(u, -0.35, 0.5) * (1 - smooth(u, 0.95, 1.08))
        tile.paint(tile.line(bottom + 0.2, lower) * 0.8, mix(ink, d.skin_shadow, 0.35))
        crease = 0.9 * smooth(u, -0.9, -0.1) * (1 - smooth(u, 0.55, 1.05))
        tile.paint(tile.line(top - 4.2 - 0.6 * u, crease.expand_as(top)) * 0.75, shadow_of(d.skin_shadow, 0.9))

    def _iris(self, tile: Tile, pose: FacialPose, side: str, sign: int, opening: Cover, top: Curve) -> None:
        d = self.design
        small = pose[f"iris_small_{side}"]
        size = (1 - 0.66 * small) * (1 - 0.06 * pose[f"eye_surprised_{side}"]) * d.iris_size
        rx, ry = 7.6 * size, 9.6 * size
        # a positive rotation_y looks to the viewer's left, a positive rotation_x up
        x = -0.6 - sign * 4.6 * pose["iris_rotation_y"]
        y = -0.8 - 3.8 * pose["iris_rotation_x"]
        height = ((tile.y - y[..., None]) / ry[..., None]).clamp(-1, 1)
        dark, middle, light = shadow_of(mix(d.iris, (0.1, 0.05, 0.2), 0.5)), d.iris, mix(d.iris, (1.0, 1.0, 0.92), 0.5)
        disc = opening * tile.ellipse(x, y, rx, ry)
        tile.paint(disc, mix(line_of(d.iris), dark, 0.3))
        inner = opening * tile.ellipse(x, y, rx * 0.87, ry * 0.88)
        tile.paint(inner, _gradient(height, dark, middle, light, tile))
        tile.paint(
            inner * tile.ellipse(x, y + ry * 0.62, rx * 0.62, ry * 0.34, softness=2.5) * 0.6,
            mix(light, (1, 1, 1), 0.35),
        )
        tile.paint(inner * tile.ellipse(x, y - ry * 0.02, rx * 0.40, ry * 0.42), mix(dark, (0.06, 0.03, 0.10), 0.6))
        tile.paint(disc * tile.above(top + 3.8, softness=1.6) * 0.55, mix(dark, (0.06, 0.03, 0.10), 0.5))
        shine = (1 - 0.5 * small)[..., None] * opening
        # the light comes from the viewer's left in both eyes
        white = (1.0, 1.0, 1.0)
        tile.paint(shine * tile.ellipse(x - sign * rx * 0.36, y - ry * 0.42, rx * 0.30, ry * 0.26), white)
        tile.paint(shine * tile.ellipse(x + sign * rx * 0.38, y + ry * 0.42, rx * 0.17, ry * 0.13) * 0.9, white)

    def _eyebrow(self, canvas: Tensor, pose: FacialPose, side: str, opacity: Number = 1.0) -> None:
        d = self.design
        sign = 1 if side == "left" else -1
        tile = Tile.around(canvas, 256 + sign * (d.eye_x + 1.0), d.brow_y, (17, 16), mirror=sign < 0)

        def of(morph: str) -> Tensor:
            return pose[f"eyebrow_{morph}_{side}"]

        shift = (
            4.2 * of("lowered")
            - 4.6 * of("raised")
            - 2.2 * of("happy")
            + 2.0 * of("serious")
            + 1.2 * of("angry")
            - 0.6 * of("troubled")
        )
        slope = d.brow_tilt + 3.8 * of("troubled") - 4.4 * of("angry") - 2.4 * of("serious") + 0.8 * of("happy")
        arch = (
            2.6
            + 1.4 * of("raised")
            + 2.4 * of("happy")
            - 2.2 * of("serious")
            - 1.6 * of("angry")
            - 1.2 * of("troubled")
            - 0.6 * of("lowered")
        )
        squeeze = 1.6 * of("troubled") + 1.2 * of("angry") + 0.8 * of("serious")
        v = (tile.x + squeeze) / 12.5
        curve = shift + slope * v - arch * (1 - v * v)
        width = (
            d.brow_width
            * (0.45 + 0.55 * (1 - smooth(v, -0.6, 1.0)))
            * smooth(v, -1.08, -0.8)
            * (1 - smooth(v, 0.8, 1.08))
        )
        tile.paint(tile.line(curve, width) * opacity, mix(line_of(d.hair), d.hair, 0.3))

    def _mouth(self, canvas: Tensor, pose: FacialPose) -> None:
        d = self.design
        tile = Tile.around(canvas, 256, d.mouth_y, (19, 19))
        values = torch.cat([pose[f"mouth_{name}"] for name in _MOUTHS], dim=1)
        total = values.sum(1, keepdim=True)
        share = values / total.clamp_min(1)
        half, rise, fall, teeth = (share @ canvas.new_tensor(list(_MOUTHS.values()))).T[..., None]
        closed, peak, smirk = 1 - total.clamp(max=1), share[:, 5:6], pose["mouth_smirk"]
        half = half + 7.4 * closed + 0.8 * smirk
        x = tile.x - 1.6 * smirk
        u = x / half
        inside = (1 - u * u).clamp_min(0)

        corners = -1.7 * closed * u * u  # a slight smile at rest
        for side, sign in (("left", 1), ("right", -1)):
            lift = 3.4 * (pose[f"mouth_raised_corner_{side}"] - pose[f"mouth_lowered_corner_{side}"])
            lift = lift + smirk * (3.0 if side == "left" else -0.6)
            corners = corners - lift * (sign * u).clamp(0, 1.15) ** 2
        upper = corners - rise * (inside**0.5 * (1 - peak) + (1 - u.abs()).clamp_min(0) * peak)
        lower = corners + fall * inside**0.55

        opening = tile.between(upper, lower) * (u.abs() < 1)[:, None]
        tile.paint(opening, (0.55, 0.17, 0.20))
        tongue_y = lower.amax(1, keepdim=True) + 0.5
        tongue = tile.ellipse(1.6 * smirk, tongue_y, half * 0.72, (fall * 0.5).clamp_min(0.5), softness=1.5)
        tile.paint(opening * tongue, (0.93, 0.52, 0.52))
        tile.paint(opening * tile.above(upper + teeth) * (teeth[..., None] / 1.5).clamp(max=1), (0.99, 0.985, 0.98))
        ink = mix(line_of(d.skin), (0.45, 0.15, 0.15), 0.35)
        ends = 1 - smooth(u.abs(), 0.75, 1.06)
        tile.paint(tile.line(upper, 1.25 * ends), ink)
        tile.paint(tile.line(lower, 1.0 * ends * (fall / 2).clamp(0, 1)) * 0.75, ink)
        # the shadow under the lower lip
        tile.paint(tile.line(lower + 4.0, 0.9 * (1 - smooth(u.abs(), 0.1, 0.5))) * 0.5, shadow_of(d.skin_shadow, 0.4))


def _lids(d: Design, pose: FacialPose, side: str, u: Float[Tensor, "1 w"]) -> tuple[Curve, Curve]:
    """The upper and lower edge of the eye's opening."""

    def of(morph: str) -> Tensor:
        return pose[f"eye_{morph}_{side}"]

    tilt = d.eye_tilt * u
    dome = (1 - u.abs().clamp(max=1) ** 2.3) ** 0.72
    bowl = (1 - u.abs().clamp(max=1) ** 2.6) ** 0.8
    depth = 0.72 * d.eye_height
    wing = -1.5 * (u.abs() - 1).clamp_min(0) * d.eye_width * (u > 0)
    top = tilt + wing - (d.eye_height + 2.4 * of("surprised")) * dome * (1 - 0.07 * u)
    bottom = tilt + (depth + 1.4 * of("surprised")) * bowl * (1 + 0.05 * u)
    bottom = bottom - 3.6 * of("raised_lower_eyelid") * bowl
    flat = torch.maximum(top, -0.12 * d.eye_height + 0.6 * u + wing)
    top = top + (flat - top) * of("unimpressed")

    closings = {
        "wink": tilt * 0.5 + wing * 0.3 + depth * 0.72 * bowl,
        "happy_wink": tilt * 0.3 + depth * 0.75 - (d.eye_height * 0.95) * (1 - u.abs().clamp(max=1.06) ** 2),
        "relaxed": tilt * 0.8 + wing * 0.3 + depth * (0.42 + 0.12 * bowl),
    }
    total = sum((of(name) for name in closings), torch.zeros_like(of("wink")))
    target = sum(of(name) / total.clamp_min(1e-6) * curve for name, curve in closings.items())
    amount = total.clamp(0, 1)
    return top + (target - top) * amount, bottom + (target - bottom) * amount


def _gradient(height: Tensor, top: Colour, middle: Colour, bottom: Colour, tile: Tile) -> Float[Tensor, "n 3 h w"]:
    """Three colours down the iris; ``height`` [n, h, 1] runs from -1 to 1."""
    t, m, b = (tile.canvas.new_tensor(colour)[None, :, None, None] for colour in (top, middle, bottom))
    h = height[:, None]
    colour = m + (t - m) * (-h * 1.1 + 0.1).clamp(0, 1) + (b - m) * (h * 1.1 - 0.05).clamp(0, 1)
    return colour.expand(-1, -1, -1, tile.x.shape[1])

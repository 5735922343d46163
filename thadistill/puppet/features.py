"""Features: eyes, eyebrows and mouth of the puppet, drawn for a batch of poses on the face crop."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.images import IMAGE_SIZE, STUDENT_FACE_REGION
from thadistill.pose import POSE_PARAMETERS
from thadistill.puppet.brush import Colour, line_of, mix, shadow_of
from thadistill.puppet.design import Design
from thadistill.puppet.tile import Cover, Curve, Tile, smooth

_MIDDLE = IMAGE_SIZE // 2
_MOUTHS = {  # half width, rise of the upper lip, fall of the lower lip, depth of the upper teeth: pixels
    "aaa": (8.8, 1.6, 10.0, 2.6),
    "iii": (9.6, 0.8, 3.8, 4.0),
    "uuu": (3.6, 1.6, 3.4, 0.0),
    "eee": (8.8, 1.0, 5.8, 2.8),
    "ooo": (5.2, 3.0, 7.4, 0.0),
    "delta": (7.4, 5.4, 2.4, 0.0),
}
_BROWS = {  # shift down, fall of the outer end, change of the arch, shift inwards: pixels
    "troubled": (-0.6, 3.8, -1.2, 1.6),
    "angry": (1.2, -4.4, -1.6, 1.2),
    "lowered": (4.2, 0.0, -0.6, 0.0),
    "raised": (-4.6, 0.0, 1.4, 0.0),
    "happy": (-2.2, 0.8, 2.4, 0.0),
    "serious": (2.0, -2.4, -2.2, 0.8),
}


class FacialPose:
    """Pose values by name."""

    def __init__(self, pose: Float[Tensor, "n p"]) -> None:
        self._pose = pose

    def __getitem__(self, name: str) -> Float[Tensor, "n 1"]:
        index = POSE_PARAMETERS.index(name)
        return self._pose[:, index : index + 1]

    def sided(self, stem: str) -> Float[Tensor, "sides 1"]:
        """The values of both sides, all poses' left ones first."""
        return torch.cat([self[f"{stem}_left"], self[f"{stem}_right"]])


class Features:
    """Draws a design's eyes, eyebrows and mouth.

    Eyes and eyebrows are drawn for both sides in one batch, on the halves of the face folded over one another.
    """

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
        head, fringe = _folded(head), _folded(fringe)
        self._eyes(head, values)
        self._eyebrows(head, fringe, values)
        return _unfolded(head), _unfolded(fringe)

    def _eyes(self, halves: Float[Tensor, "sides 3 128 64"], pose: FacialPose) -> None:
        d = self.design
        tile = Tile.around(halves, _MIDDLE, _MIDDLE + d.eye_x, d.eye_y, (22, 21))
        u = tile.x / d.eye_width
        top, bottom = _lids(d, pose, u)

        opening = tile.between(top, bottom) * (u.abs() < 1)[:, None]
        tile.paint(halves, opening, (0.985, 0.98, 0.99))
        tile.paint(halves, opening * tile.above(top + 4.5, softness=2.0) * 0.55, (0.72, 0.70, 0.84))
        self._irises(halves, tile, pose, opening, top)

        ink = mix(line_of(d.hair), (0.13, 0.08, 0.12), 0.75)
        taper = smooth(u, -1.08, -0.2) * (1 - smooth(u, 1.0, 1.32))
        weight = (0.7 + 0.3 * d.lashes + 2.1 * d.lashes * smooth(u, -1.0, 0.75)) * taper
        lash = tile.between(top - weight * 0.8, top + weight * 0.35)
        # the lash sweeps out and up beyond the outer corner
        sweep = 1.9 * min(1.0, d.lashes**2) * smooth(u, 0.6, 0.9) * (1 - smooth(u, 1.0, 1.36))
        lash = torch.maximum(lash, tile.line(top - 2.6 * smooth(u, 0.72, 1.3) - 1.0, sweep))
        tile.paint(halves, lash, ink)
        lower = 0.9 * smooth(u, -0.35, 0.5) * (1 - smooth(u, 0.95, 1.08))
        tile.paint(halves, tile.line(bottom + 0.2, lower) * 0.8, mix(ink, d.skin_shadow, 0.35))
        crease = 0.9 * smooth(u, -0.9, -0.1) * (1 - smooth(u, 0.55, 1.05))
        tile.paint(halves, tile.line(top - 4.2 - 0.6 * u, crease) * 0.75, shadow_of(d.skin_shadow, 0.9))

    def _irises(self, halves: Tensor, tile: Tile, pose: FacialPose, opening: Cover, top: Curve) -> None:
        d = self.design
        # the character's left, which comes first, is the viewer's right, where outwards is to the viewer's right
        n = len(halves) // 2
        outward = torch.ones_like(top[:, :1])
        outward[n:] = -1
        small = pose.sided("iris_small")
        size = (1 - 0.66 * small) * (1 - 0.06 * pose.sided("eye_surprised")) * d.iris_size
        rx, ry = 7.6 * size, 9.6 * size
        # a positive rotation_y looks to the viewer's left, a positive rotation_x up
        x = -0.6 - outward * 4.6 * pose["iris_rotation_y"].repeat(2, 1)
        y = -0.8 - 3.8 * pose["iris_rotation_x"].repeat(2, 1)
        height = ((tile.y - y[..., None]) / ry[..., None]).clamp(-1, 1)
        deep: Colour = (0.06, 0.03, 0.10)
        dark, light = shadow_of(mix(d.iris, (0.1, 0.05, 0.2), 0.5)), mix(d.iris, (1.0, 1.0, 0.92), 0.5)
        disc = opening * tile.ellipse(x, y, rx, ry)
        tile.paint(halves, disc, mix(line_of(d.iris), dark, 0.3))
        inner = opening * tile.ellipse(x, y, rx * 0.87, ry * 0.88)
        tile.paint(halves, inner, _gradient(height, dark, d.iris, light))
        glow = inner * tile.ellipse(x, y + ry * 0.62, rx * 0.62, ry * 0.34, softness=2.5)
        tile.paint(halves, glow * 0.6, mix(light, (1, 1, 1), 0.35))
        tile.paint(halves, inner * tile.ellipse(x, y - ry * 0.02, rx * 0.40, ry * 0.42), mix(dark, deep, 0.6))
        tile.paint(halves, disc * tile.above(top + 3.8, softness=1.6) * 0.55, mix(dark, deep, 0.5))
        # the light comes from the viewer's left in both eyes
        large = tile.ellipse(x - outward * rx * 0.36, y - ry * 0.42, rx * 0.30, ry * 0.26)
        little = tile.ellipse(x + outward * rx * 0.38, y + ry * 0.42, rx * 0.17, ry * 0.13)
        shine = torch.maximum(large, little * 0.9) * (1 - 0.5 * small)[..., None]
        tile.paint(halves, shine * opening, (1.0, 1.0, 1.0))

    def _eyebrows(self, head: Tensor, fringe: Tensor, pose: FacialPose) -> None:
        d = self.design
        tile = Tile.around(head, _MIDDLE, _MIDDLE + d.eye_x + 1, d.brow_y, (17, 16))
        values = torch.cat([pose.sided(f"eyebrow_{name}") for name in _BROWS], dim=1)
        shift, slope, arch, squeeze = (values @ head.new_tensor(list(_BROWS.values()))).T[..., None]
        v = (tile.x + squeeze) / 12.5
        curve = shift + (d.brow_tilt + slope) * v - (2.6 + arch) * (1 - v * v)
        ends = smooth(v, -1.08, -0.8) * (1 - smooth(v, 0.8, 1.08))
        brow = tile.line(curve, d.brow_width * (1 - 0.55 * smooth(v, -0.6, 1.0)) * ends)
        ink = mix(line_of(d.hair), d.hair, 0.3)
        tile.paint(head, brow, ink)
        tile.paint(fringe, brow * 0.4, ink)

    def _mouth(self, canvas: Tensor, pose: FacialPose) -> None:
        d = self.design
        tile = Tile.around(canvas, STUDENT_FACE_REGION.left, _MIDDLE, d.mouth_y, (19, 19))
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
        tile.paint(canvas, opening, (0.55, 0.17, 0.20))
        tongue_y = lower.amax(1, keepdim=True) + 0.5
        tongue = tile.ellipse(1.6 * smirk, tongue_y, half * 0.72, (fall * 0.5).clamp_min(0.5), softness=1.5)
        tile.paint(canvas, opening * tongue, (0.93, 0.52, 0.52))
        tile.paint(
            canvas, opening * tile.above(upper + teeth) * (teeth[..., None] / 1.5).clamp(max=1), (0.99, 0.985, 0.98)
        )
        ink = mix(line_of(d.skin), (0.45, 0.15, 0.15), 0.35)
        ends = 1 - smooth(u.abs(), 0.75, 1.06)
        tile.paint(canvas, tile.line(upper, 1.25 * ends), ink)
        tile.paint(canvas, tile.line(lower, 1.0 * ends * (fall / 2).clamp(0, 1)) * 0.75, ink)
        # the shadow under the lower lip
        tile.paint(
            canvas, tile.line(lower + 4.0, 0.9 * (1 - smooth(u.abs(), 0.1, 0.5))) * 0.5, shadow_of(d.skin_shadow, 0.4)
        )


def _folded(crop: Float[Tensor, "n 3 128 128"]) -> Float[Tensor, "sides 3 128 64"]:
    """Both halves of the face, the character's left first, columns from the middle line outwards."""
    right, left = crop.chunk(2, dim=3)
    return torch.cat([left, right.flip(3)])


def _unfolded(halves: Float[Tensor, "sides 3 128 64"]) -> Float[Tensor, "n 3 128 128"]:
    left, right = halves.chunk(2)
    return torch.cat([right.flip(3), left], dim=3)


def _lids(d: Design, pose: FacialPose, u: Float[Tensor, "1 w"]) -> tuple[Curve, Curve]:
    """The upper and lower edge of the eyes' openings, all poses' left eyes first."""

    def of(morph: str) -> Tensor:
        return pose.sided(f"eye_{morph}")

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


def _gradient(
    height: Float[Tensor, "sides h 1"], top: Colour, middle: Colour, bottom: Colour
) -> Float[Tensor, "sides 3 h 1"]:
    """Three colours down the iris; ``height`` runs from -1 to 1."""
    t, m, b = (height.new_tensor(colour)[None, :, None, None] for colour in (top, middle, bottom))
    h = height[:, None]
    return m + (t - m) * (-h * 1.1 + 0.1).clamp(0, 1) + (b - m) * (h * 1.1 - 0.05).clamp(0, 1)

"""Brush: anti-aliased shapes, tapered strokes and shading on one 512x512 layer of the puppet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from thadistill.images import IMAGE_SIZE, srgb_to_linear

Points = Float[np.ndarray, "_ 2"]  # x, y in pixels of the character image
Mask = Float[np.ndarray, "512 512"]
Number = int | float  # beartype, unlike mypy, does not take a whole number for a float
Colour = tuple[Number, Number, Number]  # sRGB in [0, 1]
_SUPERSAMPLING = 4


def mix(a: Colour, b: Colour, t: Number) -> Colour:
    """``a`` at t = 0, ``b`` at t = 1, in sRGB."""
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def shadow_of(colour: Colour, strength: Number = 1.0) -> Colour:
    """The cel shadow of a colour: darker, and shifted towards violet as anime painters do."""
    r, g, b = colour
    return mix(colour, (r * 0.76, g * 0.66, min(1.0, b * 0.78 + 0.02)), strength)


def line_of(colour: Colour) -> Colour:
    """The outline that belongs to a fill: its own hue, much darker, never pure black."""
    r, g, b = colour
    return (r * 0.42 + 0.06, g * 0.32 + 0.03, b * 0.36 + 0.06)


def points(*xy: tuple[Number, Number]) -> Points:
    """A polyline from its corners."""
    return np.array(xy, dtype=np.float64)


def spline(*xy: tuple[Number, Number], closed: bool = False, samples: int = 10) -> Points:
    """A smooth (Catmull-Rom) curve through the given points."""
    p = np.array(xy, dtype=np.float64)
    padded = np.concatenate([p[-1:], p, p[:2]] if closed else [2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, 1, samples, endpoint=False)[None, :, None]
    a, b, c, d = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    flat = curve.reshape(-1, 2)
    return flat if closed else np.concatenate([flat, p[-1:]])


def mirrored(path: Points) -> Points:
    """The path on the other side of the character's middle line."""
    return np.stack([IMAGE_SIZE - path[:, 0], path[:, 1]], axis=1)


Side = Callable[[Points], Points]
SIDES: tuple[Side, Side] = (lambda path: path, mirrored)  # the viewer's right as drawn, and its mirror image


def symmetric(half: Points) -> Points:
    """A closed outline from its right half (the viewer's right), given from one end of the middle line to the other."""
    return np.concatenate([half, mirrored(half)[::-1]])


def moved(path: Points, dx: Number = 0.0, dy: Number = 0.0) -> Points:
    """The path shifted by pixels."""
    return path + np.array([dx, dy])


def ribbon(path: Points, widths: Sequence[Number]) -> Points:
    """The closed outline of a stroke along ``path``; widths are spread evenly along its length."""
    step = np.gradient(path, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1) / np.maximum(np.hypot(*step.T), 1e-9)[:, None]
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    width = np.interp(length / length[-1], np.linspace(0, 1, len(widths)), widths)[:, None]
    return np.concatenate([path + normal * width / 2, (path - normal * width / 2)[::-1]])


def ellipse(x: Number, y: Number, rx: Number, ry: Number, tilt: Number = 0.0, samples: int = 40) -> Points:
    """``tilt`` in radians, clockwise."""
    t = np.linspace(0, 2 * np.pi, samples, endpoint=False)
    u, v = rx * np.cos(t), ry * np.sin(t)
    return np.stack([x + u * np.cos(tilt) - v * np.sin(tilt), y + u * np.sin(tilt) + v * np.cos(tilt)], axis=1)


def coverage(outline: Points) -> tuple[tuple[slice, slice], Float[np.ndarray, "h w"]]:
    """How much of each pixel a closed outline covers, in [0, 1], with the rectangle of the image it concerns."""
    low = np.clip(np.floor(outline.min(0)) - 1, 0, IMAGE_SIZE - 1).astype(int)
    high = np.clip(np.ceil(outline.max(0)) + 1, low + 1, IMAGE_SIZE).astype(int)
    width, height = (high - low).tolist()
    picture = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    # Pillow's integer coordinates are the middles of its pixels
    corners = (outline - low) * _SUPERSAMPLING - 0.5
    ImageDraw.Draw(picture).polygon(corners.round().astype(int).reshape(-1).tolist(), fill=255)
    mask = np.asarray(picture.reduce(_SUPERSAMPLING), dtype=np.float32) / 255
    return (slice(low[1], high[1]), slice(low[0], high[0])), mask


@dataclass
class Layer:
    """One layer: RGB in sRGB multiplied by alpha, and alpha, both in [0, 1]."""

    rgb: Float[np.ndarray, "512 512 3"] = field(
        default_factory=lambda: np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    )
    alpha: Mask = field(default_factory=lambda: np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32))

    def fill(
        self, outline: Points, colour: Colour, opacity: Number = 1.0, *, atop: bool = False, within: Mask | None = None
    ) -> None:
        """Paints a closed shape; ``atop``: only where the layer is already painted; ``within``: only inside a mask."""
        box, mask = coverage(outline)
        self._paint(box, mask * opacity if within is None else mask * opacity * within[box], colour, atop)

    def stroke(
        self,
        path: Points,
        colour: Colour,
        widths: Sequence[Number] = (0.4, 1.3, 0.4),
        opacity: Number = 1.0,
        *,
        atop: bool = False,
    ) -> None:
        """Draws a line whose width (pixels) changes along its length."""
        self.fill(ribbon(path, widths), colour, opacity, atop=atop)

    def outline(self, path: Points, colour: Colour, width: Number = 1.2) -> None:
        """Draws a line of even width around a closed shape."""
        self.fill(ribbon(np.concatenate([path, path[:1]]), (width, width)), colour)

    def wash(self, mask: Mask, colour: Colour, opacity: Number = 1.0) -> None:
        """Tints what is already painted, as much as ``mask`` says."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            self._paint(box, mask[box] * opacity, colour, atop=True)

    def glow(self, x: Number, y: Number, rx: Number, ry: Number, colour: Colour, opacity: Number) -> None:
        """Tints what is already painted with a soft spot."""
        self.wash(soft_spot(x, y, rx, ry), colour, opacity)

    def _paint(self, box: tuple[slice, slice], mask: np.ndarray, colour: Colour, atop: bool) -> None:
        alpha = self.alpha[box]
        painted = mask * alpha if atop else mask
        self.rgb[box] = self.rgb[box] * (1 - mask)[..., None] + painted[..., None] * np.array(colour, np.float32)
        if not atop:
            self.alpha[box] = alpha * (1 - mask) + mask

    def straight(self) -> Float[np.ndarray, "512 512 3"]:
        """The colours not multiplied by alpha, sRGB."""
        return self.rgb / np.maximum(self.alpha, 1e-6)[..., None]

    def linear(self) -> Float[Tensor, "4 512 512"]:
        """Linear RGB multiplied by alpha, and alpha, in [0, 1]."""
        rgb = srgb_to_linear(torch.from_numpy(self.straight()).permute(2, 0, 1).clamp(0, 1))
        alpha = torch.from_numpy(self.alpha)[None]
        return torch.cat([rgb * alpha, alpha])


def mask_of(outline: Points) -> Mask:
    """The coverage of a closed shape over the whole image."""
    mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
    box, inside = coverage(outline)
    mask[box] = inside
    return mask


def soft_spot(x: Number, y: Number, rx: Number, ry: Number) -> Mask:
    """A Gaussian spot, 1 at its centre, cut off where it no longer shows."""
    at = np.arange(IMAGE_SIZE, dtype=np.float32) + 0.5
    along, down = (np.exp(-(((at - middle) / radius) ** 2)) for middle, radius in ((x, rx), (y, ry)))
    spot = np.outer(np.where(down > 1e-3, down, 0), np.where(along > 1e-3, along, 0))
    return spot.astype(np.float32)


def ramp(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Mask:
    """A mask from a function of x and y (pixel centres), clipped to [0, 1]."""
    at = np.arange(IMAGE_SIZE, dtype=np.float32) + 0.5
    values = np.clip(function(at[None], at[:, None]), 0, 1).astype(np.float32)
    return np.broadcast_to(values, (IMAGE_SIZE, IMAGE_SIZE))

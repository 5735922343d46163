"""Body: the puppet's neck, arms and legs, and how a painted panel is shaded and outlined."""

from __future__ import annotations

import numpy as np

from thadistill.puppet.brush import (
    SIDES,
    Colour,
    Layer,
    Number,
    Points,
    line_of,
    mask_of,
    mix,
    moved,
    points,
    ribbon,
    shadow_of,
    spline,
    symmetric,
)
from thadistill.puppet.design import Design
from thadistill.puppet.head import face_outline


def panel(layer: Layer, outline: Points, colour: Colour, width: Number = 1.3) -> None:
    """A filled shape with its outline."""
    layer.fill(outline, colour)
    layer.outline(outline, line_of(colour), width)


def shaded(layer: Layer, outline: Points, colour: Colour, dx: Number, dy: Number = 0.0) -> None:
    """A panel with cel shadow: the part of it that the shape, shifted, does not cover."""
    panel(layer, outline, colour)
    inside, lit = mask_of(outline), mask_of(moved(outline, -dx, -dy))
    layer.wash(np.clip(inside - lit, 0, 1), shadow_of(colour), 0.9)
    layer.outline(outline, line_of(colour), 1.3)


def arm(design: Design) -> Points:
    """The middle line of the arm on the viewer's right, shoulder to wrist."""
    s = design.shoulder
    return spline(
        (256 + s - 17, 227),
        (256 + s - 3, 238),
        (256 + s + 8, 270),
        (256 + s + 17, 312),
        (256 + s + 25, 356),
        (256 + s + 31, 392),
    )


def arms(layer: Layer, design: Design) -> None:
    """Both bare arms, with hands."""
    for side in SIDES:
        path = arm(design)
        hand = _hand(path[-1])
        panel(layer, side(hand), design.skin, 1.1)
        x, y = path[-1]
        for gap in (-1.0, 3.0):
            finger = spline((x + gap, y + 13), (x + gap + 0.4, y + 18), (x + gap * 0.9, y + 22))
            layer.stroke(side(finger), line_of(design.skin), (0.2, 0.9, 0.5), 0.7)
        layer.stroke(
            side(spline((x - 8, y + 7), (x - 5, y + 9), (x - 4, y + 14))), line_of(design.skin), (0.5, 0.9, 0.2), 0.7
        )
        skin = ribbon(path, (14, 20, 19, 17, 15, 13, 11))
        panel(layer, side(skin), design.skin, 1.2)
        layer.fill(side(moved(skin, -6, 0)), design.skin_shadow, 0.6, within=mask_of(side(skin)))


def _hand(wrist: np.ndarray) -> Points:
    x, y = wrist
    return spline(
        (x - 5, y - 4),
        (x + 5.5, y - 4),
        (x + 9, y + 7),
        (x + 7.5, y + 19),
        (x + 2.5, y + 25),
        (x - 2, y + 20),
        (x - 6, y + 14),
        (x - 9, y + 6),
        closed=True,
    )


def neck(layer: Layer, design: Design) -> None:
    """Neck and collar bones, in the shadow of the chin."""
    half = spline((256, 172), (266, 174), (266.5, 196), (270, 206), (284, 213), (294, 222), (280, 250), (256, 262))
    neck = symmetric(half)
    layer.fill(neck, design.skin)
    layer.fill(moved(face_outline(design), 0, 8), design.skin_shadow, 1.0, within=mask_of(neck))
    for side in SIDES:
        layer.stroke(
            side(spline((266, 176), (266.5, 196), (270, 206), (284, 213))), line_of(design.skin), (0.6, 1.2, 1.0)
        )
        layer.stroke(side(spline((260, 219), (267, 216.5), (277, 217))), design.skin_shadow, (0.3, 1.4, 0.3))


def legs(layer: Layer, design: Design) -> None:
    """Both legs down to the image's edge, in stockings if the design has them."""
    for side in SIDES:
        leg = spline(
            (258, 400), (259, 440), (261, 480), (262, 530), (290, 530), (293, 480), (298, 440), (299, 400), closed=True
        )
        panel(layer, side(leg), design.skin)
        layer.fill(side(moved(leg, -14, 0)), design.skin_shadow, 0.7, within=mask_of(side(leg)))
        layer.outline(side(leg), line_of(design.skin), 1.2)
        if design.stockings:
            sock = spline((259.5, 474), (276, 478), (294, 474), (292, 530), (262, 530), closed=True)
            colour = mix(design.cloth, (0.12, 0.11, 0.15), 0.7)
            panel(layer, side(sock), colour)
    layer.fill(points((215, 428), (297, 428), (296, 447), (216, 447)), design.skin_shadow, 0.8, atop=True)


def torso(design: Design, waist: Number, bottom: Number, hip: Number, collar: Number = 15.0) -> Points:
    """The outline of a top: half widths at waist and hip, y of its hem."""
    s = design.shoulder
    half = spline(
        (256, 214),
        (256 + collar, 207),
        (256 + s - 9, 219),
        (256 + s + 1, 230),
        (256 + s - 5, 262),
        (256 + waist + 2, 300),
        (256 + waist, 322),
        (256 + hip, bottom),
        (256, bottom + 4),
    )
    return symmetric(half)

"""Head: the puppet's face without its features, ears and neck's shadow; the features are drawn at each pose."""

from __future__ import annotations

import numpy as np

from thadistill.puppet.brush import (
    SIDES,
    Layer,
    Mask,
    Points,
    line_of,
    mix,
    moved,
    ramp,
    shadow_of,
    spline,
    symmetric,
)
from thadistill.puppet.design import Design


def face_outline(design: Design) -> Points:
    """The face from the crown (hidden by hair) to the chin, closed."""
    jaw, chin, round_ = design.jaw, design.chin, design.cheek
    half = spline(
        (256, 78),
        (256 + jaw * 0.72, 92),
        (256 + jaw * 0.99, 122),
        (256 + jaw, 146),
        (256 + jaw * (0.875 + 0.03 * round_), chin - 27),
        (256 + jaw * (0.54 + 0.07 * round_), chin - 11.5 + 1.5 * round_),
        (256 + jaw * (0.17 + 0.07 * round_), chin - 1.7),
        (256, chin),
    )
    return symmetric(half)


def draw_head(design: Design, hair_above: Mask) -> Layer:
    """Face, ears, nose and cheeks. ``hair_above`` (the front hair's alpha) casts its shadow on the forehead."""
    layer = Layer()
    skin, shade, line = design.skin, design.skin_shadow, line_of(design.skin)
    for side in SIDES:
        ear = spline(
            (256 + design.jaw - 2, 143),
            (256 + design.jaw + 4.5, 140),
            (256 + design.jaw + 6, 148),
            (256 + design.jaw + 2.5, 159),
            (256 + design.jaw - 3, 162),
            closed=True,
        )
        layer.fill(side(ear), skin)
        layer.fill(side(moved(ear, -2.0, 1.5)), shade, 0.8, atop=True)
        layer.outline(side(ear), line, 1.0)
    face = face_outline(design)
    layer.fill(face, skin)
    layer.stroke(face, mix(line, skin, 0.12), (0, 0, 1.1, 1.35, 1.1, 0, 0))

    cast = np.zeros_like(hair_above)
    cast[5:] = hair_above[:-5]
    layer.wash(cast * ramp(lambda x, y: (150 - y) / 12), shade, 0.85)
    layer.wash(
        ramp(lambda x, y: (np.abs(x - 256) - design.jaw + 5) / 6) * ramp(lambda x, y: (y - 120) / 20), shade, 0.5
    )
    for side_x in (-1, 1):
        blush = mix(skin, (0.98, 0.45, 0.45), 0.55)
        layer.glow(256 + side_x * (design.eye_x + 4.5), design.eye_y + 15.5, 10, 5, blush, 0.55)
    nose_y = (design.eye_y * 0.42 + design.mouth_y * 0.58) - 0.5
    nose = spline((254.6, nose_y - 2.6), (257.4, nose_y + 0.4), (255.0, nose_y + 1.2))
    layer.fill(nose, shadow_of(shade, 0.9), 0.75, atop=True)
    layer.glow(256.0, nose_y - 4, 1.3, 3.2, mix(skin, (1, 1, 1), 0.7), 0.6)
    return layer

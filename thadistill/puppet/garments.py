"""Garments: sleeves, skirts, trousers, necklines and bows, the parts that outfits are made of."""

from __future__ import annotations

import numpy as np

from thadistill.puppet.body import arm, panel, shaded
from thadistill.puppet.brush import (
    SIDES,
    Colour,
    Layer,
    Number,
    ellipse,
    line_of,
    mask_of,
    mix,
    moved,
    points,
    ribbon,
    shadow_of,
    spline,
)
from thadistill.puppet.design import Design
from thadistill.puppet.head import face_outline


def sleeve(
    layer: Layer, design: Design, colour: Colour, end: Number, widths: tuple[Number, ...], cuff: Colour | None
) -> None:
    """Both sleeves over the first ``end`` (0 to 1) of the arms."""
    for side in SIDES:
        path = arm(design)
        path = path[: max(4, int(len(path) * end))]
        shape = ribbon(path, widths)
        panel(layer, side(shape), colour)
        mask = mask_of(side(shape))
        layer.fill(side(moved(shape, -widths[2] * 0.36, 2)), shadow_of(colour), 0.75, within=mask)
        layer.outline(side(shape), line_of(colour), 1.2)
        for k in (0.42, 0.5):
            fold = path[int(len(path) * k)]
            layer.stroke(
                side(spline((fold[0] - 9, fold[1] + 2), (fold[0] - 3, fold[1] + 5), (fold[0] + 3, fold[1] + 3))),
                line_of(colour),
                (0.8, 1.0, 0.1),
                0.7,
            )
        if cuff is not None:
            tail = path[-4:]
            panel(layer, side(ribbon(tail, (widths[-1] + 2.5, widths[-1] + 2.0))), cuff)


def skirt(
    layer: Layer, colour: Colour, top: Number, bottom: Number, waist: Number, hem: Number, stripe: Colour | None
) -> None:
    """A pleated skirt; ``waist`` and ``hem`` are half widths."""
    xs = np.linspace(-1, 1, 15)
    wave = [(256 + x * hem, bottom + 5 * (1 - x * x) + (2.5 if i % 2 else -2.0)) for i, x in enumerate(xs)]
    outline = np.concatenate(
        [
            spline((256 - waist, top), (256, top + 3), (256 + waist, top)),
            spline((256 + waist, top), (256 + hem * 0.85, (top + bottom) / 2), wave[-1]),
            points(*wave[::-1]),
            spline(wave[0], (256 - hem * 0.85, (top + bottom) / 2), (256 - waist, top)),
        ]
    )
    layer.fill(outline, colour)
    inside = mask_of(outline)
    for i in range(1, 14, 2):
        u, v = xs[i], xs[i + 1]
        pleat = points((256 + u * waist, top), (256 + v * waist, top), wave[i + 1], wave[i])
        layer.fill(pleat, shadow_of(colour), 0.65, within=inside)
    for i in range(1, 14, 2):
        layer.stroke(points((256 + xs[i] * waist * 1.02, top + 8), wave[i]), line_of(colour), (0.2, 0.9, 1.1), 0.8)
    if stripe is not None:
        layer.fill(ribbon(points(*[(x, y - 8) for x, y in wave]), (3, 3)), stripe, within=inside)
    layer.outline(outline, line_of(colour), 1.3)


def trousers(layer: Layer, colour: Colour) -> None:
    """Two straight legs down to the image's edge."""
    for side in SIDES:
        leg = spline(
            (256, 376), (298, 374), (302, 410), (300, 470), (295, 530), (262, 530), (259, 470), (256, 424), closed=True
        )
        shaded(layer, side(leg), colour, 6)
    layer.stroke(points((256, 384), (256, 424)), line_of(colour), (1.0, 1.2))
    for side in SIDES:
        layer.stroke(side(spline((281, 420), (280, 470), (278, 512))), line_of(colour), (0.1, 0.9, 0.9), 0.5)


def neckline(layer: Layer, design: Design, depth: Number) -> None:
    """The V of skin that an open collar shows."""
    vee = np.concatenate([spline((241, 204), (249, 226), (256, depth)), spline((256, depth), (263, 226), (271, 204))])
    layer.fill(vee, design.skin)
    layer.fill(moved(face_outline(design), 0, 12), design.skin_shadow, 1.0, within=mask_of(vee))
    layer.stroke(spline((260, 220), (266, 217.5), (268, 217)), design.skin_shadow, (0.3, 1.4, 0.3))
    layer.stroke(spline((252, 220), (246, 217.5), (244, 217)), design.skin_shadow, (0.3, 1.4, 0.3))


def bow(layer: Layer, x: Number, y: Number, colour: Colour, size: Number = 1.0, tails: Number = 26.0) -> None:
    """A tied ribbon with its two ends."""
    for way in (-1, 1):
        tail = points(
            (x + way * 1, y),
            (x + way * 8 * size, y + tails),
            (x + way * 3.5 * size, y + tails - 5),
            (x + way * 0.5, y + tails - 2),
        )
        panel(layer, tail, shadow_of(colour, 0.5), 1.1)
    for way in (-1, 1):
        wing = spline(
            (x, y),
            (x + way * 10 * size, y - 8 * size),
            (x + way * 19 * size, y - 6 * size),
            (x + way * 18 * size, y + 7 * size),
            (x + way * 9 * size, y + 5 * size),
            closed=True,
        )
        panel(layer, wing, colour, 1.1)
        layer.stroke(points((x + way * 3, y), (x + way * 12 * size, y + 1)), line_of(colour), (1.2, 0.2))
    panel(layer, ellipse(x, y, 4.2 * size, 4.6 * size), mix(colour, (1, 1, 1), 0.12), 1.1)

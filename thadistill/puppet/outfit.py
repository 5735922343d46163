"""Outfit: the puppet's clothes over its body, one layer below the head."""

from __future__ import annotations

import numpy as np

from thadistill.puppet.body import arms, legs, neck, panel, shaded, torso
from thadistill.puppet.brush import (
    SIDES,
    Layer,
    ellipse,
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
from thadistill.puppet.garments import bow, neckline, skirt, sleeve, trousers
from thadistill.puppet.head import face_outline


def draw_body(design: Design) -> Layer:
    """Everything below the chin, the neck included, dressed."""
    layer = Layer()
    legs(layer, design)
    if design.outfit != "dress":
        arms(layer, design)
    neck(layer, design)
    {
        "sailor": _sailor,
        "hoodie": _hoodie,
        "blazer": _blazer,
        "dress": _dress,
        "sweater": _sweater,
    }[design.outfit](layer, design)
    return layer


def _sailor(layer: Layer, design: Design) -> None:
    sleeve(layer, design, design.shirt, 0.42, (17, 27, 29, 30, 29), design.cloth)
    skirt(layer, design.cloth, 338, 436, 35, 68, design.trim)
    shaded(layer, torso(design, 34, 346, 37), design.shirt, 7, 3)
    neckline(layer, design, 244)
    for side in SIDES:
        collar = points((270, 204), (276, 207), (296, 221), (297, 246), (256, 254), (264, 232))
        panel(layer, side(collar), design.cloth)
        layer.stroke(
            side(points((268, 214), (291, 224), (291.5, 241), (262, 247))),
            mix(design.shirt, design.cloth, 0.1),
            (1.6, 1.6),
        )
    bow(layer, 256, 253, design.trim, 0.95)


def _hoodie(layer: Layer, design: Design) -> None:
    shorts = symmetric(spline((256, 380), (300, 378), (303, 405), (306, 436), (280, 441), (259, 438), (256, 420)))
    cloth = mix(design.trim, (0.2, 0.2, 0.26), 0.45)
    if design.trousers:
        trousers(layer, cloth)
    else:
        shaded(layer, shorts, cloth, 6)
    sleeve(layer, design, design.cloth, 0.97, (18, 31, 33, 32, 31, 30, 22), mix(design.cloth, design.shirt, 0.75))
    shaded(layer, torso(design, 41, 392, 47), design.cloth, 8, 3)
    band = ribbon(spline((210, 389), (256, 396), (302, 389)), (10, 10))
    panel(layer, band, mix(design.cloth, design.shirt, 0.75))
    pocket = points((232, 336), (280, 336), (292, 376), (220, 376))
    panel(layer, pocket, mix(design.cloth, (1, 1, 1), 0.08))
    neckline(layer, design, 228)
    for side in SIDES:
        hood = spline(
            (268, 199), (283, 203), (299, 219), (290, 238), (270, 248), (256, 247), (260, 236), (270, 220), closed=True
        )
        shaded(layer, side(hood), mix(design.cloth, design.shirt, 0.35), 3, 4)
    for x, end in ((247, 291), (265, 284)):
        layer.stroke(spline((x + (256 - x) * 0.3, 246), (x, 262), (x, end)), design.shirt, (2.4, 2.4, 2.4))
        layer.stroke(spline((x + 1.5, 262), (x + 1.5, end)), line_of(design.cloth), (0.6, 0.6), 0.6)
        layer.fill(ellipse(x, end, 2.2, 3.4), mix(design.trim, (1, 1, 1), 0.3))
    layer.stroke(points((256, 248), (256, 334)), line_of(design.cloth), (1.0, 1.0), 0.5)


def _blazer(layer: Layer, design: Design) -> None:
    cloth = mix(design.trim, (0.25, 0.25, 0.32), 0.35)
    if design.trousers:
        trousers(layer, cloth)
    else:
        skirt(layer, cloth, 362, 436, 40, 64, design.shirt)
    sleeve(layer, design, design.cloth, 0.95, (17, 27, 28, 26, 25, 24, 21), shadow_of(design.cloth))
    shaded(layer, torso(design, 36, 380, 45), design.cloth, 7, 3)
    shirt = np.concatenate([spline((238, 203), (246, 250), (256, 306)), spline((256, 306), (266, 250), (274, 203))])
    panel(layer, shirt, design.shirt)
    layer.fill(moved(face_outline(design), 0, 17), shadow_of(design.shirt), 0.8, within=mask_of(shirt))
    neck = points((245, 200), (267, 200), (256, 219))
    layer.fill(neck, design.skin)
    layer.fill(neck, design.skin_shadow, 0.9)
    tie = points((252, 222), (260, 222), (262.5, 286), (256, 296), (249.5, 286))
    shaded(layer, tie, design.trim, 3)
    panel(layer, points((251, 216), (261, 216), (259, 225), (253, 225)), design.trim, 1.1)
    for side in SIDES:
        panel(layer, side(points((267, 199), (274, 204), (272, 226), (257, 217))), design.shirt, 1.1)
        lapel = points((273, 203), (286, 212), (291, 240), (280, 246), (284, 253), (257, 308), (266, 250))
        panel(layer, side(lapel), mix(design.cloth, (1, 1, 1), 0.1))
    layer.stroke(points((257, 308), (258, 381)), line_of(design.cloth), (1.2, 1.2))
    for y in (324, 348):
        panel(layer, ellipse(263.5, y, 3.1, 3.1), (0.93, 0.78, 0.42), 1.0)


def _dress(layer: Layer, design: Design) -> None:
    arms(layer, design)
    skirt(layer, design.cloth, 316, 448, 34, 82, mix(design.shirt, design.cloth, 0.1))
    shaded(layer, torso(design, 33, 330, 34), design.cloth, 7, 3)
    for side in SIDES:
        x = 256 + design.shoulder
        puff = spline(
            (x - 11, 217), (x + 6, 219), (x + 17, 236), (x + 15, 257), (x + 2, 262), (x - 9, 254), closed=True
        )
        shaded(layer, side(puff), design.shirt, 5, -3)
        layer.stroke(
            side(spline((x + 0, 225), (x + 3, 240), (x + 2, 256))), line_of(design.shirt), (0.2, 1.0, 1.0), 0.6
        )
        panel(layer, side(ribbon(spline((x - 9, 254), (x + 3, 261), (x + 15, 256)), (5, 5))), design.trim)
    bib = symmetric(spline((256, 216), (272, 208), (277, 240), (272, 310), (256, 312)))
    shaded(layer, bib, design.shirt, 4)
    for y in (262, 280, 298):
        layer.fill(ellipse(256, y, 1.9, 1.9), mix(design.cloth, (0.2, 0.15, 0.2), 0.3))
    belt = ribbon(spline((221, 318), (256, 323), (291, 318)), (11, 11))
    panel(layer, belt, mix(design.trim, (0.2, 0.15, 0.2), 0.15))
    neckline(layer, design, 218)
    for side in SIDES:
        collar = spline((256, 219), (266, 206), (276, 204), (287, 218), (277, 231), (263, 229), closed=True)
        shaded(layer, side(collar), mix(design.shirt, (1, 1, 1), 0.5), 2, 3)
    bow(layer, 256, 224, design.trim, 0.7, 18)


def _sweater(layer: Layer, design: Design) -> None:
    cloth = mix(design.trim, (0.3, 0.28, 0.33), 0.3)
    if design.trousers:
        trousers(layer, cloth)
    else:
        skirt(layer, cloth, 366, 434, 42, 62, None)
    sleeve(layer, design, design.cloth, 0.98, (17, 27, 29, 28, 28, 28, 22), shadow_of(design.cloth, 0.6))
    shaded(layer, torso(design, 39, 378, 46, 17), design.cloth, 8, 3)
    band = ribbon(spline((210, 376), (256, 383), (302, 376)), (11, 11))
    panel(layer, band, shadow_of(design.cloth, 0.6))
    for k in range(-8, 9):
        layer.stroke(
            points((256 + k * 5.4, 377), (256 + k * 5.4, 387)), line_of(design.cloth), (0.8, 0.8), 0.5, atop=True
        )
    for y in (262, 272):
        stripe = spline((214, y - 3), (256, y + 5), (298, y - 3))
        layer.stroke(stripe, mix(design.shirt, design.trim, 0.25 if y > 265 else 0.0), (5, 5), atop=True)
    neck = symmetric(spline((256, 197), (268, 194), (273, 203), (277, 213), (256, 222)))
    shaded(layer, neck, mix(design.cloth, (1, 1, 1), 0.1), 4, -3)
    for k in range(-3, 4):
        layer.stroke(
            spline((256 + k * 4.2, 201), (256 + k * 5, 217)), line_of(design.cloth), (0.2, 0.9, 0.3), 0.5, atop=True
        )

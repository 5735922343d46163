"""Front hair: the cap, the bangs, the locks before the ears, the ahoge and what is worn in the hair."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from thadistill.puppet.brush import (
    SIDES,
    Layer,
    Number,
    Points,
    ellipse,
    line_of,
    mask_of,
    mix,
    moved,
    points,
    ramp,
    ribbon,
    shadow_of,
    spline,
)
from thadistill.puppet.design import Design

_TOP = [(196.5, 150.0), (194.5, 122.0), (203.0, 92.0), (225.0, 69.5), (256.0, 62.0)]
_DOME = [*_TOP, *((512 - x, y) for x, y in reversed(_TOP[:-1]))]
Tip = tuple[Number, Number, Number]  # x and y of a lock's tip, and how far the lock bends to the viewer's right


def draw_front_hair(design: Design) -> Layer:
    """Everything of the hair that lies before the face."""
    layer = Layer()
    _side_locks(layer, design)
    _bangs(layer, design)
    _shine(layer, design)
    layer.stroke(_dome(design), line_of(design.hair), (1.2, 1.5, 1.5, 1.5, 1.2))
    if design.ahoge:
        _ahoge(layer, design)
    _accessory(layer, design)
    return layer


def _dome(design: Design) -> Points:
    """The outline of the hair over the head, from the viewer's left; in tufts if it is tousled."""
    if design.back != "tousled":
        return spline(*_DOME)
    # where a tuft points (degrees from straight up), how far it stands out, how far it leans on
    tufts = (
        (-98, 8, -6),
        (-74, 9, -6),
        (-50, 7, -7),
        (-27, 10, -7),
        (-3, 7, 6),
        (20, 11, 7),
        (44, 8, 7),
        (70, 9, 6),
        (96, 8, 6),
    )
    way = 1 if design.parting >= 0 else -1
    edge = []
    for angle, height, lean in tufts[::way]:
        foot, tip = np.radians(way * (angle + 12)), np.radians(way * (angle + lean))
        rim = np.radians(way * (angle - 12))
        turns = ((rim, 0), (tip, height), (foot, 0))[::way]
        at = [(256 + (60 + h) * np.sin(a), 126 - (63 + h) * np.cos(a)) for a, h in turns]
        middle = [((p[0] + q[0]) / 2 + 0.05 * (p[0] - 256), (p[1] + q[1]) / 2 - 1.5) for p, q in pairwise(at)]
        edge += [spline(at[0], middle[0], at[1]), spline(at[1], middle[1], at[2])]
    return np.concatenate(edge)


def _side_locks(layer: Layer, design: Design) -> None:
    end = design.side_lock
    tip = (303 - 0.08 * (end - 170), end)
    for side in SIDES:
        outer = spline((313, 100), (317.5, 122), (316, 150), (311, 150 + 0.45 * (end - 150)), tip)
        inner = spline((288, 92), (293, 118), (295, 142), (294, 146 + 0.5 * (end - 150)), tip)
        shape = np.concatenate([outer, inner[::-1]])
        layer.fill(side(shape), design.hair)
        layer.fill(side(np.concatenate([inner, (inner * 0.72 + outer * 0.28)[::-1]])), shadow_of(design.hair), 0.75)
        split = spline((303, 126), (304.5, 150), (303, 150 + 0.6 * (end - 150)))
        layer.stroke(side(split), line_of(design.hair), (0.1, 1.1, 0.2), 0.8)
        layer.stroke(side(outer), line_of(design.hair), (1.3, 1.4, 1.2))
        layer.stroke(side(inner), line_of(design.hair), (0.2, 1.0, 1.3, 1.2))


def _tips(design: Design) -> tuple[list[Tip], Number]:
    """The tips of the bangs from the viewer's left to the right, and how deep the gaps between them are.

    Neighbours that bend away from each other by more than 5 pixels make a parting, through which the forehead shows.
    """
    y, part = design.fringe, design.parting
    if design.bangs == "blunt":
        xs = (-43, -32, -21.5, -11, 0, 10.5, 21, 32, 43)
        return [(256.0 + x, y + 0.007 * x * x + (1.6 if i % 2 else -0.8), 0.02 * x) for i, x in enumerate(xs)], 9.0
    if design.bangs == "parted":
        left = [(213.0, y + 22, -3.0), (224.0, y + 10, -3.0), (237 + 0.5 * part, y + 4, -4.0)]
        right = [(277 + 0.5 * part, y + 4, 4.0), (288.0, y + 10, 3.0), (299.0, y + 22, 3.0)]
        return [*left, *right], 15.0
    if design.bangs == "swept":
        way = 1 if part >= 0 else -1
        drops = ((-42, 22), (-31, 12), (-19, 5), (-6, 3), (8, 4), (22, 8), (36, 16), (45, 26))
        tips = [(256.0 + way * (x + 3), y + drop, way * 5.0) for x, drop in drops]
        return tips[::way], 13.0
    if design.bangs == "curtain":
        sides = ((46, 32), (39, 20), (31, 8), (20, -3))
        return [
            *[(256 - x + 0.2 * part, y + drop, -4.0) for x, drop in sides],
            *[(256 + x + 0.2 * part, y + drop, 4.0) for x, drop in reversed(sides)],
        ], 8.0
    xs = (-44, -33, -23, -9, 3, 14, 27, 36, 45)
    spikes = (18, 4, 9, -3, 7, -4, 8, 3, 19)
    return [(256.0 + x, y + drop, 2.5 if drop > 5 else -2.5) for x, drop in zip(xs, spikes, strict=True)], 20.0


def _gap(a: Tip, b: Tip, depth: Number) -> tuple[Number, Number]:
    """Where two neighbouring locks part."""
    if b[2] - a[2] > 5:
        return (a[0] + b[0]) / 2, min(a[1], b[1]) - 26
    return (a[0] + b[0]) / 2 - (a[2] + b[2]) / 4, min(a[1], b[1]) - depth


def _edge(gap: tuple[Number, Number], tip: Tip) -> Points:
    """One side of a lock, from the gap to the tip, full at first and then drawn to a point."""
    t = np.linspace(0, 1, 9)[:, None]
    elbow = np.array([gap[0] + 0.22 * (tip[0] - gap[0]) - 0.35 * tip[2], gap[1] + 0.62 * (tip[1] - gap[1])])
    return (1 - t) ** 2 * np.array(gap) + 2 * t * (1 - t) * elbow + t**2 * np.array(tip[:2])


def _bangs(layer: Layer, design: Design) -> None:
    hair, line, shade = design.hair, line_of(design.hair), shadow_of(design.hair)
    tips, depth = _tips(design)
    gaps = [_gap(a, b, depth) for a, b in pairwise(tips)]
    ends = (199.5, tips[0][1] - 4), (312.5, tips[-1][1] - 4)
    gaps = [ends[0], *gaps, ends[1]]
    edges: list[Points] = []
    for before, tip, after in zip(gaps, tips, gaps[1:], strict=False):
        edges += [_edge(before, tip), _edge(after, tip)[::-1]]
    lower = np.concatenate(edges)
    mass = np.concatenate([_dome(design), lower[::-1]])
    layer.fill(mass, hair)
    inside = mask_of(mass)
    crown = (256 + 0.5 * design.parting, 66.0)
    for gap in gaps[1:-1]:
        # a strand: from the gap it bends up towards the crown and fades
        reach = 0.62
        top = (gap[0] + reach * (crown[0] - gap[0]) * 0.75, gap[1] + reach * (crown[1] - gap[1]))
        middle = ((gap[0] + top[0]) / 2 + 0.06 * (gap[0] - 256), (gap[1] + top[1]) / 2)
        strand = spline(gap, middle, top)
        away = 1.6 if gap[0] >= 256 else -1.6
        layer.fill(ribbon(moved(strand, away, 0), (1.0, 3.6, 2.4, 0.2)), shade, 0.7, within=inside)
        layer.stroke(strand, line, (1.25, 0.8, 0.05), 0.9)
    for path in (spline((203, 132), (205, 108), (220, 84)), spline((309, 132), (307, 108), (292, 84))):
        layer.stroke(path, line, (0.2, 0.9, 0.1), 0.6)
    # the outermost locks run into the locks before the ears: no line there
    edge = np.concatenate(edges[1:-1])
    layer.fill(np.concatenate([edge, moved(edge, 0, -5)[::-1]]), shade, 0.28, within=inside)
    layer.stroke(edge, line, (0.8, 1.3, 1.3, 1.3, 0.8))


def _shine(layer: Layer, design: Design) -> None:
    """The band of light across the crown, broken into strands; the sides and the top turn away from the light."""
    away = ramp(lambda x, y: (np.hypot((x - 256) / 61, (y - 126) / 64) - 0.84) / 0.22)
    layer.wash(away * ramp(lambda x, y: (170 - y) / 40), shadow_of(design.hair), 0.5)
    light = mix(design.hair, (1.0, 0.985, 0.97), 0.22 + 0.38 * max(design.hair))
    xs = np.linspace(206, 306, 21)
    arch = 88 + 0.0066 * (xs - 256) ** 2
    fade = np.clip(1 - (np.abs(xs - 256) / 51) ** 2.5, 0, 1)
    teeth = np.array([0.2, 1.0, 0.35, 0.7, 0.1, 0.9, 0.3])[np.arange(len(xs)) % 7]
    upper = zip(xs.tolist(), (arch - (1.0 + 3.6 * (1 - teeth)) * fade).tolist(), strict=True)
    lower = zip(xs.tolist(), (arch + (1.0 + 9.0 * teeth) * fade).tolist(), strict=True)
    layer.fill(np.concatenate([spline(*upper), spline(*lower)[::-1]]), light, 0.75, atop=True)


def _ahoge(layer: Layer, design: Design) -> None:
    way = 1 if design.parting >= 0 else -1
    path = spline((256, 67), (256 + 3 * way, 54), (256 + 13 * way, 46), (256 + 23 * way, 52))
    shape = ribbon(path, (6.5, 6, 4.5, 0.2))
    layer.fill(shape, design.hair)
    layer.outline(shape, line_of(design.hair), 1.1)
    layer.fill(ellipse(256, 68, 7, 4), design.hair)


def _accessory(layer: Layer, design: Design) -> None:
    colour, line = design.trim, line_of(design.trim)
    white = (1.0, 1.0, 1.0)
    if design.accessory == "clip":
        for dy in (0, 7):
            bar = ribbon(points((287, 112 + dy), (303, 107 + dy)), (3.8, 3.8))
            layer.fill(bar, mix(colour, white, 0.15))
            layer.outline(bar, line, 1.0)
    elif design.accessory == "bow":
        x, y = 296.0, 86.0
        for way in (-1, 1):
            wing = spline(
                (x, y),
                (x + way * 10, y - 10),
                (x + way * 17, y - 6),
                (x + way * 15, y + 7),
                (x + way * 6, y + 5),
                closed=True,
            )
            layer.fill(wing, colour)
            layer.fill(moved(wing, 0, 6), shadow_of(colour), 0.7, within=mask_of(wing))
            layer.outline(wing, line, 1.2)
        layer.fill(ellipse(x, y, 4, 4.6), mix(colour, white, 0.18))
        layer.outline(ellipse(x, y, 4, 4.6), line, 1.1)
    elif design.accessory == "flower":
        for k in range(5):
            angle = 2 * np.pi * k / 5 - np.pi / 2
            petal = ellipse(298 + 6.5 * np.cos(angle), 100 + 6.5 * np.sin(angle), 5.8, 4.2, angle)
            layer.fill(petal, mix(colour, white, 0.5))
            layer.outline(petal, line, 0.9)
        layer.fill(ellipse(298, 100, 3.2, 3.2), (0.98, 0.82, 0.35))
    elif design.accessory == "headband":
        path = spline((197, 118), (206, 92), (229, 75), (256, 70), (283, 75), (306, 92), (315, 118))
        shape = ribbon(path, (7, 7))
        layer.fill(shape, colour)
        layer.outline(shape, line, 1.1)
        layer.stroke(moved(path, 0, -1.2), mix(colour, white, 0.5), (0.2, 1.6, 0.2))

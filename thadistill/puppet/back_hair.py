"""Back hair: what hangs behind the puppet's body."""

from __future__ import annotations

import numpy as np

from thadistill.puppet.brush import (
    SIDES,
    Layer,
    Number,
    Points,
    Side,
    ellipse,
    line_of,
    mask_of,
    mix,
    moved,
    ramp,
    ribbon,
    shadow_of,
    spline,
    symmetric,
)
from thadistill.puppet.design import Design

_SKULL = [(256.0, 66.0), (292.0, 76.0), (314.0, 108.0), (318.0, 140.0)]


def draw_back_hair(design: Design) -> Layer:
    """The nape, and the long hair or the tails that hang from it."""
    layer = Layer()
    if design.back == "twintails":
        for side in SIDES:
            _tail(layer, design, side, [(306, 102), (334, 112), (350, 152), (351, 206), (339, 258), (346, 300)], 32)
    if design.back == "ponytail":
        _tail(layer, design, SIDES[0], [(276, 78), (310, 70), (337, 98), (344, 152), (335, 208), (342, 252)], 34)
    outline, strands = {"long": _long, "wavy": _long, "bob": _bob}.get(design.back, _short)(design)
    deep = shadow_of(design.hair, 0.9)
    layer.fill(outline, deep)
    layer.wash(ramp(lambda x, y: (y - 196) / 50), design.hair, 0.8)
    for strand in strands:
        for side in SIDES:
            layer.stroke(side(strand), line_of(design.hair), (0.2, 1.2, 0.3), 0.7, atop=True)
    layer.outline(outline, line_of(design.hair), 1.3)
    return layer


def _long(design: Design) -> tuple[Points, list[Points]]:
    wave = 5.5 if design.back == "wavy" else 0.0
    end = design.back_length
    half = np.concatenate(
        [
            spline(
                *_SKULL, (319 + wave, 180), (323 - wave, 215), (322 + wave, 250), (326 - wave, end - 30), (318, end)
            ),
            spline((318, end), (309, end - 16)),
            spline((309, end - 16), (305, end - 2), (296, end + 8)),
            spline((296, end + 8), (288, end - 12)),
            spline((288, end - 12), (283, end), (274, end + 5)),
            spline((274, end + 5), (266, end - 12), (256, end - 9)),
        ]
    )
    outer = spline((312, 190), (313 - wave, 228), (312 + wave, 262), (309, end - 16))
    inner = spline((296, 200), (298 - wave, 235), (294 + wave, 268), (288, end - 12))
    return symmetric(half), [outer, inner]


def _bob(design: Design) -> tuple[Points, list[Points]]:
    half = np.concatenate(
        [
            spline(*_SKULL, (319, 170), (316, 190), (322, 203)),
            spline((322, 203), (311, 203), (303, 209)),
            spline((303, 209), (301, 202), (290, 206)),
            spline((290, 206), (278, 201), (256, 203)),
        ]
    )
    return symmetric(half), [spline((310, 160), (308, 185), (309, 202)), spline((300, 165), (300, 188), (295, 204))]


def _short(design: Design) -> tuple[Points, list[Points]]:
    half = np.concatenate(
        [
            spline(*_SKULL, (315, 165), (308, 184)),
            spline((308, 184), (302, 182), (296, 193)),
            spline((296, 193), (290, 186), (281, 196)),
            spline((281, 196), (272, 188), (256, 190)),
        ]
    )
    return symmetric(half), [spline((304, 160), (302, 174), (297, 186))]


def _tail(layer: Layer, design: Design, side: Side, path: list[tuple[Number, Number]], width: Number) -> None:
    """A gathered tail of hair: three bundles, the longest in front, and the band that holds them."""
    middle, line = spline(*path), line_of(design.hair)
    for shift, length, size in ((0.34, 0.80, 0.5), (-0.30, 0.90, 0.6), (0.0, 1.0, 0.95)):
        bundle = middle[: int(len(middle) * length)]
        grow = np.linspace(0, 1, len(bundle))[:, None] ** 0.7
        bundle = bundle + grow * np.array([shift * width, 0.0])
        shape = ribbon(bundle, [w * width * size for w in (0.4, 0.8, 1.0, 0.98, 0.7, 0.0)])
        layer.fill(side(shape), design.hair)
        layer.fill(side(moved(shape, -width * 0.34, 4)), shadow_of(design.hair), 0.55, within=mask_of(side(shape)))
        layer.outline(side(shape), line, 1.2)
    for offset in (-0.2, 0.06, 0.26):
        strand = middle[6:-6] + np.array([offset * width, 0])
        layer.stroke(side(strand), line, (0.1, 1.0, 0.1), 0.6, atop=True)
    shine = ribbon(middle[10:22] + np.array([0.12 * width, 0]), (0.5, width * 0.2, 0.5))
    layer.fill(side(shine), mix(design.hair, (1, 0.98, 0.95), 0.5), 0.6)
    band = ellipse(path[0][0] + 5, path[0][1] + 2, 6, 9, 0.5)
    layer.fill(side(band), design.trim)
    layer.outline(side(band), line_of(design.trim), 1.1)

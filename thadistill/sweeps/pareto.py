"""Pareto front: which runs no other one beats in both quality and cost."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pareto_front(quality: Sequence[float | None], cost: Sequence[float | None]) -> list[bool]:
    """Whether each run lies on the front: none has at least its quality at most at its cost and is better in one.

    A run without a finite figure for either is never on it; equal runs are on it together.
    """
    points = [
        (-float(q), float(c)) if q is not None and c is not None and math.isfinite(q) and math.isfinite(c) else None
        for q, c in zip(quality, cost, strict=True)
    ]
    best = math.inf  # the lowest cost among those of higher quality
    front: set[tuple[float, float]] = set()
    for point in sorted({point for point in points if point is not None}):
        if point[1] < best:
            front.add(point)
            best = point[1]
    return [point in front for point in points]

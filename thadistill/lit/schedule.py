"""Schedules: learning rate and loss weights as functions of progress, which runs from 0 to 1 over a training.

Progress is poses, patches or triples seen over those planned, or time spent over the budget: see callbacks.budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

from thadistill.errors import UserError
from thadistill.lit.losses import RotatorTerms

LearningRate = Callable[[float], float]  # progress -> factor on the optimiser's own learning rate


class Steps:
    """Piecewise constant: ``factors[i]`` until progress ``until[i]``, the last factor from then on."""

    def __init__(self, until: Sequence[float], factors: Sequence[float]) -> None:
        if len(factors) != len(until) + 1 or list(until) != sorted(until):
            raise ValueError(f"until {list(until)} must ascend and have one entry less than factors {list(factors)}")
        self.until, self.factors = list(until), list(factors)

    def __call__(self, progress: float) -> float:
        return self.factors[sum(progress >= end for end in self.until)]


class WarmupCosine:
    """Linear from 0 to 1 over ``warmup``, then a half cosine down to ``floor`` at progress 1."""

    def __init__(self, warmup: float = 0.03, floor: float = 0.0) -> None:
        self.warmup, self.floor = warmup, floor

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            return (progress + 1e-3) / (self.warmup + 1e-3)
        rest = min(1.0, (progress - self.warmup) / (1 - self.warmup))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * rest))


class PhaseWeights:
    """The body rotator's loss weights by phase: ``weights[i]`` (blended, warped, grid, colour) until ``until[i]``.

    ``phases`` (numbers from 1; None: all) keeps only some: they fill the whole training in the proportions they had.
    """

    def __init__(
        self, until: Sequence[float], weights: Sequence[Sequence[float]], phases: Sequence[int] | None = None
    ) -> None:
        if len(weights) != len(until) + 1 or list(until) != sorted(until):
            raise ValueError(f"until {list(until)} must ascend and have one entry less than the {len(weights)} weights")
        chosen = sorted(range(1, len(weights) + 1) if phases is None else {*phases})
        if not chosen or not {*chosen} <= {*range(1, len(weights) + 1)}:
            raise UserError(f"phases={list(phases or [])}; expected some of 1 to {len(weights)}")
        ends = [0.0, *until, 1.0]
        lengths = [ends[phase] - ends[phase - 1] for phase in chosen]
        self.until = [end / sum(lengths) for end in accumulate(lengths[:-1])]
        self.weights = [RotatorTerms(*weights[phase - 1]) for phase in chosen]

    def __call__(self, progress: float) -> RotatorTerms:
        return self.weights[sum(progress >= end for end in self.until)]

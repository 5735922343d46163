"""Low-variance sampling: random numbers that cover what they are drawn from more evenly than independent ones.

That makes a step less noisy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor


def shuffled_epochs(count: Callable[[], int], size: int, generator: torch.Generator) -> Iterator[Int[Tensor, " size"]]:
    """Endless batches of ``size`` numbers below ``count()``, which may grow: in random order, each before any again."""
    waiting = torch.empty(0, dtype=torch.long)
    while True:
        while len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(count(), generator=generator)])
        yield waiting[:size]
        waiting = waiting[size:]


def systematic_sample(
    probability: Float[Tensor, " n"], order: Int[Tensor, " n"], count: int, generator: torch.Generator
) -> Int[Tensor, " count"]:
    """``count`` numbers drawn by ``probability``, each as often as that times ``count`` says, rounded up or down.

    Systematic sampling: they come in ``order``, at even steps from a random beginning. Where neighbours in that order are
    alike, so are the means of every draw.
    """
    summed = probability[order].double().cumsum(0)
    level = (torch.arange(count) + torch.rand(1, generator=generator, dtype=torch.float64)) / count
    return order[torch.searchsorted(summed / summed[-1], level).clamp(max=len(order) - 1)]


def systematic_sample_by_pose(
    probability: Float[Tensor, " n"], order: Int[Tensor, " n"], poses: int, each: int, generator: torch.Generator
) -> Int[Tensor, " m"]:
    """A batch's places, drawn by :func:`systematic_sample`; those of a pose in a row, which has its share of every part."""
    place = systematic_sample(probability, order, poses * each, generator)
    return place.view(each, poses).T[torch.randperm(poses, generator=generator)].flatten()


def z_order(side: int) -> Int[Tensor, " n"]:
    """The places of a square, numbered row by row, in an order along which neighbours lie close (Morton's)."""
    number = torch.arange(side)
    spread = torch.zeros_like(number)
    for bit in range(side.bit_length()):
        spread |= ((number >> bit) & 1) << (2 * bit)
    return (2 * spread[:, None] + spread).flatten().argsort()

"""Losses: the paper's distillation losses of both students (THA4 paper, section 4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.student.body_rotator import Posed, RotatorOutput


class RotatorTerms(NamedTuple):
    """The four terms of the body rotator's loss, or their weights, in the paper's order."""

    blended: Tensor | float
    warped: Tensor | float
    grid_change: Tensor | float
    color_change: Tensor | float

    def weighted(self, weights: RotatorTerms) -> Tensor:
        """The sum of each term times its weight."""
        return torch.stack([torch.as_tensor(term) * weight for term, weight in zip(self, weights, strict=True)]).sum()


def rotator_terms(
    motion: RotatorOutput,
    posed: Posed,
    target_posed: Float[Tensor, "n 4 h w"],
    target_warped: Float[Tensor, "n 4 h w"],
    target_grid_change: Float[Tensor, "n 2 h w"],
) -> RotatorTerms:
    """L1 means over every element. The colour change is compared to the teacher's POSED image, as in the paper."""
    return RotatorTerms(
        (posed.blended - target_posed).abs().mean(),
        (posed.warped - target_warped).abs().mean(),
        (motion.grid_change - target_grid_change).abs().mean(),
        (motion.color_change - target_posed).abs().mean(),
    )


def face_loss(
    painted: Float[Tensor, "n p 4"],
    target: Float[Tensor, "n p 4"],
    mask: Float[Tensor, "n p"],
    mask_weight: float,
) -> Float[Tensor, ""]:
    """L1 + mask_weight * L1 masked; both means over all pixels and channels, masked out or not."""
    difference = (painted - target).abs()
    return difference.mean() + mask_weight * (difference * mask[..., None]).mean()

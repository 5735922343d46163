"""Mean over images: the torchmetrics state over any per-image function of this package."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from thadistill.errors import UserError


class PerImageMean(Metric):
    """Mean over all images seen of ``function(*batch)``, which gives one value per image (``psnr``, ``ssim``, ...).

    The paper's protocol: every image counts the same, whatever the batches and the processes they came in.
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    images: Tensor

    def __init__(self, function: Callable[..., Float[Tensor, " n"]]) -> None:
        super().__init__()
        self.function = function
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, *batch: Tensor) -> None:
        """Takes the arguments of the function for a batch of images."""
        values = self.function(*batch)
        self.total += values.sum()
        self.images += values.numel()

    def compute(self) -> Float[Tensor, ""]:
        """The mean, in the function's unit.

        Raises: UserError before any image was seen.
        """
        if self.images == 0:
            raise UserError("the mean of a metric was asked for before any image; expected one at least: add poses")
        return self.total / self.images

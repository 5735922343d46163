"""Error map: where the student errs most, by the patches that it trained on, so that those are drawn more often."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from thadistill.images import IMAGE_SIZE

REFRESH = 10  # batches between two looks of a stream, which cost it a millisecond
WAIT = 2 * REFRESH  # batches before the map says anything


class ErrorMap:
    """Running mean of the error of patches by the block of ``stride`` pixels that their corner lies in, or just before.

    Args:
        size: side of the image in pixels. stride: of a block; the map has size / stride blocks a side.
        start: error of blocks that were never seen: above what a trained student has, so that they are soon visited.
        keep: what stays of a block's earlier mean when a new error comes.

    It lives as long as a training: after an interruption it is learned again, within some dozens of steps.
    """

    def __init__(self, size: int = IMAGE_SIZE, stride: int = 4, start: float = 0.05, keep: float = 0.8) -> None:
        self.stride, self.keep = stride, keep
        self.blocks = size // stride
        self.batches = 0
        self._mean = torch.full((self.blocks**2,), start)

    def add(self, corner: Int[Tensor, "n 2"], error: Float[Tensor, " n"]) -> None:
        """Takes in the errors of patches with the top left pixels ``corner``; stays on their device.

        What is not a number, as a training that diverges gives, counts as 1: nothing can be drawn by it.
        """
        error = error.nan_to_num(1.0, posinf=1.0)
        mean = self._mean = self._mean.to(error.device)
        block = (corner + self.stride - 1) // self.stride
        index = block[:, 0] * self.blocks + block[:, 1]
        count = torch.zeros_like(mean).index_add_(0, index, torch.ones_like(error))
        total = torch.zeros_like(mean).index_add_(0, index, error)
        kept = self.keep**count
        mean.mul_(kept).add_((1 - kept) * total / count.clamp(min=1))
        self.batches += 1

    def smoothed(self) -> Float[Tensor, "b b"]:
        """The map, each block the mean of itself and its neighbours, on the CPU."""
        patch = self._mean.cpu().view(1, 1, self.blocks, self.blocks)
        return F.avg_pool2d(patch, 3, stride=1, padding=1, count_include_pad=False)[0, 0]

    def weigh(self, probability: Float[Tensor, " n"], share: float) -> Float[Tensor, " n"]:
        """Probabilities of places, of which ``share`` is redrawn by the errors, once there are some.

        The places are a patch from the map's top left; ``probability`` need not sum to 1, the result does.
        """
        plain = probability / probability.sum()
        if not share or self.batches < WAIT:
            return plain
        side = math.isqrt(len(probability))
        by_error = plain * self.smoothed()[:side, :side].flatten()
        return (1 - share) * plain + share * by_error / by_error.sum().clamp(min=1e-20)

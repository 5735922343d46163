"""Temporal flicker: what a student changes from one frame to the next that its teacher does not."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from thadistill.errors import UserError
from thadistill.images import over_white


def temporal_flicker(student: Float[Tensor, "t 4 h w"], teacher: Float[Tensor, "t 4 h w"]) -> Float[Tensor, " steps"]:
    """Flicker of each step of a pose track, ``t - 1`` values: mean |change of the student - change of the teacher|.

    A change is the difference of two successive frames as a viewer sees them (composited on white in sRGB, three
    channels in [0, 1]); the mean is over pixels and channels. 0 when the student is off by the same in every frame,
    so that it tells shimmer from a constant error, which PSNR does not. Images are in network space.
    """
    error = over_white(student.float()) - over_white(teacher.float())
    # (s' - s) - (t' - t) = (s' - t') - (s - t): the change of the error
    return (error[1:] - error[:-1]).abs().mean(dim=(1, 2, 3))


class TemporalFlicker(Metric):
    """Mean of ``temporal_flicker`` over the steps of a pose track given in consecutive pieces of any length.

    A step across two pieces counts; ``start_track`` begins another track, so that the cut to it does not. On several
    processes each takes its own tracks and the mean is over all their steps.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = True  # a step needs the frame before it
    total: Tensor
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("steps", torch.tensor(0), dist_reduce_fx="sum")
        # A frame is no sum: it stays out of the states that processes add up.
        self._last: tuple[Tensor, Tensor] | None = None

    def update(self, student: Float[Tensor, "t 4 h w"], teacher: Float[Tensor, "t 4 h w"]) -> None:
        """Takes the next frames of the track, student and teacher, in network space."""
        ends = student[-1:].clone(), teacher[-1:].clone()
        if self._last is not None:
            student = torch.cat([self._last[0].to(student), student])
            teacher = torch.cat([self._last[1].to(teacher), teacher])
        self._last = ends
        flicker = temporal_flicker(student, teacher)
        self.total += flicker.sum()
        self.steps += flicker.numel()

    def start_track(self) -> None:
        """The next frame follows no other."""
        self._last = None

    def reset(self) -> None:
        super().reset()
        self.start_track()

    def compute(self) -> Float[Tensor, ""]:
        """Mean flicker of a step, in display units ([0, 1]).

        Raises: UserError when no track had two frames.
        """
        if self.steps == 0:
            raise UserError("flicker was given no two successive frames; expected a pose track of two poses or more")
        return self.total / self.steps

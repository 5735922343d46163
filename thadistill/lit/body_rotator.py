"""BodyRotatorModule: trains the body rotator on squares of the teacher's posed images and grid changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from thadistill.data.error_map import ErrorMap
from thadistill.data.sampling import BodyBatch
from thadistill.images import FACE_REGION
from thadistill.lit.base import OptimizerFactory, StudentModule
from thadistill.losses import RotatorTerms, rotator_terms
from thadistill.metrics.flow import grid_change_epe_px
from thadistill.metrics.image import psnr
from thadistill.patches import warp_patches
from thadistill.pose import FACIAL_SIZE, POSE_SIZE
from thadistill.schedule import LearningRate
from thadistill.student.body_rotator import BodyRotator, Motion, Posed
from thadistill.student.siren import SineLayer
from thadistill.warp import blend

FACIAL_COLUMNS = slice(-POSE_SIZE, FACIAL_SIZE - POSE_SIZE)  # of a level's first matrix: the pose comes last


class RowScale(nn.Module):
    """Parametrisation: each row of a tensor is a free row times a constant."""

    def __init__(self, scale: Float[Tensor, " rows"]) -> None:
        super().__init__()
        self.register_buffer("scale", scale, persistent=False)
        self.scale: Tensor

    def forward(self, free: Float[Tensor, "rows *s"]) -> Float[Tensor, "rows *s"]:
        return free * self.scale.view(-1, *[1] * (free.ndim - 1))

    def right_inverse(self, value: Float[Tensor, "rows *s"]) -> Float[Tensor, "rows *s"]:
        """The free rows that give ``value``."""
        return value / self.scale.view(-1, *[1] * (value.ndim - 1))


def start_quietly(network: BodyRotator) -> None:
    """Shrinks the last layer: offsets of a fraction of a pixel, faint alphas and colours."""
    with torch.no_grad():
        factors = torch.tensor([0.01, 0.01, 0.1, 0.2, 0.2, 0.2, 0.2])
        network.last_linear.weight.mul_(factors[:, None, None, None])
        assert network.last_linear.bias is not None
        network.last_linear.bias.mul_(0.1)


def ignore_facial_inputs(network: BodyRotator) -> None:
    """Sets the weights on the facial pose to zero, and keeps them there by their gradients."""

    def silence(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[:, FACIAL_COLUMNS] = 0
        return gradient

    for layers in network.siren_layers:
        weight = cast(SineLayer, cast(nn.ModuleList, layers)[0]).linear.weight
        with torch.no_grad():
            weight[:, FACIAL_COLUMNS] = 0
        weight.register_hook(silence)


class BodyRotatorModule(StudentModule):
    """Weighted L1 of blended image, warped image, grid change and colour change, in phases (THA4 section 4).

    Args:
        network, optimizer, learning_rate: see StudentModule.
        weights: the four weights at each progress.
        image: the character image, network space. It is warped with the TEACHER's face pasted in, as in the paper.
        grid_rate: the last layer's rows for the grid change are learned as this times a free matrix: its outputs are a
            hundredth of the colours', and steps that suit those shake it by pixels. 1 is the paper's.
        facial_inputs: whether the pose's 39 facial values reach the rotator; bodies hardly depend on them, and with few
            poses they are mostly what it would overfit to. The published shape is kept, with zeros. True in the paper.
        quiet_start: makes the first outputs small: no motion, faint paint. False in the paper.
        position_gain: the first level's initial weights on the position are multiplied by it. 1 in the paper, which draws
            them as if all 47 inputs were coordinates: no faster than 0.6 radians across half the image.
        errors: is told how far the blended image was off on each square, for a stream that draws by it.
    """

    network: BodyRotator

    def __init__(
        self,
        network: BodyRotator,
        optimizer: OptimizerFactory,
        learning_rate: LearningRate,
        weights: Callable[[float], RotatorTerms],
        image: Float[Tensor, "4 512 512"],
        grid_rate: float = 1.0,
        facial_inputs: bool = True,
        quiet_start: bool = False,
        position_gain: float = 1.0,
        errors: ErrorMap | None = None,
    ) -> None:
        super().__init__(network, optimizer, learning_rate, errors)
        self.weights = weights
        self._faces: tuple[Tensor | None, Tensor] = (None, torch.empty(0))
        if quiet_start:
            start_quietly(network)
        with torch.no_grad():
            cast(SineLayer, cast(nn.ModuleList, network.siren_layers[0])[0]).linear.weight[:, :2] *= position_gain
        if not facial_inputs:
            ignore_facial_inputs(network)
        if grid_rate != 1:
            scale = RowScale(torch.tensor([grid_rate, grid_rate, 1, 1, 1, 1, 1]))
            for name in ("weight", "bias"):
                parametrize.register_parametrization(network.last_linear, name, scale)
        # channels last in memory: the warp reads whole pixels
        self.register_buffer("image", image.permute(1, 2, 0).contiguous().permute(2, 0, 1), persistent=False)
        self.image: Tensor

    def student(self) -> BodyRotator:
        """The network as it is used and saved: without what only training needs."""
        if parametrize.is_parametrized(self.network.last_linear):
            for name in ("weight", "bias"):
                parametrize.remove_parametrizations(self.network.last_linear, name)
        return self.network

    def pose(self, batch: BodyBatch) -> tuple[Motion, Posed]:
        """The student's motion and images on the batch's squares."""
        motion = self.network.patches(batch.pose, batch.corner, batch.posed.shape[-1])
        warped = self._warp(batch, motion.grid_change)
        return motion, Posed(warped, blend(motion.alpha, motion.color_change, warped))

    def _warp(self, batch: BodyBatch, grid_change: Tensor) -> Tensor:
        corner = (FACE_REGION.top, FACE_REGION.left)
        return warp_patches(self.image, batch.faces, batch.face, corner, grid_change, batch.corner)

    def losses(self, batch: BodyBatch) -> dict[str, Tensor]:
        """The weighted sum at the module's progress as ``loss``, and its terms."""
        motion, posed = self.pose(batch)
        with torch.no_grad():
            target_warped = self._warp(batch, batch.grid_change)
            if self.errors is not None:
                off = (posed.blended - batch.posed).square().mean((1, 2, 3)).sqrt()
                self.errors.add(batch.corner, off)
        terms = rotator_terms(motion, posed, batch.posed, target_warped, batch.grid_change)
        loss = terms.weighted(self.weights(self.progress))
        return {"loss": loss, **{k: torch.as_tensor(v) for k, v in terms._asdict().items()}}

    def transfer_batch_to_device(self, batch: BodyBatch, device: torch.device, dataloader_idx: int) -> BodyBatch:
        """Moves a batch, and its faces, which are the same in every batch, only when they are others than before."""
        if self._faces[0] is not batch.faces:
            self._faces = (batch.faces, batch.faces.to(device))
        moved = {name: value.to(device) for name, value in batch._asdict().items() if name != "faces"}
        return BodyBatch(**moved, faces=self._faces[1])

    def validation_step(self, batch: BodyBatch, batch_idx: int) -> dict[str, Tensor]:
        motion, posed = self.pose(batch)
        visible = batch.posed[:, 3:] > -0.99
        values = {
            "val/psnr": psnr(posed.blended, batch.posed).mean(),
            "val/flow_epe_px": grid_change_epe_px(motion.grid_change, batch.grid_change, visible).mean(),
        }
        self.log_dict(values, prog_bar=True, batch_size=len(batch.pose))
        return {"teacher": batch.posed, "student": posed.blended}

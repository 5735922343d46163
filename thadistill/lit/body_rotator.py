"""BodyRotatorModule: trains the body rotator on squares of the teacher's posed images and grid changes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.data.sampling import BodyBatch
from thadistill.images import FACE_REGION
from thadistill.lit.base import OptimizerFactory, StudentModule
from thadistill.losses import RotatorTerms, rotator_terms
from thadistill.metrics.flow import grid_change_epe_px
from thadistill.metrics.image import psnr
from thadistill.schedule import LearningRate
from thadistill.student.body_rotator import BodyRotator, Motion, Posed
from thadistill.warp import blend, warp_patches


class BodyRotatorModule(StudentModule):
    """Weighted L1 of blended image, warped image, grid change and colour change, in phases (THA4 section 4).

    Args:
        network, optimizer, learning_rate: see StudentModule.
        weights: the four weights at each progress.
        image: the character image, network space. It is warped with the TEACHER's face pasted in, as in the paper.
    """

    network: BodyRotator

    def __init__(
        self,
        network: BodyRotator,
        optimizer: OptimizerFactory,
        learning_rate: LearningRate,
        weights: Callable[[float], RotatorTerms],
        image: Float[Tensor, "4 512 512"],
    ) -> None:
        super().__init__(network, optimizer, learning_rate)
        self.weights = weights
        self.register_buffer("image", image, persistent=False)
        self.image: Tensor

    def pose(self, batch: BodyBatch) -> tuple[Motion, Posed]:
        """The student's motion and images on the batch's squares."""
        motion = self.network.patches(batch.pose, batch.corner, batch.posed.shape[-1])
        warped = self._warp(batch, motion.grid_change)
        return motion, Posed(warped, blend(motion.alpha, motion.color_change, warped))

    def _warp(self, batch: BodyBatch, grid_change: Tensor) -> Tensor:
        corner = (FACE_REGION.top, FACE_REGION.left)
        return warp_patches(self.image, batch.face_region, corner, grid_change, batch.corner)

    def training_step(self, batch: BodyBatch, batch_idx: int) -> torch.Tensor:
        motion, posed = self.pose(batch)
        with torch.no_grad():
            target_warped = self._warp(batch, batch.grid_change)
        terms = rotator_terms(motion, posed, batch.posed, target_warped, batch.grid_change)
        loss = terms.weighted(self.weights(self.progress))
        self.log_losses({"loss": loss, **{k: torch.as_tensor(v) for k, v in terms._asdict().items()}}, len(batch.pose))
        return loss

    def validation_step(self, batch: BodyBatch, batch_idx: int) -> dict[str, Tensor]:
        motion, posed = self.pose(batch)
        visible = batch.posed[:, 3:] > -0.99
        values = {
            "val/psnr": psnr(posed.blended, batch.posed).mean(),
            "val/flow_epe_px": grid_change_epe_px(motion.grid_change, batch.grid_change, visible).mean(),
        }
        self.log_dict(values, prog_bar=True, batch_size=len(batch.pose))
        return {"teacher": batch.posed, "student": posed.blended}

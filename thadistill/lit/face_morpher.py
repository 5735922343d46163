"""FaceMorpherModule: trains the face morpher on the teacher's face-morphed crops."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from thadistill.data.error_map import ErrorMap
from thadistill.data.sampling import FaceBatch
from thadistill.lit.base import OptimizerFactory, StudentModule
from thadistill.lit.losses import face_loss
from thadistill.lit.schedule import LearningRate
from thadistill.metrics.image import psnr
from thadistill.student.face_morpher import FACE_SIZE, FaceMorpher
from thadistill.student.siren import SineLayer


class FaceMorpherModule(StudentModule):
    """L1 + mask_weight * L1 in the face mask (THA4 section 4).

    Args:
        network, optimizer, learning_rate: see StudentModule.
        mask_weight: 20 in the paper. Streams that draw pixels by this weight send a mask of zeros.
        position_gain: the first layer's initial weights on the position are multiplied by it. 1 in the paper, which draws
            them as if all 41 inputs were coordinates: no faster than 0.7 radians across half the crop. 1 for
            pretrained weights.
        error_map: collects the error of each pixel, for importance sampling by a stream.
    """

    network: FaceMorpher
    counted = "poses"

    def __init__(
        self,
        network: FaceMorpher,
        optimizer: OptimizerFactory,
        learning_rate: LearningRate,
        mask_weight: float = 20.0,
        position_gain: float = 1.0,
        error_map: ErrorMap | None = None,
    ) -> None:
        super().__init__(network, optimizer, learning_rate, error_map)
        with torch.no_grad():
            cast(SineLayer, network.siren.sine_layers[0]).linear.weight[:, :2] *= position_gain
        self.mask_weight = mask_weight

    def losses(self, batch: FaceBatch) -> dict[str, Tensor]:
        """The loss, as ``loss``."""
        painted = self.network.at(batch.pose, batch.position)
        if self.error_map is not None:
            rmse = (painted.detach() - batch.target).square().mean(2).sqrt()
            column_row = ((batch.position + 1) * (FACE_SIZE / 2)).long()
            self.error_map.add(column_row.flatten(0, 1).flip(1), rmse.flatten())
        return {"loss": face_loss(painted, batch.target, batch.mask, self.mask_weight)}

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> dict[str, Tensor]:
        painted = self.network.at(batch.pose, batch.position)
        student, teacher = (x.transpose(1, 2).unflatten(2, (FACE_SIZE, FACE_SIZE)) for x in (painted, batch.target))
        self.log("val/psnr", psnr(student, teacher).mean(), prog_bar=True, batch_size=len(batch.pose))
        return {"teacher": teacher, "student": student}

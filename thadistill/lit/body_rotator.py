"""BodyRotatorModule: trains the body rotator on patches of the teacher's posed images and grid changes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thadistill.data.error_map import ErrorMap
from thadistill.data.sampling import BodyBatch
from thadistill.errors import UserError
from thadistill.images import FACE_REGION
from thadistill.kernels.patches import Matched, match_patches, warp_patches
from thadistill.lit.base import OptimizerFactory, StudentModule
from thadistill.lit.losses import RotatorTerms, rotator_terms
from thadistill.lit.schedule import LearningRate
from thadistill.metrics.flow import grid_change_epe_px, visible_pixels
from thadistill.metrics.image import psnr
from thadistill.pose import FACIAL_SIZE, POSE_SIZE
from thadistill.student.body_rotator import BodyRotator, Posed, RotatorOutput
from thadistill.student.siren import SineLayer
from thadistill.warp import blend

FACIAL_COLUMNS = slice(-POSE_SIZE, FACIAL_SIZE - POSE_SIZE)  # of a level's first matrix: the pose comes last
ROTATION_COLUMNS = slice(FACIAL_SIZE - POSE_SIZE, None)
_FACE_CORNER = (FACE_REGION.top, FACE_REGION.left)


def shrink_outputs(network: BodyRotator) -> None:
    """Shrinks the last layer: offsets of a fraction of a pixel, faint alphas and colours."""
    with torch.no_grad():
        factors = torch.tensor([0.01, 0.01, 0.1, 0.2, 0.2, 0.2, 0.2])
        network.last_linear.weight.mul_(factors[:, None, None, None])
        assert network.last_linear.bias is not None
        network.last_linear.bias.mul_(0.1)


def first_layers(network: BodyRotator) -> list[nn.Conv2d]:
    """The layer of each level that sees position and pose."""
    return [cast(SineLayer, cast(nn.ModuleList, layers)[0]).linear for layers in network.siren_layers]


class BodyRotatorModule(StudentModule):
    """Weighted L1 of blended image, warped image, grid change and colour change, in phases (THA4 section 4).

    Args:
        network, optimizer, learning_rate: see StudentModule.
        weights: the four weights at each progress.
        image: the character image, network space. It is warped with the TEACHER's face pasted in, as in the paper.
        grid_lr_scale: learning-rate scale of the last layer's rows for the grid change: its outputs are a hundredth of the
            colours', and steps that suit those shake it by pixels. 1 is the paper's.
        facial_lr_scale: learning-rate scale of the first level's weights on the pose's 39 facial values; below 1, the finer
            levels' stay as they began. Bodies depend on faces little (0.13 pixels of motion) but in 39 dimensions: with
            few poses a rotator mostly overfits to them. 0: not at all. 1: all levels' weights, as in the paper.
        rotation_lr_scale: learning-rate scale of all levels' weights on the pose's 6 rotation values: a pretrained init
            learned them from more poses than a run sees. 1 is the paper's.
        near_identity_init: the first outputs are small: no motion, faint paint. False in the paper, and for pretrained
            weights.
        zero_facial_init: all levels' weights on the facial values begin at zero. False in the paper, and for pretrained
            weights.
        position_gain: the first level's initial weights on the position are multiplied by it. 1 in the paper, which draws
            them as if all 47 inputs were coordinates: no faster than 0.6 radians across half the image. 1 for
            pretrained weights.
        error_map: collects the error of the blended image on each patch, for importance sampling by a stream.

    Raises: UserError when facial_lr_scale is not a number from 0 to 1, or rotation_lr_scale none above 0, to 1.
    """

    network: BodyRotator
    counted = "patches"

    def __init__(
        self,
        network: BodyRotator,
        optimizer: OptimizerFactory,
        learning_rate: LearningRate,
        weights: Callable[[float], RotatorTerms],
        image: Float[Tensor, "4 512 512"],
        grid_lr_scale: float = 1.0,
        facial_lr_scale: float = 1.0,
        rotation_lr_scale: float = 1.0,
        near_identity_init: bool = False,
        zero_facial_init: bool = False,
        position_gain: float = 1.0,
        error_map: ErrorMap | None = None,
    ) -> None:
        if not isinstance(facial_lr_scale, int | float) or not 0 <= facial_lr_scale <= 1:
            raise UserError(f"BodyRotatorModule: facial_lr_scale={facial_lr_scale}; expected a number from 0 to 1")
        if not isinstance(rotation_lr_scale, int | float) or not 0 < rotation_lr_scale <= 1:
            raise UserError(
                f"BodyRotatorModule: rotation_lr_scale={rotation_lr_scale}; expected a number above 0, to 1"
            )
        super().__init__(network, optimizer, learning_rate, error_map)
        self.weights = weights
        self._faces: tuple[Tensor | None, Tensor] = (None, torch.empty(0))
        if near_identity_init:
            shrink_outputs(network)
        first = first_layers(network)
        with torch.no_grad():
            first[0].weight[:, :2] *= position_gain
            for linear in first if zero_facial_init else []:
                linear.weight[:, FACIAL_COLUMNS] = 0
        for number, linear in enumerate(first):
            scale = torch.ones(1, linear.weight.shape[1], 1, 1)
            scale[:, ROTATION_COLUMNS] = rotation_lr_scale
            scale[:, FACIAL_COLUMNS] = 0 if number and facial_lr_scale != 1 else facial_lr_scale
            self.scale_lr(linear.weight, scale)
        rows = torch.tensor([grid_lr_scale, grid_lr_scale, 1, 1, 1, 1, 1])
        self.scale_lr(network.last_linear.weight, rows[:, None, None, None])
        assert network.last_linear.bias is not None
        self.scale_lr(network.last_linear.bias, rows)
        # channels last in memory: the warp reads whole pixels
        self.register_buffer("image", image.permute(1, 2, 0).contiguous().permute(2, 0, 1), persistent=False)
        self.image: Tensor

    def student(self) -> BodyRotator:
        """A copy of the network as it is used and saved."""
        return copy.deepcopy(self.network)

    def pose(self, batch: BodyBatch) -> tuple[RotatorOutput, Posed]:
        """The student's motion and images on the batch's patches."""
        motion = self.network.patches(batch.pose, batch.corner, batch.posed.shape[-1])
        return motion, self._posed(batch, motion)

    def _posed(self, batch: BodyBatch, motion: RotatorOutput) -> Posed:
        warped = self._warp(batch, motion.grid_change)
        return Posed(warped, blend(motion.alpha, motion.color_change, warped))

    def _warp(self, batch: BodyBatch, grid_change: Tensor) -> Tensor:
        return warp_patches(self.image, batch.faces, batch.face_index, _FACE_CORNER, grid_change, batch.corner)

    def losses(self, batch: BodyBatch) -> dict[str, Tensor]:
        """The weighted sum at the module's progress as ``loss``, and its terms."""
        channels = self.network.patch_channels(batch.pose, batch.corner, batch.posed.shape[-1])
        matched = self._match(channels, batch, self.weights(self.progress))
        if self.error_map is not None:
            self.error_map.add(batch.corner, matched.rmse)
        return {"loss": matched.loss, **dict(zip(RotatorTerms._fields, matched.terms, strict=True))}

    def _match(self, channels: Float[Tensor, "n p 7"], batch: BodyBatch, weights: RotatorTerms) -> Matched:
        scene = (self.image, batch.faces, batch.face_index, _FACE_CORNER)
        given = (channels, [float(w) for w in weights], batch.posed, batch.grid_change, *scene, batch.corner)
        native = match_patches(*given)
        if native is not None:
            return native
        motion = self.network.motion(channels)
        posed = self._posed(batch, motion)
        with torch.no_grad():
            target_warped = self._warp(batch, batch.grid_change)
            rmse = (posed.blended - batch.posed).square().mean((1, 2, 3)).sqrt()
        terms = rotator_terms(motion, posed, batch.posed, target_warped, batch.grid_change)
        return Matched(terms.weighted(weights), torch.stack([torch.as_tensor(term) for term in terms]).detach(), rmse)

    def transfer_batch_to_device(self, batch: BodyBatch, device: torch.device, dataloader_idx: int) -> BodyBatch:
        """Moves a batch, and its faces, which are the same in every batch, only when they are others than before."""
        if self._faces[0] is not batch.faces:
            self._faces = (batch.faces, batch.faces.to(device))
        moved = {name: value.to(device) for name, value in batch._asdict().items() if name != "faces"}
        return BodyBatch(**moved, faces=self._faces[1])

    def validation_step(self, batch: BodyBatch, batch_idx: int) -> dict[str, Tensor]:
        motion, posed = self.pose(batch)
        values = {
            "val/psnr": psnr(posed.blended, batch.posed).mean(),
            "val/flow_epe_px": grid_change_epe_px(
                motion.grid_change, batch.grid_change, visible_pixels(batch.posed)
            ).mean(),
        }
        self.log_dict(values, prog_bar=True, batch_size=len(batch.pose))
        return {"teacher": batch.posed, "student": posed.blended}

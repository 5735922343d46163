"""THA4: the teacher "Talking Head Anime 4", whose body networks are U-Nets with attention.

After the face stages come a body morpher at 256x256 and an upscaler at 512x512.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thadistill.outputs import TeacherOutput
from thadistill.pose import POSE_PARAMETERS
from thadistill.teacher.blocks import TeacherNetwork, precision_of, widen
from thadistill.teacher.chain import ChainTeacher
from thadistill.teacher.face_stages import FaceStagesOutput
from thadistill.teacher.unet import UNet
from thadistill.warp import blend, resize, warp


class BodyOutput(NamedTuple):
    """What a body network gives at its size: ``direct`` is painted where ``alpha`` is 1, over the warped image."""

    merged: Float[Tensor, "n 4 h w"]
    alpha: Float[Tensor, "n 1 h w"]
    warped: Float[Tensor, "n 4 h w"]
    grid_change: Float[Tensor, "n 2 h w"]
    direct: Float[Tensor, "n 4 h w"]


def _merge(channels: Float[Tensor, "n 7 h w"], image: Float[Tensor, "n 4 h w"]) -> BodyOutput:
    direct, grid_change, alpha = widen(channels).split([4, 2, 1], dim=1)
    alpha = torch.sigmoid(alpha)
    warped = warp(image, grid_change)
    return BodyOutput(blend(alpha, direct, warped), alpha, warped, grid_change, direct)


class BodyMorpher(TeacherNetwork):
    """Turns head and body by 6 pose values; 256x256 images and the default widths in the paper."""

    def __init__(self, base: int = 64, multipliers: Sequence[int] = (1, 2, 4, 4, 4)) -> None:
        super().__init__()
        self.body = UNet(base, multipliers)

    def forward(self, image: Float[Tensor, "n 4 h w"], pose: Float[Tensor, "n 6"]) -> BodyOutput:
        precision = precision_of(self)
        with self.precision_scope(image.device):
            channels = self.body(image.to(precision), pose.to(precision))
        return _merge(channels, image)


class Upscaler(TeacherNetwork):
    """Does it again, given the body morpher's result; 512x512 images and the default widths in the paper."""

    def __init__(self, base: int = 32, multipliers: Sequence[int] = (1, 2, 4, 8, 8, 8)) -> None:
        super().__init__()
        self.body = UNet(base, multipliers)
        self.coarse_image_conv = nn.Conv2d(4 + 4 + 2, base, 3, padding=1)

    def forward(
        self,
        image: Float[Tensor, "n 4 h w"],
        coarse_merged: Float[Tensor, "n 4 h w"],
        coarse_grid_change: Float[Tensor, "n 2 h w"],
        pose: Float[Tensor, "n 6"],
    ) -> BodyOutput:
        precision = precision_of(self)
        coarse = torch.cat([coarse_merged, warp(image, coarse_grid_change), coarse_grid_change], dim=1)
        with self.precision_scope(image.device):
            extra = self.coarse_image_conv(coarse.to(precision))
            channels = self.body(image.to(precision), pose.to(precision), extra)
        return _merge(channels, image)

    def alone(self, image: Float[Tensor, "n 4 h w"], pose: Float[Tensor, "n 6"]) -> BodyOutput:
        """Without a coarse result, as its first training phases run it."""
        precision = precision_of(self)
        with self.precision_scope(image.device):
            channels = self.body(image.to(precision), pose.to(precision))
        return _merge(channels, image)


class Tha4Teacher(ChainTeacher):
    """THA4's five networks (627 MB in float32)."""

    def __init__(self, name: str = "tha4") -> None:
        super().__init__(name, 1, separable=False)
        self.body_morpher = BodyMorpher()
        self.upscaler = Upscaler()

    def pose_body(self, face: FaceStagesOutput, pose: Float[Tensor, "n 45"]) -> tuple[TeacherOutput, dict[str, Tensor]]:
        image, rotation = face.face_morphed, pose[:, POSE_PARAMETERS.rotation]
        body = self.body_morpher(resize(image, 256, 256), rotation)
        full = self.upscaler(image, resize(body.merged, 512, 512), resize(body.grid_change, 512, 512), rotation)
        output = TeacherOutput(
            posed=full.merged,
            warped=full.warped,
            grid_change=full.grid_change,
            color_change=full.direct,
            alpha=full.alpha,
            face_morphed=image,
        )
        named = {
            "posed": full.merged,
            **{f"upscaler_{name}": tensor for name, tensor in full._asdict().items() if name != "merged"},
            **{f"body_{name}": tensor for name, tensor in body._asdict().items()},
            "face_morphed_full": image,
        }
        return output, named

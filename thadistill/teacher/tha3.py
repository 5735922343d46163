"""THA3: the teacher "Talking Head Anime 3", in its standard and separable variants.

After the face stages come a two-algorithm rotator at 256x256 and an editor at 512x512.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from thadistill.outputs import TeacherOutput
from thadistill.pose import POSE_PARAMETERS
from thadistill.teacher.blocks import ResnetBlock, activation, block, channel_ladder, head, plane_conv
from thadistill.teacher.chain import ChainTeacher
from thadistill.teacher.engine import BodyNetwork, Engine, planes_of
from thadistill.teacher.face_stages import FaceStagesOutput
from thadistill.warp import blend, resize, warp

_SLOPE = 0.1  # of the LeakyReLU of both body networks


def _blocks(
    inputs: int, ladder: list[int], first_kernel: int, *, separable: bool
) -> tuple[nn.ModuleList, nn.ModuleList]:
    # the standard networks were trained with plain ReLU in the halving blocks, the separable ones with LeakyReLU
    halving_slope = _SLOPE if separable else 0.0
    down = nn.ModuleList(
        [block(plane_conv(inputs, ladder[0], first_kernel, separable=separable), ladder[0], activation(_SLOPE))]
    )
    for inner, outer in pairwise(ladder):
        down.append(block(plane_conv(inner, outer, 4, 2, separable=separable), outer, activation(halving_slope)))
    bottleneck = nn.ModuleList(ResnetBlock(ladder[-1], separable=separable, slope=_SLOPE) for _ in range(6))
    return down, bottleneck


class ResizeEncoderDecoder(nn.Module):
    """Body of the rotator: 64 channels at 256, 512 at 32; each step up is nearest x2, then a conv3 block."""

    def __init__(self, inputs: int, *, separable: bool) -> None:
        super().__init__()
        ladder = channel_ladder(64, 3)
        self.downsample_blocks, self.bottleneck_blocks = _blocks(inputs, ladder, 7, separable=separable)
        self.upsample_blocks = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="nearest"),
                block(plane_conv(inner, outer, 3, separable=separable), outer, activation(_SLOPE)),
            )
            for inner, outer in pairwise(reversed(ladder))
        )

    def flow(self, engine: Engine, *planes: Tensor) -> Any:
        """The body on the joined planes, in the engine's words."""
        x = engine.enter(*planes)
        for down in self.downsample_blocks:
            x = engine.block(down, x)
        for residual in self.bottleneck_blocks:
            x = engine.residual(residual, x)
        for up in self.upsample_blocks:
            x = engine.block(up.get_submodule("1"), x, doubled=True)
        return x


class ResizeUNet(nn.Module):
    """Body of the editor: 32 channels at 512, 256 at 64; each step up is nearest x2, the skip joined, a conv3 block."""

    def __init__(self, inputs: int, *, separable: bool) -> None:
        super().__init__()
        ladder = channel_ladder(32, 3)
        self.downsample_blocks, self.bottleneck_blocks = _blocks(inputs, ladder, 3, separable=separable)
        self.upsample_blocks = nn.ModuleList(
            block(plane_conv(inner + outer, outer, 3, separable=separable), outer, activation(_SLOPE))
            for inner, outer in pairwise(reversed(ladder))
        )

    def flow(self, engine: Engine, *planes: Tensor) -> Any:
        """The body on the joined planes, in the engine's words."""
        x = engine.enter(*planes)
        skips = []
        for down in self.downsample_blocks:
            x = engine.block(down, x)
            skips.append(x)
        for residual in self.bottleneck_blocks:
            x = engine.residual(residual, x)
        for up, skip in zip(self.upsample_blocks, reversed(skips[:-1]), strict=True):
            x = engine.block(up, x, doubled=True, skip=skip)
        return x


class RotatorOutput(NamedTuple):
    """The rotated body at half size, once painted ("direct") and once warped; the warp goes on to the editor."""

    direct: Float[Tensor, "n 4 256 256"]
    warped: Float[Tensor, "n 4 256 256"]
    grid_change: Float[Tensor, "n 2 256 256"]


class TwoAlgorithmRotator(BodyNetwork):
    """Turns head and body at 256x256 by 6 pose values."""

    def __init__(self, *, separable: bool) -> None:
        super().__init__(separable=separable)
        self.encoder_decoder = ResizeEncoderDecoder(4 + 6, separable=separable)
        self.direct_creator = head(64, "color")
        self.grid_change_creator = head(64, "grid")

    def forward(self, image: Float[Tensor, "n 4 256 256"], pose: Float[Tensor, "n 6"]) -> RotatorOutput:
        heads = [self.direct_creator, self.grid_change_creator]
        direct, grid_change = self.run_heads(self.encoder_decoder.flow, heads, image, planes_of(pose, 256, 256))
        return RotatorOutput(direct, warp(image, grid_change), grid_change)


class EditorOutput(NamedTuple):
    """The final image and what it is made of; alpha has a value for each of the four channels."""

    color_changed: Float[Tensor, "n 4 512 512"]
    alpha: Float[Tensor, "n 4 512 512"]
    color_change: Float[Tensor, "n 4 512 512"]
    warped: Float[Tensor, "n 4 512 512"]
    grid_change: Float[Tensor, "n 2 512 512"]


class Editor(BodyNetwork):
    """Refines the rotator's warp at 512x512 and paints what a warp cannot give."""

    def __init__(self, *, separable: bool) -> None:
        super().__init__(separable=separable)
        self.body = ResizeUNet(4 + 4 + 2 + 6, separable=separable)
        self.color_change_creator = head(32, "color")
        self.alpha_creator = head(32, "alpha", outputs=4)
        self.grid_change_creator = head(32, "grid")

    def forward(
        self,
        image: Float[Tensor, "n 4 512 512"],
        warped: Float[Tensor, "n 4 512 512"],
        grid_change: Float[Tensor, "n 2 512 512"],
        pose: Float[Tensor, "n 6"],
    ) -> EditorOutput:
        heads = [self.color_change_creator, self.alpha_creator, self.grid_change_creator]
        inputs = (image, warped, grid_change, planes_of(pose, 512, 512))
        color, alpha, refinement = self.run_heads(self.body.flow, heads, *inputs)
        refined = grid_change + refinement
        rewarped = warp(image, refined)
        return EditorOutput(blend(alpha, color, rewarped), alpha, color, rewarped, refined)


class Tha3Teacher(ChainTeacher):
    """THA3's five networks; ``separable`` chooses depthwise-separable convolutions (58 MB instead of 517)."""

    def __init__(self, name: str, *, separable: bool) -> None:
        super().__init__(name, 4, separable=separable)
        self.two_algo_face_body_rotator = TwoAlgorithmRotator(separable=separable)
        self.editor = Editor(separable=separable)
        self.share_workspace()

    def pose_body(self, face: FaceStagesOutput, pose: Float[Tensor, "n 45"]) -> tuple[TeacherOutput, dict[str, Tensor]]:
        image, rotation = face.face_morphed, pose[:, POSE_PARAMETERS.rotation]
        rotated = self.two_algo_face_body_rotator(resize(image, 256, 256), rotation)
        edited = self.editor(image, resize(rotated.warped, 512, 512), resize(rotated.grid_change, 512, 512), rotation)
        output = TeacherOutput(
            posed=edited.color_changed,
            warped=edited.warped,
            grid_change=edited.grid_change,
            color_change=edited.color_change,
            alpha=edited.alpha,
            face_morphed=image,
        )
        named = {
            "posed": edited.color_changed,
            **{f"editor_{name}": tensor for name, tensor in edited._asdict().items() if name != "color_changed"},
            **{f"rotator_{name}": tensor for name, tensor in rotated._asdict().items()},
            "face_morphed_full": image,
        }
        return output, named

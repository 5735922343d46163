"""Face stages: eyebrow decomposer, eyebrow morphing combiner and face morpher, which THA3 and THA4 share.

They turn a character image and the first 39 pose values into the face-morphed image.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from thadistill.images import EYEBROW_IN_FACE, EYEBROW_REGION, FACE_REGION
from thadistill.pose import POSE_PARAMETERS
from thadistill.teacher.blocks import EncoderDecoder, head
from thadistill.teacher.engine import BodyNetwork, Engine, planes_of
from thadistill.warp import blend, warp


def _encode(engine: Engine, body: nn.Module, *planes: Tensor) -> Any:
    """The part of an encoder-decoder that does not see the pose."""
    x = engine.enter(*planes)
    for down in body.get_submodule("downsample_blocks").children():
        x = engine.block(down, x)
    return x


def _decode(engine: Engine, body: nn.Module, x: Any) -> Any:
    """The rest, from the bottleneck's input, which the pose has joined as constant planes."""
    first, *residuals = body.get_submodule("bottleneck_blocks").children()
    x = engine.block(first, x)
    for residual in residuals:
        x = engine.residual(residual, x)
    for up in body.get_submodule("upsample_blocks").children():
        x = engine.block(up, x)
    return x


class DecomposerOutput(NamedTuple):
    """The eyebrow region taken apart; images are linear premultiplied RGBA in [-1, 1], alphas in [0, 1]."""

    eyebrow_layer: Float[Tensor, "b 4 128 128"]
    eyebrow_layer_alpha: Float[Tensor, "b 1 128 128"]
    eyebrow_layer_color_change: Float[Tensor, "b 4 128 128"]
    background_layer: Float[Tensor, "b 4 128 128"]
    background_layer_alpha: Float[Tensor, "b 1 128 128"]
    background_layer_color_change: Float[Tensor, "b 4 128 128"]


class EyebrowDecomposer(BodyNetwork):
    """Splits the eyebrow region into an eyebrow layer and the face behind it; sees no pose."""

    def __init__(self, *, separable: bool) -> None:
        super().__init__(separable=separable)
        self.body = EncoderDecoder(4, 0, separable=separable)
        self.background_layer_alpha = head(64, "alpha")
        self.background_layer_color_change = head(64, "color")
        self.eyebrow_layer_alpha = head(64, "alpha")
        self.eyebrow_layer_color_change = head(64, "color")

    def forward(self, image: Float[Tensor, "b 4 128 128"]) -> DecomposerOutput:
        heads = [
            self.background_layer_alpha,
            self.background_layer_color_change,
            self.eyebrow_layer_alpha,
            self.eyebrow_layer_color_change,
        ]
        background_alpha, background_color, eyebrow_alpha, eyebrow_color = self.run_heads(
            lambda engine, planes: _decode(engine, self.body, _encode(engine, self.body, planes)), heads, image
        )
        # the eyebrow layer keeps the image where its alpha is 1; the background is painted where its alpha is 1
        return DecomposerOutput(
            eyebrow_layer=blend(eyebrow_alpha, image, eyebrow_color),
            eyebrow_layer_alpha=eyebrow_alpha,
            eyebrow_layer_color_change=eyebrow_color,
            background_layer=blend(background_alpha, background_color, image),
            background_layer_alpha=background_alpha,
            background_layer_color_change=background_color,
        )


class CombinerOutput(NamedTuple):
    """The eyebrow region with its eyebrows posed; ``eyebrow_image_no_combine_alpha`` is the one used downstream."""

    eyebrow_image: Float[Tensor, "n 4 128 128"]
    combine_alpha: Float[Tensor, "n 1 128 128"]
    eyebrow_image_no_combine_alpha: Float[Tensor, "n 4 128 128"]
    morphed_eyebrow_layer: Float[Tensor, "n 4 128 128"]
    morphed_eyebrow_layer_alpha: Float[Tensor, "n 1 128 128"]
    morphed_eyebrow_layer_color_change: Float[Tensor, "n 4 128 128"]
    warped_eyebrow_layer: Float[Tensor, "n 4 128 128"]
    morphed_eyebrow_layer_grid_change: Float[Tensor, "n 2 128 128"]


class EyebrowMorphingCombiner(BodyNetwork):
    """Moves and repaints the eyebrow layer by 12 pose values and lays it over the background layer."""

    def __init__(self, *, separable: bool) -> None:
        super().__init__(separable=separable)
        self.body = EncoderDecoder(8, 12, separable=separable)
        self.morphed_eyebrow_layer_grid_change = head(64, "grid")
        self.morphed_eyebrow_layer_alpha = head(64, "alpha")
        self.morphed_eyebrow_layer_color_change = head(64, "color")
        self.combine_alpha = head(64, "alpha")

    def encode(
        self, background: Float[Tensor, "b 4 128 128"], eyebrow: Float[Tensor, "b 4 128 128"]
    ) -> Float[Tensor, "b 512 16 16"]:
        """What the layers give before the pose joins: the same for every pose of an image."""
        return self.run_body(lambda engine, *layers: _encode(engine, self.body, *layers), background, eyebrow)

    def forward(
        self,
        feature: Float[Tensor, "b 512 16 16"],
        background: Float[Tensor, "b 4 128 128"],
        eyebrow: Float[Tensor, "b 4 128 128"],
        pose: Float[Tensor, "n 12"],
    ) -> CombinerOutput:
        heads = [
            self.morphed_eyebrow_layer_grid_change,
            self.morphed_eyebrow_layer_alpha,
            self.morphed_eyebrow_layer_color_change,
            self.combine_alpha,
        ]
        feature, background, eyebrow = (
            layer.expand(pose.shape[0], -1, -1, -1) for layer in (feature, background, eyebrow)
        )
        grid_change, alpha, color, combine_alpha = self.run_heads(
            lambda engine, *planes: _decode(engine, self.body, engine.enter(*planes)),
            heads,
            feature,
            planes_of(pose, *feature.shape[-2:]),
        )
        warped = warp(eyebrow, grid_change)
        morphed = blend(alpha, color, warped)
        return CombinerOutput(
            eyebrow_image=_blend_rgb(combine_alpha, morphed, background),
            combine_alpha=combine_alpha,
            eyebrow_image_no_combine_alpha=_blend_rgb((morphed[:, 3:] + 1) / 2, morphed, background),
            morphed_eyebrow_layer=morphed,
            morphed_eyebrow_layer_alpha=alpha,
            morphed_eyebrow_layer_color_change=color,
            warped_eyebrow_layer=warped,
            morphed_eyebrow_layer_grid_change=grid_change,
        )


def _blend_rgb(alpha: Tensor, painted: Tensor, kept: Tensor) -> Tensor:
    """``blend`` on RGB; the alpha channel stays that of ``kept``."""
    return torch.cat([blend(alpha, painted[:, :3], kept[:, :3]), kept[:, 3:]], dim=1)


class FaceMorpherOutput(NamedTuple):
    """The face region with iris, mouth, then eyes posed; ``output`` is the last of them."""

    output: Float[Tensor, "n 4 192 192"]
    eye_alpha: Float[Tensor, "n 1 192 192"]
    eye_color_change: Float[Tensor, "n 4 192 192"]
    iris_mouth_image_1: Float[Tensor, "n 4 192 192"]
    iris_mouth_alpha: Float[Tensor, "n 1 192 192"]
    iris_mouth_color_change: Float[Tensor, "n 4 192 192"]
    iris_mouth_image_0: Float[Tensor, "n 4 192 192"]
    iris_mouth_grid_change: Float[Tensor, "n 2 192 192"]


class FaceMorpher(BodyNetwork):
    """Poses irises and mouth (by warp and paint), then eyes (by paint), from 27 pose values.

    In the published files of the ordinary (not separable) network the body's blocks are the network's own.
    """

    def __init__(self, *, separable: bool) -> None:
        super().__init__(separable=separable)
        self.nested = separable
        body = EncoderDecoder(4, 27, separable=separable)
        if self.nested:
            self.body = body
        else:
            self.downsample_blocks = body.downsample_blocks
            self.bottleneck_blocks = body.bottleneck_blocks
            self.upsample_blocks = body.upsample_blocks
        self.iris_mouth_grid_change = head(64, "grid")
        self.iris_mouth_color_change = head(64, "color")
        self.iris_mouth_alpha = head(64, "alpha")
        self.eye_color_change = head(64, "color")
        self.eye_alpha = head(64, "alpha")

    def forward(self, image: Float[Tensor, "n 4 192 192"], pose: Float[Tensor, "n 27"]) -> FaceMorpherOutput:
        body = self.body if self.nested else self

        def flow(engine: Engine, planes: Tensor, pose_planes: Tensor) -> Any:
            feature = engine.leave(_encode(engine, body, planes))
            return _decode(engine, body, engine.enter(feature, pose_planes))

        heads = [
            self.iris_mouth_grid_change,
            self.iris_mouth_color_change,
            self.iris_mouth_alpha,
            self.eye_color_change,
            self.eye_alpha,
        ]
        grid_change, color, alpha, eye_color, eye_alpha = self.run_heads(flow, heads, image, planes_of(pose, 24, 24))
        image_0 = warp(image, grid_change)
        image_1 = blend(alpha, color, image_0)
        return FaceMorpherOutput(
            # detached: the eye branch is trained on what the iris and mouth branch gives, not through it
            output=blend(eye_alpha, eye_color, image_1.detach()),
            eye_alpha=eye_alpha,
            eye_color_change=eye_color,
            iris_mouth_image_1=image_1,
            iris_mouth_alpha=alpha,
            iris_mouth_color_change=color,
            iris_mouth_image_0=image_0,
            iris_mouth_grid_change=grid_change,
        )


class Layers(NamedTuple):
    """What the face stages keep for an image: its layers, and the combiner's feature before the pose joins."""

    decomposed: DecomposerOutput
    feature: Float[Tensor, "b 512 16 16"]


class FaceStagesOutput(NamedTuple):
    """The three networks' outputs, and the character image with the posed face pasted in."""

    decomposer: DecomposerOutput
    combiner: CombinerOutput
    face: FaceMorpherOutput
    face_morphed: Float[Tensor, "n 4 512 512"]

    def repeated(self, which: Int[Tensor, " m"]) -> FaceStagesOutput:
        """The outputs of m poses whose faces are these, by number."""
        combiner = CombinerOutput(*(tensor[which] for tensor in self.combiner))
        face = FaceMorpherOutput(*(tensor[which] for tensor in self.face))
        return FaceStagesOutput(self.decomposer, combiner, face, self.face_morphed[which])

    def named(self) -> dict[str, Tensor]:
        """Every intermediate, as ``decomposer_*`` (one for each image), ``combiner_*`` and ``face_*``."""
        return {
            **{f"face_{name}": tensor for name, tensor in self.face._asdict().items()},
            **{f"combiner_{name}": tensor for name, tensor in self.combiner._asdict().items()},
            **{f"decomposer_{name}": tensor for name, tensor in self.decomposer._asdict().items()},
        }


def separate(
    decomposer: EyebrowDecomposer, combiner: EyebrowMorphingCombiner, image: Float[Tensor, "b 4 512 512"]
) -> Layers:
    """The work that depends on the image alone."""
    decomposed = decomposer(EYEBROW_REGION.crop(image))
    return Layers(decomposed, combiner.encode(decomposed.background_layer, decomposed.eyebrow_layer))


def pose_face(
    combiner: EyebrowMorphingCombiner,
    face_morpher: FaceMorpher,
    layers: Layers,
    image: Float[Tensor, "b 4 512 512"],
    pose: Float[Tensor, "n 45"],
) -> FaceStagesOutput:
    """The work that depends on the pose, given the image's layers."""
    decomposed = layers.decomposed
    eyebrows = combiner(
        layers.feature, decomposed.background_layer, decomposed.eyebrow_layer, pose[:, POSE_PARAMETERS.eyebrow]
    )
    region = EYEBROW_IN_FACE.paste(FACE_REGION.crop(image), eyebrows.eyebrow_image_no_combine_alpha)
    face = face_morpher(region, pose[:, POSE_PARAMETERS.face])
    return FaceStagesOutput(decomposed, eyebrows, face, FACE_REGION.paste(image, face.output))


class FaceStages(nn.Module):
    """The three networks as one: what is trained together, and saved under the published names."""

    def __init__(self, *, separable: bool = False) -> None:
        super().__init__()
        self.eyebrow_decomposer = EyebrowDecomposer(separable=separable)
        self.eyebrow_morphing_combiner = EyebrowMorphingCombiner(separable=separable)
        self.face_morpher = FaceMorpher(separable=separable)

    def forward(self, image: Float[Tensor, "n 4 512 512"], pose: Float[Tensor, "n 45"]) -> FaceStagesOutput:
        layers = separate(self.eyebrow_decomposer, self.eyebrow_morphing_combiner, image)
        return pose_face(self.eyebrow_morphing_combiner, self.face_morpher, layers, image, pose)

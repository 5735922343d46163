"""Folded: the student in plain PyTorch without its redundancies; the exact runtime where there is no compiler.

Pose and position enter as biases, a level's first matrix is applied before the upsampling, only the pixels that are
asked for are evaluated, and every level goes through its layers in chunks of pixels that stay in cache.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from thadistill.images import IMAGE_SIZE, STUDENT_FACE_REGION, Region
from thadistill.outputs import StudentOutput
from thadistill.pose import FACIAL_SIZE
from thadistill.runtime.base import Runtime
from thadistill.runtime.region import read_by_doubling
from thadistill.student import CharacterModel
from thadistill.student.face_morpher import FACE_SIZE
from thadistill.student.siren import SineLayer
from thadistill.warp import axis_positions

_CHUNK = 2048  # pixels: 360 channels of them in float32 are 3 MB
_NEAR_FAR = (0.75, 0.25)  # bilinear weights of doubling, along one axis


class Stage(nn.Module):
    """One level (or the face) at a list of pixels: [p, channels in] of the level below -> [p, channels out].

    Args:
        layers: its sine layers.
        features: how many of the first layer's inputs come from the level below.
        out: matrix [out, in] and bias (or None) that follow the last sine.
        mask: the pixels to evaluate.
        below: the mask of the level below, which must hold what upsampling reads.
    """

    position: Tensor
    by_position: Tensor
    by_pose: Tensor
    bias: Tensor

    def __init__(
        self,
        layers: Sequence[SineLayer],
        features: int,
        out: tuple[Tensor, Tensor | None],
        mask: Bool[np.ndarray, "h w"],
        below: Bool[np.ndarray, "_h _w"] | None,
    ) -> None:
        super().__init__()
        first, *rest = layers
        device = first.matrix.device
        matrix = (first.matrix * first.omega).detach()
        rows, columns = (torch.from_numpy(i).to(device) for i in np.nonzero(mask))
        axis = axis_positions(len(mask), device)
        self.register_buffer("position", torch.stack([axis[columns], axis[rows]], 1))
        self.register_buffer("by_position", matrix[:, features : features + 2].T.contiguous())
        self.register_buffer("by_pose", matrix[:, features + 2 :].contiguous())
        self.register_buffer("bias", (first.bias * first.omega).detach())
        self.hidden = [
            ((layer.matrix * layer.omega).detach().T.contiguous(), (layer.bias * layer.omega).detach())
            for layer in rest
        ]
        self.out = out[0].detach().T.contiguous(), None if out[1] is None else out[1].detach()
        self.near: Tensor | None = None
        if below is not None:
            near, weight = _doubling(mask, below)
            self.near, self.weight = near.to(device), weight.to(device)

    def forward(self, pose: Float[Tensor, "1 k"], below: Float[Tensor, "q c"] | None) -> Float[Tensor, "p d"]:
        shift = F.linear(pose, self.by_pose, self.bias)[0]
        chunk = _CHUNK if pose.device.type == "cpu" else len(self.position)
        result = self.position.new_empty(len(self.position), self.out[0].shape[1])
        for start in range(0, len(result), chunk):
            stop = start + chunk
            features = None
            if self.near is not None:
                assert below is not None
                features = F.embedding_bag(
                    self.near[start:stop], below, per_sample_weights=self.weight[start:stop], mode="sum"
                )
            result[start:stop] = self.pixels(self.position[start:stop], shift, features)
        return result

    def pixels(
        self, position: Float[Tensor, "p 2"], shift: Float[Tensor, " c"], features: Float[Tensor, "p c"] | None
    ) -> Float[Tensor, "p d"]:
        """A chunk of pixels through all layers."""
        phase = torch.addmm(shift, position, self.by_position)
        if features is not None:
            phase = phase + features
        x = phase.sin()
        for matrix, bias in self.hidden:
            x = torch.addmm(bias, x, matrix).sin()
        last, shift_out = self.out
        return x @ last if shift_out is None else torch.addmm(shift_out, x, last)


def _doubling(
    mask: Bool[np.ndarray, "h w"], below: Bool[np.ndarray, "_h _w"]
) -> tuple[Int[Tensor, "p 4"], Float[Tensor, "p 4"]]:
    """For each pixel of ``mask``, the four pixels of ``below`` (as places in its list) and their bilinear weights."""
    place = np.cumsum(below.ravel()).reshape(below.shape) - 1
    y, x = np.nonzero(mask)
    near, weight = [], []
    for dy, wy in enumerate(_NEAR_FAR):
        row = np.clip((y >> 1) + dy * np.where(y & 1, 1, -1), 0, below.shape[0] - 1)
        for dx, wx in enumerate(_NEAR_FAR):
            column = np.clip((x >> 1) + dx * np.where(x & 1, 1, -1), 0, below.shape[1] - 1)
            near.append(place[row, column])
            weight.append(np.full(len(y), wy * wx, np.float32))
    return torch.from_numpy(np.stack(near, 1)), torch.from_numpy(np.stack(weight, 1))


def build_stages(model: CharacterModel, visible: Bool[np.ndarray, "512 512"]) -> tuple[Stage, list[Stage]]:
    """The face (whole) and the body rotator's levels at the visible pixels and those that they read."""
    body = model.body_rotator
    masks = [visible]
    for _ in body.sizes[1:]:
        masks.insert(0, read_by_doubling(masks[0]))
    levels: list[list[SineLayer]] = [list(level) for level in body.siren_layers]  # type: ignore[call-overload]
    stages = []
    features = 0
    for i, layers in enumerate(levels):
        width = layers[-1].matrix.shape[0]
        if i + 1 < len(levels):
            after = levels[i + 1][0]
            out: tuple[Tensor, Tensor | None] = (after.matrix[:, :width] * after.omega, None)
        else:
            out = (body.last_linear.weight[:, :, 0, 0], body.last_linear.bias)
        stages.append(Stage(layers, features, out, masks[i], masks[i - 1] if i else None))
        features = width
    last = model.face_morpher.siren.last_linear
    face_layers: list[SineLayer] = list(model.face_morpher.siren.sine_layers)  # type: ignore[arg-type]
    whole = np.ones((FACE_SIZE, FACE_SIZE), bool)
    face = Stage(face_layers, 0, (last.weight[:, :, 0, 0], last.bias), whole, None)
    return face, stages


class Folded(Runtime):
    """Plain PyTorch, exact to float32 rounding, on any device; nothing is compiled.

    Args:
        visible: pixels to compute, [512, 512]; None is all of them.
    """

    name = "folded"
    character: Tensor

    def __init__(
        self,
        model: CharacterModel,
        crop: Region | tuple[int, ...] | None = None,
        reuse: bool = True,
        visible: Bool[np.ndarray, "512 512"] | None = None,
    ) -> None:
        super().__init__(model, crop, reuse)
        inside = np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool)
        inside[self.crop.top : self.crop.bottom, self.crop.left : self.crop.right] = True
        self.visible = inside if visible is None else inside & visible
        self.face, levels = build_stages(model, self.visible)
        self.levels = nn.ModuleList(levels)
        self.position = levels[-1].position
        self.pixel = torch.from_numpy(np.flatnonzero(self.visible)).to(self.device)
        self.register_buffer("character", model.image.detach().clone(), persistent=False)

    def _channels(self, pose: Float[Tensor, "1 45"]) -> Float[Tensor, "p 7"]:
        """Grid change 2, alpha 1, colour change 4 of the visible pixels."""
        below = None
        for level in self.levels:
            below = level(pose, below)
        assert below is not None
        return below

    def _paint_face(self, pose: Float[Tensor, "1 45"]) -> Float[Tensor, "1 4 128 128"]:
        facial = pose[:, :FACIAL_SIZE]
        kept = self._kept("face", facial)
        if kept is None:
            kept = self._keep("face", facial, self._face_channels(facial))
        assert isinstance(kept, Tensor)
        return kept.T.reshape(1, 4, FACE_SIZE, FACE_SIZE)

    def _face_channels(self, facial: Float[Tensor, "1 39"]) -> Float[Tensor, "p 4"]:
        return self.face(facial, None)

    def _planes(self, pose: Tensor) -> StudentOutput:
        frames = [self._one(one) for one in pose.split(1)]
        return StudentOutput(*(torch.cat(planes) for planes in zip(*frames, strict=True)))

    def _one(self, pose: Float[Tensor, "1 45"]) -> StudentOutput:
        face = self._paint_face(pose)
        character = STUDENT_FACE_REGION.paste(self.character, face)
        channels = self._channels(pose).T
        grid_change, alpha, color = channels[:2], channels[2:3], channels[3:]
        grid = (self.position + grid_change.T)[None, None]
        warped = F.grid_sample(character, grid, padding_mode="border", align_corners=False)[0, :, 0]
        posed = color * alpha + warped * (1 - alpha)
        return StudentOutput(
            posed=self._scatter(posed, -1.0),
            warped=self._scatter(warped, -1.0),
            grid_change=self._scatter(grid_change, 0.0),
            color_change=self._scatter(color, -1.0),
            alpha=self._scatter(alpha, 0.0),
            face=face,
        )

    def _scatter(self, values: Float[Tensor, "c p"], elsewhere: float) -> Float[Tensor, "1 c 512 512"]:
        plane = values.new_full((len(values), IMAGE_SIZE * IMAGE_SIZE), elsewhere)
        plane[:, self.pixel] = values
        return plane.reshape(1, -1, IMAGE_SIZE, IMAGE_SIZE)

"""Body rotator: the multi-resolution SIREN that moves and repaints the character for a pose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from thadistill.errors import UserError, check_positive, check_whole
from thadistill.kernels.level import Doubling, LayerWeights, sine_level
from thadistill.pose import POSE_SIZE
from thadistill.student.siren import SineLayer, last_linear, planes
from thadistill.warp import axis_positions, blend, position_grid, resize, warp


class RotatorOutput(NamedTuple):
    """What the body rotator gives for every pixel."""

    grid_change: Float[Tensor, "n 2 h w"]
    alpha: Float[Tensor, "n 1 h w"]
    color_change: Float[Tensor, "n 4 h w"]

    @classmethod
    def split(cls, channels: Float[Tensor, "n 7 h w"]) -> RotatorOutput:
        """Names the network's seven channels, in the order of the published files."""
        return cls(channels[:, :2], channels[:, 2:3], channels[:, 3:])


class Posed(NamedTuple):
    """The character image moved and painted."""

    warped: Float[Tensor, "n 4 h w"]
    blended: Float[Tensor, "n 4 h w"]


class BodyRotator(nn.Module):
    """Pose -> grid change, alpha and colour change at 512x512 (THA4 section 4, "multi-resolution SIREN").

    Args:
        sizes: image size of each level, each twice the one before, or the same: then nothing is upsampled between.
        widths: channels of each level; the paper's student has 360, 180 and 90.
        depth: sine layers a level.
        width_scale: multiplies the widths, which stay at least 1; 1 is the paper's student, of 331,567 parameters.
        omega: frequency factor of every sine.

    The last layer of a level already has the next level's width. From the second level on the input is the upsampled
    features, the position (2) and the pose (45), in that order; the first level sees position and pose.

    Raises: UserError when sizes and widths are not one each a level, a size is no whole number above 0, a factor none
    above 0, or the sizes neither double nor stay.
    """

    def __init__(
        self,
        sizes: Sequence[int] = (128, 256, 512),
        widths: Sequence[int] = (360, 180, 90),
        depth: int = 3,
        width_scale: float = 1.0,
        omega: float = 30.0,
    ) -> None:
        super().__init__()
        for name, values in (("sizes", sizes), ("widths", widths)):
            if not isinstance(values, Sequence) or isinstance(values, str) or not values:
                raise UserError(f"BodyRotator: {name}={values}; expected a list of whole numbers, one per level")
            for level, value in enumerate(values):
                check_whole(f"BodyRotator: {name}[{level}]", value)
        check_whole("BodyRotator: depth", depth)
        check_positive("BodyRotator: width_scale", width_scale)
        check_positive("BodyRotator: omega", omega)
        if len(sizes) != len(widths) or any(b not in (a, 2 * a) for a, b in pairwise(sizes)):
            raise UserError(
                f"BodyRotator: sizes {list(sizes)}, widths {list(widths)}; expected one width a level, "
                "sizes doubling or equal"
            )
        self.sizes, self.omega = tuple(sizes), float(omega)
        scaled = [max(1, round(width * width_scale)) for width in widths]
        following = [*scaled[1:], scaled[-1]]
        self.siren_layers = nn.ModuleList()
        for level, (width, after) in enumerate(zip(scaled, following, strict=True)):
            given = 2 + POSE_SIZE + (width if level else 0)
            channels = [given, *[width] * (depth - 1), after]
            self.siren_layers.append(
                nn.ModuleList(
                    SineLayer(channels[i], channels[i + 1], omega, first=level == 0 and i == 0) for i in range(depth)
                )
            )
        self.last_linear = last_linear(scaled[-1], 7)

    def forward(self, pose: Float[Tensor, "n 45"]) -> RotatorOutput:
        """The whole image, layer by layer as the published network computes it."""
        x = None
        for size, layers in zip(self.sizes, self.siren_layers, strict=True):
            given = [position_grid(size, size, pose.device).expand(len(pose), -1, -1, -1), planes(pose, size, size)]
            x = torch.cat([*([] if x is None else [resize(x, size, size)]), *given], dim=1)
            for layer in cast(nn.ModuleList, layers):
                x = layer(x)
        return RotatorOutput.split(self.last_linear(x))

    def patches(self, pose: Float[Tensor, "m 45"], corner: Int[Tensor, "n 2"], size: int) -> RotatorOutput:
        """The same values on patches of the image: see :meth:`patch_channels`."""
        return self.motion(self.patch_channels(pose, corner, size))

    @staticmethod
    def motion(channels: Float[Tensor, "n p 7"]) -> RotatorOutput:
        """What the channels of patches, as :meth:`patch_channels` gives them, say."""
        side = math.isqrt(channels.shape[1])
        return RotatorOutput.split(channels.transpose(1, 2).unflatten(2, (side, side)))

    def patch_channels(
        self, pose: Float[Tensor, "m 45"], corner: Int[Tensor, "n 2"], size: int
    ) -> Float[Tensor, "n p 7"]:
        """The seven channels at the p pixels of patches of the image, n/m in a row for each pose, for training on patches.

        ``corner`` is the top and left pixel, ``size`` the side. Each level is evaluated on the pixels that bilinear
        upsampling reads for the patch, so all corners are alike modulo last size / first size; beyond the image
        positions are clamped, which is what upsampling does there, and the border pixel repeats. Equal to
        :meth:`forward` but for rounding, which is coarser where gradients are wanted (kernels/level): pose and position
        enter as a bias, and a level's first convolution is applied before the upsampling.

        Raises: ValueError when the corners are not alike, or not as many for each pose.
        """
        unit = self.sizes[-1] // self.sizes[0]
        phase, last = torch.stack((corner % unit).aminmax()).tolist()
        if phase != last or len(corner) % len(pose):
            raise ValueError(
                f"{len(corner)} patches of {len(pose)} poses: expected as many for each, and corners alike modulo {unit}"
            )
        spans = [Span(phase, size)]
        doubled: list[Doubling | None] = []
        for image_size, above in reversed([*pairwise(self.sizes)]):
            below = spans[0].read_by_doubling() if above > image_size else spans[0]
            doubled.insert(0, doubling_of(below, spans[0], pose.device) if above > image_size else None)
            spans.insert(0, below)
        x = None
        for image_size, span, doubling, layers in zip(
            self.sizes, spans, [None, *doubled], self.siren_layers, strict=True
        ):
            start = (corner - phase) // (self.sizes[-1] // image_size) + span.first
            coordinates = _coordinates(start, span.size, image_size)
            last = LayerWeights.of(self.last_linear) if layers is self.siren_layers[-1] else None
            x = _run_level([*cast(nn.ModuleList, layers)], pose, coordinates, x, doubling, last)
        assert x is not None
        return x

    @staticmethod
    def render(motion: RotatorOutput, image: Float[Tensor, "n 4 h w"]) -> Posed:
        """Warps the character image (face pasted) and paints: (1 - alpha) * warped + alpha * colour change."""
        warped = warp(image, motion.grid_change)
        return Posed(warped, blend(motion.alpha, motion.color_change, warped))


class Span(NamedTuple):
    """Pixels along one axis of a level, counted from a patch's part of it."""

    first: int
    size: int

    def read_by_doubling(self) -> Span:
        """The pixels of a level half as large that bilinear doubling reads for these.

        Pixel p lies a quarter of a coarse pixel off the middle of (p - 1) // 2 or the next, and reads both. The fewest are
        read for patches of 2 or 6 pixels that begin at 3 modulo 4: 2, 2 and 3, 4 along an axis of the two levels below.
        """
        first = (self.first - 1) // 2
        return Span(first, (self.first + self.size - 2) // 2 + 2 - first)


@cache
def doubling_of(below: Span, span: Span, device: torch.device) -> Doubling:
    """Bilinear doubling along an axis, from the pixels ``below`` to ``span``."""
    place = (torch.arange(span.first, span.first + span.size) - 0.5) / 2 - below.first
    matrix = (1 - (place[:, None] - torch.arange(below.size)).abs()).clamp(min=0).to(device)
    return Doubling.of(matrix)


def _run_level(
    layers: list[SineLayer],
    pose: Float[Tensor, "m 45"],
    coordinates: Float[Tensor, "n t2 2"],
    below: Float[Tensor, "n s2 c"] | None,
    doubling: Doubling | None,
    last: LayerWeights | None,
) -> Float[Tensor, "n t2 d"]:
    """One level on patches, n/m in a row for each pose; ``doubling`` from the level below, where that is half as large."""
    first, *rest = layers
    matrix, bias = first.scaled()
    channels = matrix.shape[1] - 2 - POSE_SIZE  # of the level below
    constant = F.linear(pose, matrix[:, channels + 2 :], bias)
    plane = torch.cat([matrix[:, channels : channels + 2].T.expand(len(pose), -1, -1), constant[:, None]], dim=1)
    features = None if below is None else matrix[:, :channels]
    following = [LayerWeights(*layer.scaled()) for layer in rest]
    return sine_level(below, features, doubling, coordinates, plane, following, last)


def _coordinates(start: Int[Tensor, "n 2"], side: int, image_size: int) -> Float[Tensor, "n side2 2"]:
    """x and y at every pixel of each patch, clamped to the image."""
    index = start[:, :, None] + torch.arange(side, device=start.device)
    y, x = axis_positions(image_size, start.device)[index.clamp(0, image_size - 1)].unbind(1)
    x, y = torch.broadcast_tensors(x[:, None, :], y[:, :, None])
    return torch.stack([x, y], dim=-1).flatten(1, 2)

"""Body rotator: the multi-resolution SIREN that moves and repaints the character for a pose."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from thadistill.errors import UserError
from thadistill.pose import POSE_SIZE
from thadistill.student.siren import SineLayer, check_positive, check_whole, last_linear, planes, sine_linear
from thadistill.warp import axis_positions, blend, position_grid, resize, warp


class Motion(NamedTuple):
    """What the body rotator says of every pixel."""

    grid_change: Float[Tensor, "n 2 h w"]
    alpha: Float[Tensor, "n 1 h w"]
    color_change: Float[Tensor, "n 4 h w"]

    @classmethod
    def split(cls, channels: Float[Tensor, "n 7 h w"]) -> Motion:
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
                raise UserError(f"BodyRotator: {name}={values}; expected a list of whole numbers, one a level")
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
        self.sizes = tuple(sizes)
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

    def forward(self, pose: Float[Tensor, "n 45"]) -> Motion:
        """The whole image, layer by layer as the published network computes it."""
        x = None
        for size, layers in zip(self.sizes, self.siren_layers, strict=True):
            given = [position_grid(size, size, pose.device).expand(len(pose), -1, -1, -1), planes(pose, size, size)]
            x = torch.cat([*([] if x is None else [resize(x, size, size)]), *given], dim=1)
            for layer in cast(nn.ModuleList, layers):
                x = layer(x)
        return Motion.split(self.last_linear(x))

    def patches(self, pose: Float[Tensor, "n 45"], corner: Int[Tensor, "n 2"], size: int) -> Motion:
        """The same values on one square of the image for each pose, for training on patches.

        ``corner`` is the top and left pixel, ``size`` the side; all are multiples of last size / first size. Each level
        is evaluated on its part of the square plus the one pixel around it that bilinear upsampling reads; beyond the
        image positions are clamped, which is what upsampling does there. Equal to :meth:`forward` but for rounding:
        pose and position enter as a bias, and a level's first convolution is applied before the upsampling.

        Raises: ValueError when corner or size is not such a multiple.
        """
        unit = self.sizes[-1] // self.sizes[0]
        if size % unit or bool((corner % unit).any()):
            raise ValueError(f"patch corners and size {size} must be multiples of {unit} for sizes {self.sizes}")
        below: Tensor | None = None
        before = None
        for image_size, layers in zip(self.sizes, self.siren_layers, strict=True):
            scale = self.sizes[-1] // image_size
            margin = 1 if scale > 1 else 0
            side = size // scale + 2 * margin
            coordinates = _coordinates(corner // scale - margin, side, image_size)
            below = _run_level([*cast(nn.ModuleList, layers)], pose, coordinates, side, below, image_size != before)
            before = image_size
        assert below is not None
        x = below
        channels = F.linear(x, self.last_linear.weight[:, :, 0, 0], self.last_linear.bias)
        return Motion.split(channels.permute(0, 3, 1, 2))

    @staticmethod
    def render(motion: Motion, image: Float[Tensor, "n 4 h w"]) -> Posed:
        """Warps the character image (face pasted) and paints: (1 - alpha) * warped + alpha * colour change."""
        warped = warp(image, motion.grid_change)
        return Posed(warped, blend(motion.alpha, motion.color_change, warped))


def _run_level(
    layers: list[SineLayer],
    pose: Float[Tensor, "n 45"],
    coordinates: Float[Tensor, "n p 3"],
    side: int,
    below: Float[Tensor, "n s s c"] | None,
    doubling: bool,
) -> Float[Tensor, "n t t d"]:
    """One level on squares of ``side`` pixels: pose and position as planes, features of the level below raised.

    ``doubling``: whether the level below is half as large, else it is of this size.
    """
    first, *rest = layers
    matrix = first.matrix * first.omega
    features = matrix.shape[1] - 2 - POSE_SIZE
    constant = F.linear(pose, matrix[:, features + 2 :], first.bias * first.omega)
    plane = torch.cat([matrix[:, features : features + 2].T.expand(len(pose), -1, -1), constant[:, None]], dim=1)
    if below is None:
        phase = torch.bmm(coordinates, plane)
    else:
        raised = F.linear(below, matrix[:, :features])
        raised = _upsample(raised, side) if doubling else raised
        phase = torch.baddbmm(raised.flatten(1, 2), coordinates, plane)
    x = torch.sin(phase).unflatten(1, (side, side))
    for layer in rest:
        x = sine_linear(x, layer.matrix, layer.bias, layer.omega)
    return x


def _coordinates(corner: Int[Tensor, "n 2"], side: int, image_size: int) -> Float[Tensor, "n p 3"]:
    """x, y and 1 at every pixel of each square, clamped to the image: a plane over the square is a product with it."""
    index = corner[:, :, None] + torch.arange(side, device=corner.device)
    y, x = axis_positions(image_size, corner.device)[index.clamp(0, image_size - 1)].unbind(1)
    x, y = torch.broadcast_tensors(x[:, None, :], y[:, :, None])
    return torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(1, 2)


def _upsample(x: Float[Tensor, "n s s c"], side: int) -> Float[Tensor, "n t t c"]:
    """Doubles squares that carry one pixel of border, keeping the middle ``side`` pixels, where the result is exact.

    As two products with the interpolation matrix: on a CPU several times faster than ``interpolate`` and its gradient.
    """
    matrix = doubling_matrix(x.shape[1], side, x.device).to(x.dtype)
    n, given, _, channels = x.shape
    rows = torch.matmul(matrix, x.reshape(n, given, given * channels)).reshape(n * side, given, channels)
    return torch.matmul(matrix, rows).reshape(n, side, side, channels)


@cache
def doubling_matrix(given: int, side: int, device: torch.device) -> Float[Tensor, "side given"]:
    """Bilinear doubling of ``given`` pixels as a matrix, cut to the middle ``side`` of the 2 * given results."""
    doubled = F.interpolate(torch.eye(given)[None], scale_factor=2, mode="linear", align_corners=False)[0].T
    cut = (2 * given - side) // 2
    return doubled[cut : cut + side].contiguous().to(device)

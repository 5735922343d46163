"""Blocks: the convolutional bodies of THA3's networks and of the face stages that THA4 shares with it.

A block is a convolution without bias, InstanceNorm2d(affine) and an activation. "Separable" convolutions are depthwise,
then 1x1. Module layout follows the published weight files, whose tensor names are the state dict's.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn


def plane_conv(
    inner: int, outer: int, kernel: int, stride: int = 1, *, separable: bool, transposed: bool = False
) -> list[nn.Module]:
    """A convolution without bias as the list of its modules: one, or depthwise and 1x1.

    Stride 2 (kernel 4) halves the size, or doubles it when ``transposed``; stride 1 keeps it.
    """
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    padding = (kernel - stride + 1) // 2
    if not separable:
        return [kind(inner, outer, kernel, stride, padding, bias=False)]
    depthwise = kind(inner, inner, kernel, stride, padding, groups=inner, bias=False)
    return [depthwise, nn.Conv2d(inner, outer, 1, bias=False)]


def block(convolution: list[nn.Module], outer: int, activation: nn.Module) -> nn.Sequential:
    """Convolution, instance norm, activation."""
    return nn.Sequential(*convolution, nn.InstanceNorm2d(outer, affine=True), activation)


def activation(slope: float) -> nn.Module:
    """ReLU for slope 0, else LeakyReLU."""
    return nn.LeakyReLU(slope) if slope else nn.ReLU()


class ResnetBlock(nn.Module):
    """x + conv3-norm-activation-conv3-norm of x."""

    def __init__(self, channels: int, *, separable: bool, slope: float = 0.0) -> None:
        super().__init__()

        def conv3() -> nn.Module:
            modules = plane_conv(channels, channels, 3, separable=separable)
            return nn.Sequential(*modules) if separable else modules[0]

        self.resnet_path = nn.Sequential(
            conv3(),
            nn.InstanceNorm2d(channels, affine=True),
            activation(slope),
            conv3(),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return x + self.resnet_path(x)


def channel_ladder(start: int, steps: int, most: int = 512) -> list[int]:
    """Channels at full size and after each halving: doubled each time, at most ``most``."""
    return [min(start * 2**step, most) for step in range(steps + 1)]


class EncoderDecoder(nn.Module):
    """Body "A" of the three face networks: 64 channels at full size, 512 after three halvings, and back."""

    def __init__(self, image_channels: int, pose_size: int, *, separable: bool, halvings: int = 3) -> None:
        super().__init__()
        ladder = channel_ladder(64, halvings)
        deepest = ladder[-1]

        def conv_block(inner: int, outer: int, kernel: int, stride: int, transposed: bool = False) -> nn.Sequential:
            modules = plane_conv(inner, outer, kernel, stride, separable=separable, transposed=transposed)
            return block(modules, outer, nn.ReLU())

        self.downsample_blocks = nn.ModuleList([conv_block(image_channels, ladder[0], 3, 1)])
        self.downsample_blocks.extend(conv_block(inner, outer, 4, 2) for inner, outer in pairwise(ladder))
        self.bottleneck_blocks = nn.ModuleList([conv_block(deepest + pose_size, deepest, 3, 1)])
        self.bottleneck_blocks.extend(ResnetBlock(deepest, separable=separable) for _ in range(5))
        self.upsample_blocks = nn.ModuleList(
            conv_block(inner, outer, 4, 2, transposed=True) for inner, outer in pairwise(reversed(ladder))
        )


def head(channels: int, kind: str, outputs: int = 0) -> nn.Module:
    """An output convolution: "grid" (2 channels, no bias, no activation, starts at zero), "alpha" or "color" (4)."""
    if kind == "grid":
        grid = nn.Conv2d(channels, 2, 3, padding=1, bias=False)
        nn.init.zeros_(grid.weight)
        return grid
    if kind == "alpha":
        return nn.Sequential(nn.Conv2d(channels, outputs or 1, 3, padding=1), nn.Sigmoid())
    return nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.Tanh())


class TeacherNetwork(nn.Module):
    """One of a teacher's networks; with ``autocast``, its convolutions run in that half precision."""

    autocast: torch.dtype | None = None

    def precision_scope(self, device: torch.device) -> AbstractContextManager[object]:
        """Where the body runs; what surrounds it (positions, warps) stays outside, in float32."""
        return torch.autocast(device.type, self.autocast) if self.autocast else nullcontext()


def precision_of(network: nn.Module) -> torch.dtype:
    """The type of a network's parameters, which its inputs are brought to."""
    return next(network.parameters()).dtype


def widen(x: Float[Tensor, " *s"]) -> Float[Tensor, " *s"]:
    """Half precisions to float32: positions and warps need its 24 bits; wider precisions stay."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

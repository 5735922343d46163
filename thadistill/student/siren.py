"""SIREN layers: 1x1 convolutions followed by a sine, with the initialisation that keeps activations spread."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SineLayer(nn.Module):
    """sin(omega * (W x + b)) at every pixel.

    Args:
        in_channels, out_channels: widths.
        omega: the frequency factor; 30 in the published students.
        first: whether this layer sees coordinates. Its weights are then U(-1/in, 1/in), else
            U(-sqrt(6/in)/omega, sqrt(6/in)/omega), which makes every layer's phases alike (Sitzmann et al. 2020).
    """

    def __init__(self, in_channels: int, out_channels: int, omega: float = 30.0, first: bool = False) -> None:
        super().__init__()
        self.omega, self.first = omega, first
        self.linear = nn.Conv2d(in_channels, out_channels, 1)
        bound = 1 / in_channels if first else math.sqrt(6 / in_channels) / omega
        nn.init.uniform_(self.linear.weight, -bound, bound)

    @property
    def matrix(self) -> Float[Tensor, "out in"]:
        """The weights as a matrix, without omega."""
        return self.linear.weight[:, :, 0, 0]

    def scaled(self) -> tuple[Float[Tensor, "out in"], Float[Tensor, " out"]]:
        """Matrix and bias, both times omega: the phase is then theirs alone."""
        return self.matrix * self.omega, self.bias * self.omega

    @property
    def bias(self) -> Float[Tensor, " out"]:
        """The bias, without omega."""
        assert self.linear.bias is not None
        return self.linear.bias

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        return torch.sin(self.omega * self.linear(x))


def last_linear(in_channels: int, out_channels: int) -> nn.Conv2d:
    """The linear 1x1 convolution that ends a SIREN, initialised after He."""
    layer = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    return layer


def planes(values: Float[Tensor, "n c"], height: int, width: int) -> Float[Tensor, "n c h w"]:
    """Each value as a constant plane, without copying."""
    return values[:, :, None, None].expand(-1, -1, height, width)

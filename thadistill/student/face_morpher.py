"""Face morpher: the SIREN that paints the character's face crop for a facial pose."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from thadistill.errors import check_positive, check_whole
from thadistill.kernels.level import LayerWeights, sine_level
from thadistill.pose import FACIAL_SIZE
from thadistill.student.siren import SineLayer, last_linear, planes
from thadistill.warp import position_grid

FACE_SIZE = 128


class _Siren(nn.Module):
    """Holds the layers under the names of the published files (``siren.sine_layers.0.linear.weight``...)."""

    def __init__(self, in_channels: int, width: int, depth: int, omega: float) -> None:
        super().__init__()
        widths = [in_channels, *[width] * depth]
        self.sine_layers = nn.ModuleList(SineLayer(widths[i], widths[i + 1], omega, first=i == 0) for i in range(depth))
        self.last_linear = last_linear(width, 4)


class FaceMorpher(nn.Module):
    """Facial pose -> RGBA of the 128x128 face crop (linear premultiplied, [-1, 1]; THA4 section 4).

    Args:
        width, depth: of the sine layers; the paper's student has 8 of 128.
        omega: frequency factor of every sine.

    A layer sees one pixel only, so any set of positions can be evaluated on its own: see :meth:`at`.

    Raises: UserError when a size is no whole number above 0, or omega none above 0.
    """

    def __init__(self, width: int = 128, depth: int = 8, omega: float = 30.0) -> None:
        super().__init__()
        check_whole("FaceMorpher: width", width)
        check_whole("FaceMorpher: depth", depth)
        check_positive("FaceMorpher: omega", omega)
        self.omega = float(omega)
        self.siren = _Siren(2 + FACIAL_SIZE, width, depth, omega)
        self.register_buffer("position", position_grid(FACE_SIZE, FACE_SIZE), persistent=False)
        self.position: Tensor

    def forward(self, facial_pose: Float[Tensor, "n 39"]) -> Float[Tensor, "n 4 128 128"]:
        n = len(facial_pose)
        position = self.position.expand(n, -1, -1, -1)
        x = torch.cat([position, planes(facial_pose, FACE_SIZE, FACE_SIZE)], dim=1)
        for layer in self.siren.sine_layers:
            x = layer(x)
        return self.siren.last_linear(x)

    def at(self, facial_pose: Float[Tensor, "n 39"], position: Float[Tensor, "n p 2"]) -> Float[Tensor, "n p 4"]:
        """The same network at p positions (x, y in [-1, 1] of the crop) for each pose; pose folded into a bias."""
        layers = [layer for layer in self.siren.sine_layers if isinstance(layer, SineLayer)]
        matrix, bias = layers[0].scaled()
        constant = F.linear(facial_pose, matrix[:, 2:], bias)
        plane = torch.cat([matrix[:, :2].T.expand(len(facial_pose), -1, -1), constant[:, None]], dim=1)
        rest = [LayerWeights(*layer.scaled()) for layer in layers[1:]]
        return sine_level(None, None, None, position, plane, rest, LayerWeights.of(self.siren.last_linear))

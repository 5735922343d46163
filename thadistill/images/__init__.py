"""Images: pictures to network space and back, and the fixed crops of the 512x512 character image.

Network space is float32, RGBA, RGB decoded from sRGB to linear and multiplied by alpha, all four channels mapped from
[0, 1] to [-1, 1]; a transparent pixel is (-1, -1, -1, -1).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from thadistill.errors import UserError
from thadistill.files import write_bytes
from thadistill.images.picture import Needed, read_picture

IMAGE_SIZE = 512


class Region(NamedTuple):
    """A rectangle of the 512x512 character image, in pixels; ends are exclusive."""

    top: int
    bottom: int
    left: int
    right: int

    def crop(self, image: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n c _h _w"]:
        """The rectangle of ``image``, a view."""
        return image[..., self.top : self.bottom, self.left : self.right]

    def paste(self, image: Float[Tensor, "*n c h w"], patch: Float[Tensor, "*m c _h _w"]) -> Float[Tensor, "*m c h w"]:
        """A copy of ``image`` with the rectangle replaced by ``patch``; the batch sizes may broadcast."""
        result = image.expand(*patch.shape[:-3], *image.shape[-3:]).clone()
        result[..., self.top : self.bottom, self.left : self.right] = patch
        return result


EYEBROW_REGION = Region(64, 192, 192, 320)  # 128x128, the eyebrow networks
FACE_REGION = Region(32, 224, 160, 352)  # 192x192, the teachers' face morpher
EYEBROW_IN_FACE = Region(32, 160, 32, 160)  # the eyebrow region within the face region
STUDENT_FACE_REGION = Region(80, 208, 192, 320)  # 128x128, the student's face morpher


def srgb_to_linear(x: Float[Tensor, " *s"]) -> Float[Tensor, " *s"]:
    """sRGB decoding of values in [0, 1] (IEC 61966-2-1)."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x: Float[Tensor, " *s"]) -> Float[Tensor, " *s"]:
    """sRGB encoding of values in [0, 1]; the threshold is the published networks' own."""
    threshold = 0.003130804953560372
    return torch.where(x <= threshold, x * 12.92, 1.055 * x.clamp_min(threshold) ** (1 / 2.4) - 0.055)


def encode_rgba(rgba: UInt8[np.ndarray, "h w 4"]) -> Float[Tensor, "4 h w"]:
    """Straight 8-bit sRGB RGBA to network space."""
    unit = torch.from_numpy(rgba.astype(np.float32) / 255).permute(2, 0, 1)
    alpha = unit[3:]
    return torch.cat([srgb_to_linear(unit[:3]) * alpha, alpha]) * 2 - 1


def decode_rgba(image: Float[Tensor, "*n 4 h w"]) -> Float[Tensor, "*n 4 h w"]:
    """Network space to straight sRGB RGBA in [0, 1]; RGB is 0 where alpha is 0."""
    unit = ((image + 1) / 2).clamp(0, 1)
    alpha = unit[..., 3:, :, :]
    rgb = torch.where(alpha > 0, unit[..., :3, :, :] / alpha.clamp_min(1e-6), torch.zeros_like(unit[..., :3, :, :]))
    return torch.cat([linear_to_srgb(rgb.clamp(0, 1)), alpha], dim=-3)


def over_white(image: Float[Tensor, "*n 4 h w"]) -> Float[Tensor, "*n 3 h w"]:
    """Network space composited on white in sRGB, as a viewer blends a PNG: three channels in [0, 1]."""
    straight = decode_rgba(image)
    rgb, alpha = straight[..., :3, :, :], straight[..., 3:, :, :]
    return rgb * alpha + (1 - alpha)


def to_rgba8(image: Float[Tensor, "4 h w"]) -> UInt8[np.ndarray, "h w 4"]:
    """Network space to straight 8-bit sRGB RGBA."""
    unit = decode_rgba(image.detach().float().cpu())
    return (unit * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def to_pil(image: Float[Tensor, "4 h w"]) -> Image.Image:
    """Network space to a straight-alpha RGBA picture."""
    return Image.fromarray(to_rgba8(image), mode="RGBA")


def load_character(path: str | Path) -> Float[Tensor, "4 512 512"]:
    """Reads a character image, 512x512 on a transparent background, into network space.

    Raises: UserError when the file is no picture, has no transparency or not the right size, or is opaque everywhere.
    """
    expected = (
        f"a character of {IMAGE_SIZE}x{IMAGE_SIZE} on a transparent background: run 'thadistill prepare image={path}'"
    )
    picture = read_picture(path, needed=Needed(IMAGE_SIZE, expected))
    rgba = np.asarray(picture.image)
    if rgba[..., 3].min() > 0:
        raise UserError(f"{path} is {picture.kind}, without a transparent pixel; expected {expected}")
    if rgba[..., 3].max() == 0:
        raise UserError(f"{path} is transparent everywhere; expected a character: check the file")
    return encode_rgba(rgba)


def load_face_mask(path: str | Path) -> Float[Tensor, "1 512 512"]:
    """Reads a face mask, a 512x512 picture, white or painted where the face moves, as values in [0, 1].

    Grey, colours and alpha are taken as people paint them: white on black, white on transparency, or any colour on
    transparency.

    Raises: UserError when the file is no picture, has another size, or is dark in the face crop.
    """
    expected = (
        f"a face mask of {IMAGE_SIZE}x{IMAGE_SIZE}: draw it on the character image, or leave it out and it is computed"
    )
    picture = read_picture(path, needed=Needed(IMAGE_SIZE, expected))
    alpha = torch.from_numpy(np.asarray(picture.image.getchannel("A"), np.float32) / 255)[None]
    shown = picture.image.convert("RGB")
    grey = torch.from_numpy(np.asarray(shown.convert("L"), np.float32) / 255)[None] * alpha
    dark = bool(STUDENT_FACE_REGION.crop(grey).max() <= 0.5)
    coloured = torch.from_numpy(np.ptp(np.asarray(shown, np.float32), axis=-1) / 255)[None] * alpha
    # on transparency black and colours are paint, too
    is_paint = bool(alpha.min() <= 0.5) and (dark or bool(STUDENT_FACE_REGION.crop(coloured).max() > 0.25))
    painted = alpha if is_paint else grey
    most = float(STUDENT_FACE_REGION.crop(painted).max())
    if most <= 0.5:
        raise UserError(
            f"{path} is {'black' if most == 0 else f'{most:.2f} of white at most'} in the face crop; expected white where "
            "the face moves: redraw it or leave it out"
        )
    return painted


def save_face_mask(mask: Float[Tensor, "1 512 512"], path: Path) -> None:
    """Writes a face mask as an 8-bit grey PNG; its folder is made."""
    save_png(Image.fromarray((mask[0] * 255).round().to(torch.uint8).cpu().numpy()), path)


def save_png(picture: Image.Image, path: Path) -> None:
    """Writes a PNG, whole or not at all; its folder is made.

    Raises: UserError when the disk is full or the folder cannot be written.
    """
    write_bytes(path, png_bytes(picture))


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as a PNG file's content."""
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()

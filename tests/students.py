"""Students for tests: of toy size, with random weights that move and paint something."""

from __future__ import annotations

import base64

import numpy as np
import torch
from torch.nn import functional as F

from thadistill.export.character_file import pack_character, unpack_character
from thadistill.images import STUDENT_FACE_REGION
from thadistill.pose import FACIAL_SIZE
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher
from thadistill.warp import position_grid


def toy_student(seed: int = 0, omega: float = 30.0) -> CharacterModel:
    """A student of a few thousand parameters whose character is a disc on a transparent background."""
    torch.manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 512), torch.linspace(-1, 1, 512), indexing="ij")
    inside = ((x**2 + (y + 0.1) ** 2) < 0.3).float()
    color = torch.stack([0.5 + 0.4 * x, 0.5 + 0.4 * y, 0.6 - 0.3 * x])
    image = torch.cat([color * inside, inside[None]]) * 2 - 1
    face = FaceMorpher(width=12, depth=3, omega=omega)
    body = BodyRotator(widths=(16, 12, 8), depth=3, omega=omega)
    with torch.no_grad():
        body.last_linear.weight[:2] *= 0.05  # grid changes of a few pixels
        body.last_linear.weight[2] *= 0.2
    return CharacterModel(image, face, body).eval()


def packed_student(model: CharacterModel, name: str, size: int) -> tuple[str, CharacterModel, np.ndarray]:
    """Its character file in base64, the student that is in it, its visible pixels of ``size`` squared."""
    y, x = np.mgrid[:size, :size] / size
    # with edges and corners of the frame, and an outline that is not of whole runs of four pixels
    visible = ((x - 0.5) ** 2 + (y - 0.45) ** 2 < 0.05) | (y > 0.97) | (x < 0.01)
    packed = pack_character(model, name, visible)
    return base64.b64encode(packed).decode(), unpack_character(packed)[0], visible


def posed_of(model: CharacterModel, pose: torch.Tensor) -> np.ndarray:
    """The frame [4, size, size] of the rotator's last size, from the picture of 512x512: positions have no unit."""
    with torch.inference_mode():
        motion = model.body_rotator(pose[None])
        image = STUDENT_FACE_REGION.paste(model.image, model.face_morpher(pose[None, :FACIAL_SIZE]))
        size = motion.alpha.shape[-1]
        grid = (position_grid(size, size) + motion.grid_change).permute(0, 2, 3, 1)
        warped = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return torch.lerp(warped, motion.color_change, motion.alpha)[0].numpy()


def psnr(frame: np.ndarray, expected: np.ndarray) -> float:
    """In network space, both clipped to [-1, 1]."""
    return float(10 * np.log10(4 / np.square(np.clip(frame, -1, 1) - np.clip(expected, -1, 1)).mean()))

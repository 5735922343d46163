"""Random students, and how near two frames are."""

from __future__ import annotations

import torch

from thadistill.images import encode_rgba
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Network space, clipped, range 2."""
    return float(10 * torch.log10(4 / (a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean()))


def random_model(widths: tuple[int, ...] = (22, 15, 10), face_width: int = 13, seed: int = 0) -> CharacterModel:
    """Random weights; a coloured disc on a transparent ground; outputs small enough to look like a student's."""
    torch.manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 512), torch.linspace(-1, 1, 512), indexing="ij")
    inside = (x**2 + y**2 < 0.5).float()
    rgba = torch.stack([x.abs(), y.abs(), 0.5 + 0.5 * x * y, torch.ones_like(x)], -1) * inside[..., None]
    image = encode_rgba((rgba * 255).round().to(torch.uint8).numpy())
    sizes = tuple(512 >> (len(widths) - 1 - level) for level in range(len(widths)))
    model = CharacterModel(image, FaceMorpher(face_width, 3), BodyRotator(sizes, widths, depth=2))
    with torch.no_grad():
        model.body_rotator.last_linear.weight.mul_(0.05)
    return model.eval()

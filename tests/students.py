"""Students for tests: of toy size, with random weights that move and paint something."""

from __future__ import annotations

import torch

from thadistill.student import BodyRotator, CharacterModel, FaceMorpher


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

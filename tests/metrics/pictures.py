"""Pictures for the metrics: a character-like image with a transparent surround, and noisy copies of it."""

from __future__ import annotations

import torch
from torch import Tensor

from thadistill.outputs import StudentOutput, TeacherOutput

torch.set_num_threads(1)


def pictures(n: int, size: int, noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """n pairs (student, teacher) in network space, n 4 size size; the student leaves [-1, 1] here and there."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 4, max(size // 8, 2), max(size // 8, 2), generator=random)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    alpha = ((smooth[:, 3:] - 0.3) * 4).clamp(0, 1)  # transparent, half transparent and opaque areas
    teacher = torch.cat([smooth[:, :3] * alpha, alpha], dim=1) * 2 - 1
    return teacher + noise * torch.randn(teacher.shape, generator=random), teacher


def outputs(n: int, noise: float = 0.05, seed: int = 0) -> tuple[StudentOutput, TeacherOutput]:
    """Student's and teacher's outputs at their real sizes."""
    random = torch.Generator().manual_seed(seed + 1)
    student, teacher = pictures(n, 512, noise, seed)
    _, face_morphed = pictures(n, 512, 0, seed + 2)
    grid = 0.1 * torch.randn(n, 2, 512, 512, generator=random)
    face = face_morphed[..., 80:208, 192:320] + noise * torch.randn(n, 4, 128, 128, generator=random)
    alpha = torch.zeros(n, 1, 512, 512)
    grid_error = noise * torch.randn(n, 2, 512, 512, generator=random)
    return (
        StudentOutput(student, student, grid + grid_error, student, alpha, face),
        TeacherOutput(teacher, teacher, grid, teacher, alpha, face_morphed),
    )


def take(output, rows):
    """The same outputs for some of the poses."""
    return type(output)(*(field[rows] for field in output))

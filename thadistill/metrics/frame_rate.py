"""Frame rate of a student and its teacher, measured briefly: what every distillation and the callback report."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.data.poses import sample_poses
from thadistill.metrics.benchmark import Candidate, Frame, measure_speed
from thadistill.runtime import resolve
from thadistill.student import CharacterModel
from thadistill.teacher import Teacher

STUDENT_FRAMES, TEACHER_FRAMES = 25, 3
MAX_SECONDS = 3.0  # of each, but for the first frame and five more


def student_frame_rate(
    model: CharacterModel,
    runtime: str = "exact",
    frames: int = STUDENT_FRAMES,
    max_seconds: float = MAX_SECONDS,
    **options: Any,
) -> dict[str, Any]:
    """Frame time of one pose to uint8 RGBA, as a window takes it, with ``model`` compiled for ``runtime`` and ``options``.

    ``student_ms`` is the median of the frames, ``student_cpu_ms`` the processor time of all threads together, which other
    work on the machine moves little; ``runtime`` is what the name stands for here. Same poses every time.
    """
    kind = resolve(runtime, model.image.device.type)

    def build() -> Frame:
        return model.compile(runtime=runtime, **options).rgba8  # type: ignore[return-value]

    poses = sample_poses(64, seed=0).to(model.image.device)
    with torch.inference_mode():
        speed = measure_speed(Candidate(build), poses, frames=frames, max_seconds=max_seconds)
    return {
        "student_ms": round(speed.ms_median, 3),
        "student_fps": float(f"{1000 / speed.ms_median:.4g}"),
        "student_cpu_ms": round(speed.cpu_ms_median, 3),
        "runtime": kind,
        "device": speed.device,
        "threads": speed.threads,
        "load": round(speed.load, 2),
    }


def teacher_frame_rate(
    teacher: Teacher, image: Float[Tensor, "4 512 512"], frames: int = TEACHER_FRAMES
) -> dict[str, Any]:
    """``teacher_ms``: the median of the frames, one pose each, the image unchanged (what depends on it alone is cached)."""
    device = next(teacher.parameters(), torch.empty(0)).device
    given = image[None].to(device)
    poses = sample_poses(16, seed=0).to(device)
    with torch.inference_mode():
        speed = measure_speed(
            Candidate(lambda: partial(teacher, given)), poses, frames=frames, warmup=min(1, frames - 1)
        )
    return {"teacher_ms": round(speed.ms_median, 3)}

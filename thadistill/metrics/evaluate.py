"""Evaluation: a character model against teacher targets, pose by pose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from thadistill.data.target_cache import Targets
from thadistill.images import FACE_REGION
from thadistill.metrics.collection import QualityMetrics
from thadistill.metrics.pictures import comparison_grid
from thadistill.outputs import StudentOutput, TargetOutput
from thadistill.teacher import Teacher


def cached_targets(targets: Targets, image: Float[Tensor, "4 512 512"]) -> Iterable[tuple[Tensor, TargetOutput]]:
    """(pose [1, 45], target) of every pose in a cache of posed targets."""
    return (cached_target(targets, image, index) for index in range(len(targets)))


def cached_target(targets: Targets, image: Float[Tensor, "4 512 512"], index: int) -> tuple[Tensor, TargetOutput]:
    """(pose [1, 45], target) of one pose in a cache of posed targets."""
    face = FACE_REGION.paste(image, targets.get("face_region", index))[None]
    target = TargetOutput(targets.get("posed", index)[None], targets.get("grid_change", index)[None], face)
    return targets.pose[index : index + 1], target


def live_targets(
    teacher: Teacher, image: Float[Tensor, "4 512 512"], poses: Float[Tensor, "n 45"], device: torch.device | str
) -> Iterable[tuple[Tensor, TargetOutput]]:
    """(pose [1, 45], target) with the teacher run for each pose, in float32 as it gives them."""
    given = image[None].to(device)
    for pose in poses.to(device).split(1):
        with torch.inference_mode():
            out = teacher(given, pose)
        yield pose, TargetOutput(out.posed, out.grid_change, out.face_morphed)


def evaluate(
    model: Callable[[Tensor], StudentOutput],
    targets: Iterable[tuple[Tensor, TargetOutput]],
    face_mask: Float[Tensor, "1 512 512"] | None,
    perceptual: Sequence[str] = (),
    report: Callable[[int], None] = lambda done: None,
    watch: Callable[[StudentOutput, TargetOutput], None] = lambda out, target: None,
) -> dict[str, Any]:
    """Quality of ``model``: ``metrics.json``'s content with a ``per_pose`` list.

    ``report`` gets how many poses are done; ``watch`` sees each pose's output and its target.
    """
    metrics = QualityMetrics(face_mask, perceptual=tuple(perceptual), per_pose=True)
    for index, (pose, target) in enumerate(targets):
        with torch.inference_mode():
            out = model(pose)
            metrics.update(out, target, torch.tensor([index]))
            watch(out, target)
        report(index + 1)
    return metrics.compute()


def worst_and_best(rows: Sequence[dict[str, Any]], count: int = 4) -> list[int]:
    """Indices of ``count`` poses spread from the lowest PSNR to the highest, worst first."""
    ranked = sorted(range(len(rows)), key=lambda i: rows[i]["psnr"])
    if len(ranked) <= count:
        return ranked
    return [ranked[round(i * (len(ranked) - 1) / (count - 1))] for i in range(count)]


def quality_grid(
    model: Callable[[Tensor], StudentOutput],
    pick: Callable[[int], tuple[Tensor, TargetOutput]],
    rows: Sequence[dict[str, Any]],
    count: int = 4,
) -> Image.Image:
    """teacher | student | error for the worst, the best and some poses between, captioned with their PSNR."""
    pairs, captions = [], []
    for index in worst_and_best(rows, count):
        pose, target = pick(index)
        with torch.inference_mode():
            pairs.append((target.posed[0], model(pose).posed[0]))
        captions.append(f"teacher | student | error x4    pose {index}: psnr {rows[index]['psnr']:.2f} dB")
    return comparison_grid(pairs, captions, height=320)


def own_face_mask(folder: str | Path) -> Path | None:
    """A model folder's own ``face_mask.png``, if it has one."""
    path = Path(folder) / "face_mask.png"
    return path if path.is_file() else None

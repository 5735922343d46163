"""Quality of a student against its teacher: every figure of a report, from their outputs, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric

from thadistill.errors import UserError
from thadistill.images import STUDENT_FACE_REGION
from thadistill.metrics.flow import grid_change_epe_px, visible_pixels
from thadistill.metrics.image import eye_mouth_psnr, face_psnr, psnr, psnr_display, ssim
from thadistill.metrics.perceptual import PerceptualDistance, Unavailable, load_lpips, load_stlpips
from thadistill.outputs import StudentOutput, TargetOutput, TeacherOutput

PERCEPTUAL: Mapping[str, Callable[[], PerceptualDistance | Unavailable]] = {
    "stlpips": load_stlpips,
    "lpips": load_lpips,
}
QUALITY_KEYS = ("psnr", "psnr_display", "ssim", "face_psnr", "eye_mouth_psnr", "flow_epe_px", *PERCEPTUAL)


class QualityMetrics(Metric):
    """Means over poses of a student's quality against its teacher, under the names that ``metrics.json`` has.

    Args:
        face_mask: white where eyes and mouth move; None leaves ``eye_mouth_psnr`` null.
        perceptual: which of ``stlpips`` and ``lpips`` (both on AlexNet) to compute. On a CPU ST-LPIPS takes ten times
            as long as all the rest: ``()`` during training.
        per_pose: adds the rows of ``metrics.csv`` to the result.
        options: of torchmetrics.Metric; ``sync_on_compute=False`` where one process of several computes alone.

    Every pose counts the same, whatever the batches and the processes it came in. Raises: UserError when ``face_mask``
    is nowhere above 0.5 in the student's face crop, or for a perceptual metric of another name.
    """

    is_differentiable = False
    full_state_update = False
    index: list[Tensor]
    values: list[Tensor]

    def __init__(
        self,
        face_mask: Float[Tensor, "1 512 512"] | None,
        perceptual: tuple[str, ...] | list[str] = tuple(PERCEPTUAL),
        per_pose: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if unknown := sorted(set(perceptual) - set(PERCEPTUAL)):
            raise UserError(f"perceptual metric {unknown[0]!r} is unknown; expected some of {', '.join(PERCEPTUAL)}")
        if face_mask is not None and float(STUDENT_FACE_REGION.crop(face_mask).max()) <= 0.5:
            raise UserError(
                "the face mask is nowhere above 0.5 in the student's face crop; expected white where eyes and mouth "
                "move: redraw it or leave it out"
            )
        self.per_pose = per_pose
        self.face_mask: Tensor | None
        self.register_buffer("face_mask", face_mask, persistent=False)
        self._distances: dict[str, PerceptualDistance] = {}
        self._reasons: dict[str, str] = {} if face_mask is not None else {"eye_mouth_psnr": "no face mask was given"}
        for name, load in PERCEPTUAL.items():
            found = load() if name in perceptual else Unavailable("not requested")
            if isinstance(found, Unavailable):
                self._reasons[name] = found.reason
            else:
                self._distances[name] = found
        # Rows, not sums: they are few, and a pose that two processes saw can be counted once.
        self.add_state("index", [], dist_reduce_fx="cat")
        self.add_state("values", [], dist_reduce_fx="cat")

    def update(
        self, student: StudentOutput, teacher: TeacherOutput | TargetOutput, index: Int[Tensor, " n"] | None = None
    ) -> None:
        """Takes the outputs of both for the same n poses.

        ``index`` numbers the poses: a number seen before is not counted again (samplers over several processes repeat
        some to even out), and rows come sorted by it. Without it poses are numbered as they came.
        """
        with torch.autocast(student.posed.device.type, enabled=False):
            images = student.posed, teacher.posed
            face = student.face, teacher.face_morphed
            columns = {
                "psnr": psnr(*images),
                "psnr_display": psnr_display(*images),
                "ssim": ssim(*images),
                "face_psnr": face_psnr(*face),
                "flow_epe_px": grid_change_epe_px(
                    student.grid_change, teacher.grid_change, visible_pixels(teacher.posed)
                ),
            }
            if self.face_mask is not None:
                columns["eye_mouth_psnr"] = eye_mouth_psnr(*face, self.face_mask.to(student.face.device))
            columns |= {name: distance(*images) for name, distance in self._distances.items()}
        missing = torch.full_like(columns["psnr"], math.nan)
        self.values.append(torch.stack([columns.get(key, missing) for key in QUALITY_KEYS], dim=1).to(self.device))
        unnumbered = torch.full((len(missing),), -1)
        self.index.append((unnumbered if index is None else index).to(self.device, torch.long))

    def compute(self) -> dict[str, Any]:
        """``n`` (poses counted) and the mean of each of ``QUALITY_KEYS``, None where it could not be computed.

        Each None has its reason next to it: ``lpips`` None, ``lpips_reason`` a line. ``per_pose`` (if requested) is a
        list of rows, ``index`` and each metric. PSNRs in dB, flow in pixels over those the teacher shows, others unitless.

        Raises: UserError before any pose.
        """
        index, values = _joined(self.index), _joined(self.values)
        if len(index) == 0:
            raise UserError("quality was asked for before any pose; expected one at least: give n=1 or more")
        rows = _numbered(index, values)
        means = torch.stack(list(rows.values())).double().cpu().mean(dim=0).tolist()
        result: dict[str, Any] = {"n": len(rows), **self._named(means)}
        result |= {f"{name}_reason": reason for name, reason in self._reasons.items()}
        if self.per_pose:
            result["per_pose"] = [{"index": i, **self._named(row.tolist())} for i, row in rows.items()]
        return result

    def _named(self, row: list[float]) -> dict[str, float | None]:
        named = zip(QUALITY_KEYS, row, strict=True)
        return {key: None if key in self._reasons else value for key, value in named}


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """A list state as one tensor: torchmetrics has joined it already where processes were gathered."""
    if isinstance(state, Tensor):
        return state
    return torch.cat(state) if state else torch.empty(0)


def _numbered(index: Int[Tensor, " n"], values: Float[Tensor, "n k"]) -> dict[int, Tensor]:
    """Rows by pose number, sorted, each number once; poses without a number take the free ones after the largest."""
    rows: dict[int, Tensor] = {}
    after = int(index.max()) + 1
    for number, row in zip(index.tolist(), values, strict=True):
        if number < 0:
            number, after = after, after + 1
        rows.setdefault(number, row)
    return dict(sorted(rows.items()))

"""Comparison: the student in training against its teacher, for the callbacks that watch quality and frame rate."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from jaxtyping import Bool, Float
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from thadistill.data.target_cache import Targets
from thadistill.images import STUDENT_FACE_REGION
from thadistill.metrics.collection import QualityMetrics
from thadistill.metrics.evaluate import cached_targets
from thadistill.metrics.frame_rate import student_frame_rate, teacher_frame_rate
from thadistill.metrics.image import masked_psnr, psnr
from thadistill.outputs import VISIBLE
from thadistill.pose import FACIAL_SIZE
from thadistill.runtime.region import tiles_of
from thadistill.runtime.visible import BORDER, TILE
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher
from thadistill.student.body_rotator import RotatorOutput
from thadistill.teacher import Teacher

FACE_FIGURES = ("face_psnr", "eye_mouth_psnr")


@dataclass
class Quality:
    """A check on validation poses: the means, a row of figures per pose, and (teacher, student) pictures by row."""

    figures: dict[str, float]
    rows: list[dict[str, Any]]
    poses: Float[Tensor, "n p"]
    ranked_by: str
    pictures: list[tuple[Tensor, Tensor]]

    def worst(self, count: int) -> list[int]:
        """Rows of the lowest PSNR, worst first."""
        return sorted(range(len(self.rows)), key=lambda i: self.rows[i][self.ranked_by])[:count]


@dataclass
class Comparison:
    """What a student network in training is compared with, each state at most once.

    Args:
        image: the character.
        validation: teacher targets it neither trains on nor is reported on, ``posed`` for a body rotator, ``face`` for a
            face morpher.
        mask: the face mask.
        face_morpher: trained already, for a body rotator; None: the teacher's face stands in for it, and figures say so.
        teacher: whose frame rate is measured too.
    """

    image: Float[Tensor, "4 512 512"]
    validation: Targets
    mask: Float[Tensor, "1 512 512"] | None = None
    face_morpher: FaceMorpher | None = None
    teacher: Teacher | None = None
    _quality: dict[tuple[int, int, tuple[str, ...]], Quality] = field(default_factory=dict)
    _speed: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)

    def quality(self, module: L.LightningModule, step: int, poses: int, perceptual: Sequence[str] = ()) -> Quality:
        """Quality of the network as it is now, at ``step``, on the first ``poses`` validation poses.

        A face morpher's are ``face_psnr`` and ``eye_mouth_psnr``; a body rotator's those of QualityMetrics, or, where no
        trained face morpher is there yet, with the teacher's face: ``psnr_teacher_face`` and so on.
        """
        key = (step, poses, tuple(perceptual))
        if key not in self._quality:
            network = copy.deepcopy(cast(nn.Module, module.network)).eval()
            count = min(poses, len(self.validation))
            with torch.inference_mode(), isolate_rng():  # what is looked at must not change by it
                if isinstance(network, FaceMorpher):
                    self._quality = {key: self._faces(network, count)}
                else:
                    self._quality = {key: self._bodies(cast(BodyRotator, network), count, perceptual)}
        return self._quality[key]

    def frame_rate(self, module: L.LightningModule, step: int, runtime: str) -> dict[str, Any]:
        """Frame times of the student as it is now, and of the teacher; see thadistill.metrics.frame_rate.

        Few frames are timed, and the pixels are those that the teacher paints in the validation poses: a runtime that
        looks for its own takes many times as long. Without a trained face morpher one of the published size stands in:
        the time does not depend on what it learnt.
        """
        if (step, runtime) not in self._speed:
            before = next(iter(self._speed.values()), {})
            network = copy.deepcopy(cast(BodyRotator, module.network))
            with isolate_rng():
                model = self._model(network, next(network.parameters()).device)
                options = {"visible": self._painted()} if runtime in ("exact", "reduced") else {}
                speed = student_frame_rate(model, runtime, frames=5, max_seconds=0.5, **options)
                if "teacher_ms" in before:  # the teacher does not change
                    speed["teacher_ms"] = before["teacher_ms"]
                elif self.teacher is not None:
                    speed |= teacher_frame_rate(self.teacher, self.image, frames=1)
            self._speed = {(step, runtime): speed}
        return self._speed[step, runtime]

    def _painted(self) -> Bool[np.ndarray, "512 512"]:
        alpha = torch.stack([self.validation.get("posed", index)[3] for index in range(len(self.validation))])
        return tiles_of((alpha.amax(0) > VISIBLE).cpu().numpy(), TILE, BORDER)

    def _faces(self, network: FaceMorpher, count: int) -> Quality:
        device = next(network.parameters()).device
        rows, pictures = [], []
        mask = None if self.mask is None else STUDENT_FACE_REGION.crop(self.mask).to(device)
        poses = self.validation.pose[:count, :FACIAL_SIZE]
        for index in range(count):
            teacher = self.validation.get("face", index)[None].to(device)
            student = network(poses[index : index + 1].to(device))
            row = {"index": index, "face_psnr": float(psnr(student, teacher))}
            if mask is not None:
                row["eye_mouth_psnr"] = float(masked_psnr(student, teacher, mask))
            rows.append(row)
            pictures.append((teacher[0].cpu(), student[0].cpu()))
        figures = {name: sum(row[name] for row in rows) / count for name in rows[0] if name != "index"}
        return Quality(figures, rows, poses, "face_psnr", pictures)

    def _bodies(self, network: BodyRotator, count: int, perceptual: Sequence[str]) -> Quality:
        device = next(network.parameters()).device
        # the first process alone looks; the others would be waited for without end
        metrics = QualityMetrics(self.mask, tuple(perceptual), per_pose=True, sync_on_compute=False).to(device)
        # exact but for rounding, and several times as fast as the network itself
        student = self._model(network, device).compile(runtime="exact", visible=False)
        pictures = []
        for index, (given, target) in enumerate(cached_targets(self.validation, self.image)):
            if index == count:
                break
            pose, target = given.to(device), type(target)(*(x.to(device) for x in target))
            out = student(pose)
            if self.face_morpher is None:
                posed = network.render(RotatorOutput(out.grid_change, out.alpha, out.color_change), target.face_morphed)
                face = STUDENT_FACE_REGION.crop(target.face_morphed)
                out = out._replace(posed=posed.blended, warped=posed.warped, face=face)
            metrics.update(out, target, torch.tensor([index]))
            pictures.append((target.posed[0].cpu(), out.posed[0].cpu()))
        result = metrics.compute()
        rows = result.pop("per_pose")
        figures = {k: v for k, v in result.items() if isinstance(v, (int, float)) and k != "n"}
        if self.face_morpher is None:
            figures = _with_teacher_face(figures)
            rows = [_with_teacher_face(row) for row in rows]
        return Quality(figures, rows, self.validation.pose[:count], self.named("psnr"), pictures)

    def named(self, figure: str) -> str:
        """What :meth:`quality` calls a body rotator's ``figure``: with the teacher's face ``psnr_teacher_face``."""
        return figure if self.face_morpher is not None or figure in _WITHOUT_FACE else f"{figure}_teacher_face"

    def _model(self, network: BodyRotator, device: torch.device) -> CharacterModel:
        face = FaceMorpher() if self.face_morpher is None else copy.deepcopy(self.face_morpher)
        return CharacterModel(self.image, face, network).to(device).eval()


_WITHOUT_FACE = ("index", "flow_epe_px")  # figures that are the same whoever paints the face


def _with_teacher_face(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures by names that say that the face was the teacher's; those of the face itself are left out."""
    kept = {name: value for name, value in figures.items() if name not in FACE_FIGURES}
    return {name if name in _WITHOUT_FACE else f"{name}_teacher_face": value for name, value in kept.items()}

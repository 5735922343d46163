"""Scene: the student in training beside its teacher, for callbacks that compare the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor, nn

from thadistill.data.target_cache import Targets
from thadistill.images import STUDENT_FACE_REGION
from thadistill.lit.base import plain_copy
from thadistill.metrics.collection import QualityMetrics
from thadistill.metrics.evaluate import cached_targets
from thadistill.metrics.frame_rate import student_frame_rate, teacher_frame_rate
from thadistill.metrics.image import masked_psnr, psnr
from thadistill.outputs import StudentOutput
from thadistill.pose import FACIAL_SIZE
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher
from thadistill.teacher import Teacher

FACE_FIGURES = ("face_psnr", "eye_mouth_psnr")


@dataclass
class Quality:
    """A check on validation poses: the means, a row of figures a pose, and (teacher, student) pictures by row."""

    figures: dict[str, float]
    rows: list[dict[str, Any]]
    poses: Float[Tensor, "n p"]
    ranked_by: str
    pictures: list[tuple[Tensor, Tensor]]

    def worst(self, count: int) -> list[int]:
        """Rows of the lowest PSNR, worst first."""
        return sorted(range(len(self.rows)), key=lambda i: self.rows[i][self.ranked_by])[:count]


@dataclass
class Scene:
    """What a student network in training is compared with, each state at most once.

    Args:
        image: the character.
        validation: teacher targets it neither trains on nor is reported on, ``posed`` for a body rotator, ``face`` for a
            face morpher.
        mask: the face mask.
        partner: the other, trained network; None: the teacher's face stands in for a face morpher.
        teacher: whose frame rate is told beside the student's.
    """

    image: Float[Tensor, "4 512 512"]
    validation: Targets
    mask: Float[Tensor, "1 512 512"] | None = None
    partner: FaceMorpher | None = None
    teacher: Teacher | None = None
    _quality: dict[tuple[int, int, tuple[str, ...]], Quality] = field(default_factory=dict)
    _speed: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)

    def quality(self, module: L.LightningModule, step: int, poses: int, perceptual: Sequence[str] = ()) -> Quality:
        """Quality of the network as it is now, at ``step``, on the first ``poses`` validation poses.

        A face morpher's are ``face_psnr`` and ``eye_mouth_psnr``; a body rotator's those of QualityMetrics.
        """
        key = (step, poses, tuple(perceptual))
        if key not in self._quality:
            network = plain_copy(cast(nn.Module, module.network)).eval()
            count = min(poses, len(self.validation))
            with torch.inference_mode():
                if isinstance(network, FaceMorpher):
                    self._quality = {key: self._faces(network, count)}
                else:
                    self._quality = {key: self._bodies(cast(BodyRotator, network), count, perceptual)}
        return self._quality[key]

    def frame_rate(self, module: L.LightningModule, step: int, runtime: str) -> dict[str, Any]:
        """Frame times of the student as it is now, and of the teacher; see thadistill.metrics.frame_rate.

        Without a trained face morpher one of the published size stands in: the time does not depend on what it learnt.
        """
        if (step, runtime) not in self._speed:
            before = next(iter(self._speed.values()), {})
            network = cast(BodyRotator, plain_copy(cast(nn.Module, module.network)))
            device = next(network.parameters()).device
            face = FaceMorpher() if self.partner is None else plain_copy(self.partner)
            model = CharacterModel(self.image, cast(FaceMorpher, face), network).to(device).eval()
            speed = student_frame_rate(model, runtime)
            if "teacher_ms" in before:  # the teacher does not change
                speed["teacher_ms"] = before["teacher_ms"]
            elif self.teacher is not None:
                speed |= teacher_frame_rate(self.teacher, self.image)
            self._speed = {(step, runtime): speed}
        return self._speed[step, runtime]

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
        metrics = QualityMetrics(self.mask, tuple(perceptual), per_pose=True).to(device)
        face_morpher = None if self.partner is None else self.partner.to(device)
        pictures = []
        for index, (given, target) in enumerate(cached_targets(self.validation, self.image)):
            if index == count:
                break
            pose, target = given.to(device), type(target)(*(x.to(device) for x in target))
            teachers = STUDENT_FACE_REGION.crop(target.face_morphed)
            face = teachers if face_morpher is None else face_morpher(pose[:, :FACIAL_SIZE])
            motion = network(pose)
            posed = network.render(motion, STUDENT_FACE_REGION.paste(self.image.to(device), face))
            student = StudentOutput(posed.blended, posed.warped, *_outputs(motion), face)
            metrics.update(student, target, torch.tensor([index]))
            pictures.append((target.posed[0].cpu(), posed.blended[0].cpu()))
        result = metrics.compute()
        rows = result.pop("per_pose")
        hidden = {"n", *(FACE_FIGURES if face_morpher is None else ())}
        figures = {k: v for k, v in result.items() if isinstance(v, (int, float)) and k not in hidden}
        return Quality(figures, rows, self.validation.pose[:count], "psnr", pictures)


def _outputs(motion: Any) -> tuple[Tensor, Tensor, Tensor]:
    return motion.grid_change, motion.color_change, motion.alpha

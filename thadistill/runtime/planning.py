"""Planning: which of a student's matrices bear 8-bit products, found by trying each one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from thadistill.data.poses import sample_poses
from thadistill.images import IMAGE_SIZE
from thadistill.images import STUDENT_FACE_REGION as _FACE
from thadistill.runtime.native import NativeEngine
from thadistill.runtime.packing import CODES, Format
from thadistill.student import CharacterModel
from thadistill.student.face_morpher import FACE_SIZE
from thadistill.student.siren import SineLayer

_CALIBRATION_POSES = 4
_NAMES: dict[int, Format] = {CODES["f32"]: "f32", CODES["i16"]: "i16", CODES["u8"]: "u8"}


@dataclass(frozen=True)
class Plan:
    """How the input of every matrix is held: the face's in order, and each level's of the body rotator."""

    face: tuple[Format, ...]
    body: tuple[tuple[Format, ...], ...]

    def arrays(self) -> dict[str, np.ndarray]:
        """As arrays of codes, to keep on disk."""
        return {
            "face": np.array([CODES[form] for form in self.face]),
            "body": np.array([CODES[form] for level in self.body for form in level]),
            "depths": np.array([len(level) for level in self.body]),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Plan:
        """The inverse of :meth:`arrays`."""
        body = iter(arrays["body"].tolist())
        levels = tuple(tuple(_NAMES[next(body)] for _ in range(depth)) for depth in arrays["depths"])
        return cls(tuple(_NAMES[code] for code in arrays["face"].tolist()), levels)

    def with_u8(self, place: tuple[int, int]) -> Plan:
        """The plan with one matrix at 8 bits: (-1, i) is the face's i-th, (level, i) the body's."""
        level, index = place
        if level < 0:
            return Plan(_replaced(self.face, index), self.body)
        body = tuple(_replaced(forms, index) if i == level else forms for i, forms in enumerate(self.body))
        return Plan(self.face, body)


def _replaced(forms: tuple[Format, ...], index: int) -> tuple[Format, ...]:
    return (*forms[:index], "u8", *forms[index + 1 :])


def uniform_plan(model: CharacterModel, precision: str) -> Plan:
    """Every matrix alike, but for the body's last linear layer: grid changes need its products in float32."""
    form: Format = "f32" if precision == "float32" else "i16"
    depths = [len(level) for level in model.body_rotator.siren_layers]  # type: ignore[arg-type]
    body = [(form,) * depth for depth in depths]
    body[-1] = (*body[-1][:-1], "f32")
    return Plan((form,) * len(model.face_morpher.siren.sine_layers), tuple(body))


def _products(model: CharacterModel, place: tuple[int, int]) -> int:
    """Multiplications a frame that the matrix at ``place`` costs, before skipping pixels."""
    level, index = place
    chain = model.face_morpher.siren.sine_layers if level < 0 else model.body_rotator.siren_layers[level]
    size = FACE_SIZE if level < 0 else model.body_rotator.sizes[level]
    widths = [layer.matrix.shape[0] for layer in chain.children() if isinstance(layer, SineLayer)]
    after = widths[index + 1] if index + 1 < len(widths) else widths[-1]
    return size * size * widths[index] * after


def plan_formats(model: CharacterModel, build: Callable[[Plan], NativeEngine], target_db: float) -> Plan:
    """The plan with the most products at 8 bits whose frames stay within ``target_db`` of float32's.

    So must their face crops: a face is a sixteenth of the image, and could be ruined with little effect on the whole.

    Errors of single matrices add up nearly as independent noise, so each is tried alone on a few poses; then those that
    give most products for the least squared error are taken while the sum stays below the target, and the whole is
    measured; what it takes too much is given back, the costliest first.
    """
    base = uniform_plan(model, "int16")
    poses = sample_poses(_CALIBRATION_POSES, seed=11).numpy()
    exact = _frames(build(uniform_plan(model, "float32")), poses)
    allowed = 4 / 10 ** (target_db / 10)  # mean squared error; the range is 2
    places = [(-1, i) for i in range(len(base.face))]
    places += [(level, i) for level, forms in enumerate(base.body) for i in range(len(forms)) if forms[i] == "i16"]
    error = {place: _error(_frames(build(base.with_u8(place)), poses), exact) for place in places}
    places.sort(key=lambda place: error[place].max() / _products(model, place))
    taken: list[tuple[int, int]] = []
    for place in places:
        if (sum(error[other] for other in taken) + error[place]).max() <= allowed:
            taken.append(place)
    while taken:
        plan = base
        for place in taken:
            plan = plan.with_u8(place)
        if _error(_frames(build(plan), poses), exact).max() <= allowed:
            return plan
        taken.remove(max(taken, key=lambda place: error[place].max()))
    return base


def _frames(engine: NativeEngine, poses: np.ndarray) -> np.ndarray:
    frames = np.full((len(poses), 4, IMAGE_SIZE, IMAGE_SIZE), -1, np.float32)
    for pose, frame in zip(poses, frames, strict=True):
        engine.paint_face(pose)
        engine.run(pose, {"posed": frame})
    return frames.clip(-1, 1)


def _error(frames: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Mean squared error of the whole image and of the face crop."""
    squared = (frames - exact) ** 2
    return np.array([squared.mean(), squared[..., _FACE.top : _FACE.bottom, _FACE.left : _FACE.right].mean()])

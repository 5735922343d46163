"""Compiled student: the runtimes ``native`` (float32) and ``int16``, through the C++ kernels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from thadistill.errors import UserError
from thadistill.images import IMAGE_SIZE, Region
from thadistill.outputs import StudentOutput
from thadistill.pose import FACIAL_SIZE, POSE_SIZE
from thadistill.runtime.base import Runtime
from thadistill.runtime.packing import Formats, formats_of, pack_body, pack_face
from thadistill.runtime.student_kernels import PLANES, NativeEngine
from thadistill.runtime.visible import find_visible, measure_face, model_key, remembered, sampled_poses
from thadistill.student import CharacterModel
from thadistill.student.face_morpher import FACE_SIZE

_TRANSPARENT = {"posed": -1.0, "warped": -1.0, "grid_change": 0.0, "color_change": -1.0, "alpha": 0.0}
_PRECISIONS = {"float32": "native", "int16": "int16"}  # -> the runtime's name
_WHOLE = np.ones((IMAGE_SIZE, IMAGE_SIZE), bool)
_WHOLE_FACE = np.ones((FACE_SIZE, FACE_SIZE), bool)
# Around the eyes and the mouth a student's face shimmers without meaning. A pixel that stays this near the middle of its
# range, in network space (two 8-bit levels), is painted once, as that middle.
_STILL = 4 / 255


def build_engine(
    model: CharacterModel,
    formats: Formats,
    visible: Bool[np.ndarray, "512 512"],
    threads: int,
    moving_face: Bool[np.ndarray, "128 128"] = _WHOLE_FACE,
) -> NativeEngine:
    """The engine with inputs so held, which paints only ``moving_face`` of the face crop. Raises: NativeUnavailable."""
    largest = NativeEngine.largest_block()
    return NativeEngine(
        pack_face(model.face_morpher, formats.face, largest),
        pack_body(model.body_rotator, formats.body, largest),
        model.image.detach().cpu().numpy(),
        visible,
        moving_face,
        threads,
    )


class Native(Runtime):
    """The student in C++ kernels built for this processor, from pose to pixels in one pass; CPU only.

    Args:
        precision: ``float32`` (exact); ``int16``: 13-bit activations and as many weight bits as 32-bit sums allow.
            Phases, sines, the last layer, warp and painting stay float32. int16 needs AVX-512 VNNI, or AVX2
            without AVX-512.
        still_face: keep what hardly changes of the face crop (see ``_STILL``) as it is in the middle; None: where the
            precision is not float32.
        visible: pixels to compute, [512, 512]; True: find the tiles the character ever paints (seconds, once a
            character, kept on disk); False: all of them.
        poses: poses to look at besides the sampled ones when finding the visible tiles, such as a recorded track.
        threads: None is torch's number.

    Raises: NativeUnavailable when there is no compiler, UserError when the model is not on the CPU or the processor
    lacks the instructions.
    """

    def __init__(
        self,
        model: CharacterModel,
        crop: Region | tuple[int, ...] | None = None,
        reuse: bool = True,
        precision: str = "float32",
        still_face: bool | None = None,
        visible: Bool[np.ndarray, "512 512"] | bool = True,
        poses: Float[Tensor, "n 45"] | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(model, crop, reuse)
        if self.device.type != "cpu":
            raise UserError(
                f"the native runtime got a model on {self.device}; expected cpu: model.cpu() or another runtime"
            )
        if precision not in _PRECISIONS:
            raise UserError(f"precision {precision}; expected one of {', '.join(_PRECISIONS)}")
        if precision == "int16" and not NativeEngine.has_integer_products():
            raise UserError(
                "int16 products need AVX-512 VNNI, or AVX2 without AVX-512, and this processor has neither: "
                "use runtime=exact"
            )
        self.name = _PRECISIONS[precision]
        self.precision = precision
        threads = threads or torch.get_num_threads()
        self.visible = self._find_visible(model, visible, poses, threads)
        formats = formats_of(model, precision)
        inside = np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool)
        inside[self.crop.top : self.crop.bottom, self.crop.left : self.crop.right] = True
        if precision == "float32" if still_face is None else not still_face:
            self.engine = build_engine(model, formats, self.visible & inside, threads)
            return
        middle, moving = self._find_still_face(model, threads)
        self.engine = build_engine(model, formats, self.visible & inside, threads, moving)
        self.engine.face[:] = middle

    def _find_visible(
        self, model: CharacterModel, visible: np.ndarray | bool, poses: Tensor | None, threads: int
    ) -> np.ndarray:
        if isinstance(visible, np.ndarray):
            return visible
        if not visible:
            return _WHOLE

        def begin() -> Callable[[np.ndarray], np.ndarray]:
            # Integer products see the background as float32 does: its alpha and colours are flat there.
            fast = "int16" if NativeEngine.has_integer_products() else "float32"
            engine = build_engine(model, formats_of(model, fast), _WHOLE, threads)
            plane = np.empty((4, IMAGE_SIZE, IMAGE_SIZE), np.float32)

            def posed(pose: np.ndarray) -> np.ndarray:
                engine.paint_face(pose)
                engine.run(pose, {"posed": plane})
                return plane

            return posed

        return find_visible(model, self.precision == "float32", poses, begin)

    def _find_still_face(self, model: CharacterModel, threads: int) -> tuple[np.ndarray, np.ndarray]:
        """The face crop in the middle, and its moving pixels."""
        poses = sampled_poses()

        def compute() -> dict[str, np.ndarray]:
            engine = build_engine(model, formats_of(model, "float32"), self.visible, threads)

            def face(pose: np.ndarray) -> np.ndarray:
                engine.paint_face(pose)
                return engine.face

            middle, distance = measure_face(face, poses)
            return {"middle": middle, "distance": distance}

        kept = remembered("faces", model_key(model, poses), compute)
        moving = kept["distance"] > _STILL
        moving[FACE_SIZE // 2, FACE_SIZE // 2] |= not moving.any()  # an engine paints at least one segment
        return kept["middle"], moving

    def _paint_face(self, pose: np.ndarray) -> None:
        facial = torch.from_numpy(pose[:FACIAL_SIZE])
        if self._kept("face", facial) is None:
            self.engine.paint_face(pose)
            self._keep("face", facial, True)

    def _planes(self, pose: Tensor) -> StudentOutput:
        n = len(pose)
        planes = {name: torch.empty(n, channels, IMAGE_SIZE, IMAGE_SIZE) for name, channels in PLANES.items()}
        face = torch.empty(n, 4, FACE_SIZE, FACE_SIZE)
        for name, plane in planes.items():
            plane.fill_(_TRANSPARENT[name])
        for i, one in enumerate(pose.float().contiguous().numpy()):
            self._paint_face(one)
            self.engine.run(one, {name: plane[i].numpy() for name, plane in planes.items()})
            face[i] = torch.from_numpy(self.engine.face)
        return StudentOutput(**planes, face=face)

    def _pixels(self, pose: Tensor, bgra: bool) -> np.ndarray:
        one = np.ascontiguousarray(pose.float().numpy().reshape(POSE_SIZE))
        top, bottom, left, right = self.crop
        rgba = np.zeros((bottom - top, right - left, 4), np.uint8)
        self._paint_face(one)
        self.engine.run(one, rgba=rgba, corner=(top, left), swap=bgra)
        return rgba

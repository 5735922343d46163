"""Student kernels: the binding of student.cpp, the student in one pass from pose to planes or 8-bit pixels."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from thadistill.images import STUDENT_FACE_REGION
from thadistill.kernels.build import NativeUnavailable, load_native
from thadistill.runtime.packing import CODES, PackedStage
from thadistill.runtime.pixels import srgb_table
from thadistill.runtime.region import covered, read_by_doubling, segments_of

_MAX_LEVELS = 8
_LINE = 16  # 32-bit words in a cache line
_SOURCE = Path(__file__).with_name("student.cpp")


def load_student() -> ctypes.CDLL:
    """The student's kernels, built on the first call on a machine.

    Raises: NativeUnavailable when there is no compiler, or it fails.
    """
    return load_native(_SOURCE)


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("in_words", "rows", "blocks", "tail", "in_format", "out_format")),
        *((name, ctypes.c_void_p) for name in ("weights", "bias", "scale")),
    )


class _Stage(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("size", "below_size", "first_channels", "first_format")),
        *((name, ctypes.c_int32) for name in ("n_layers", "out_channels", "n_segments", "pose_size")),
        *((name, ctypes.c_void_p) for name in ("pose_matrix", "pose_bias", "shift", "wx", "wy")),
        ("layers", ctypes.POINTER(_Layer)),
        *((name, ctypes.c_void_p) for name in ("segments", "plane")),
    )


class _Student(ctypes.Structure):
    _fields_ = (
        ("face", _Stage),
        ("n_levels", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("levels", _Stage * _MAX_LEVELS),
        *((name, ctypes.c_int32) for name in ("side", "face_top", "face_left")),
        *((name, ctypes.c_void_p) for name in ("character", "srgb", "scratch")),
        ("scratch_words", ctypes.c_int64),
    )


PLANES = {"posed": 4, "warped": 4, "grid_change": 2, "color_change": 4, "alpha": 1}


class _Frame(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in (*PLANES, "face", "rgba")),
        *((name, ctypes.c_int32) for name in ("swap", "top", "bottom", "left", "right")),
    )


def _address(array: np.ndarray) -> int:
    assert array.flags.c_contiguous
    return array.ctypes.data


def _aligned(words: int) -> np.ndarray:
    """Zeros from the start of a cache line: a vector across two of them costs twice the load."""
    held = np.zeros(words + _LINE, np.int32)
    return held[-held.ctypes.data // held.itemsize % _LINE :][:words]


class NativeEngine:
    """Holds the packed student and its buffers; one call at a time.

    Args:
        face, levels: the packed networks.
        image: the character, network space, [4, side, side].
        visible: pixels to compute; nothing else is touched, at any level, but for what rounding to vectors adds.
        face_needed: pixels of the face crop that the visible ones can read.
        threads: that share a frame.

    Raises: NativeUnavailable when the kernels cannot be built, or a level is narrower than their vectors.
    """

    def __init__(
        self,
        face: PackedStage,
        levels: Sequence[PackedStage],
        image: np.ndarray,
        visible: np.ndarray,
        face_needed: np.ndarray,
        threads: int,
    ) -> None:
        self._library = load_student()
        self._library.run_frame.restype = self._library.paint_face.restype = None
        self._kept: list[object] = []  # what the structures point to
        self.lanes = self._library.segment_pixels()  # of one segment; a vector holds two
        self.side = image.shape[-1]
        if min(level.size for level in levels) < self.lanes or len(levels) > _MAX_LEVELS:
            raise NativeUnavailable(
                f"{len(levels)} levels, of which the kernels take no image under {self.lanes} pixels"
            )
        together = self._library.block_pixels() // self.lanes
        student = _Student(n_levels=len(levels), threads=threads, side=self.side)
        mask = visible
        for i in reversed(range(len(levels))):
            segments = segments_of(mask, self.lanes, together)
            self._fill(student.levels[i], levels[i], segments, below=levels[i - 1].size if i else 0)
            done = covered(segments, self.lanes, levels[i].size)
            if i == len(levels) - 1:
                self.computed = done
            mask = read_by_doubling(done)
        self._fill(student.face, face, segments_of(face_needed, self.lanes, together), below=0)
        student.face_top, student.face_left = STUDENT_FACE_REGION.top, STUDENT_FACE_REGION.left
        self.character = np.ascontiguousarray(image.transpose(1, 2, 0), dtype=np.float32)
        widest = max(
            words for stage in (face, *levels) for layer in stage.layers for words in (layer.in_words, len(layer.bias))
        )
        words = -(-widest * self._library.block_pixels() // 1024 + 1) * 1024 + 4096
        scratch = _aligned(threads * 2 * words)
        table = srgb_table().numpy()
        self._kept += [scratch, table]
        student.scratch_words = words
        student.scratch, student.srgb = _address(scratch), _address(table)
        student.character = _address(self.character)
        self._student = student

    @staticmethod
    def largest_block() -> int:
        """The widest block of output channels whose sums stay in this machine's registers."""
        return 9 if load_student().lanes() == 16 else 4

    @staticmethod
    def has_integer_products() -> bool:
        """Whether the kernels were built with products of ``i16``: AVX-512 VNNI, or AVX2 without AVX-512."""
        return bool(load_student().has_pair_products())

    def _fill(self, target: _Stage, stage: PackedStage, segments: np.ndarray, below: int) -> None:
        layers = (_Layer * len(stage.layers))()
        for made, layer in zip(layers, stage.layers, strict=True):
            made.in_words, made.rows, made.blocks, made.tail = layer.in_words, layer.rows, layer.blocks, layer.tail
            made.in_format, made.out_format = CODES[layer.in_format], CODES[layer.out_format]
            made.weights, made.bias = _address(layer.weights), _address(layer.bias)
            made.scale = _address(layer.scale)
        stride = self._library.plane_stride(stage.size)
        plane = np.zeros((stage.size * stage.out_channels + 1) * stride, np.float32)
        shift = np.zeros_like(stage.pose_bias)
        self._kept += [stage, layers, segments, plane, shift]
        target.size, target.below_size = stage.size, below
        target.first_channels, target.pose_size = stage.pose_matrix.shape
        target.first_format, target.n_layers = CODES[stage.first_format], len(stage.layers)
        target.out_channels, target.n_segments = stage.out_channels, len(segments)
        for name in ("pose_matrix", "pose_bias", "wx", "wy"):
            setattr(target, name, _address(getattr(stage, name)))
        target.shift, target.segments, target.plane = _address(shift), _address(segments), _address(plane)
        target.layers = layers

    @property
    def face(self) -> Float[np.ndarray, "4 128 128"]:
        """The face crop of the character as it is painted now; a view."""
        top, bottom, left, right = STUDENT_FACE_REGION
        return self.character[top:bottom, left:right].transpose(2, 0, 1)

    @property
    def segments(self) -> dict[str, int]:
        """Segments of pixels a frame computes, by stage: ``face``, ``level0``..."""
        stages = self._student.levels[: self._student.n_levels]
        return {"face": self._student.face.n_segments} | {f"level{i}": s.n_segments for i, s in enumerate(stages)}

    def paint_face(self, pose: np.ndarray) -> None:
        """Paints the face of a pose (float32, contiguous, at least its 39 facial values) into the character."""
        self._library.paint_face(ctypes.byref(self._student), ctypes.c_void_p(_address(pose)))

    def run(
        self,
        pose: np.ndarray,
        planes: dict[str, np.ndarray] | None = None,
        rgba: np.ndarray | None = None,
        corner: tuple[int, int] = (0, 0),
        swap: bool = False,
    ) -> None:
        """One frame of a pose (float32 [45], contiguous) into the arrays given; pixels not computed are left alone.

        ``planes``: float32 [channels, side, side] by the names of PLANES. ``rgba``: uint8 [h, w, 4], whose first pixel
        is ``corner`` (top, left) of the image; ``swap`` makes it BGRA.
        """
        frame = _Frame(swap=int(swap))
        for name, plane in (planes or {}).items():
            setattr(frame, name, _address(plane))
        if rgba is not None:
            frame.rgba = _address(rgba)
            frame.top, frame.left = corner
            frame.bottom, frame.right = corner[0] + rgba.shape[0], corner[1] + rgba.shape[1]
        self._library.run_frame(ctypes.byref(self._student), ctypes.c_void_p(_address(pose)), ctypes.byref(frame))

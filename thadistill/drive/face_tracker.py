"""Face tracker: images of a face to blendshapes and the head's rotation, by MediaPipe's FaceLandmarker on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from thadistill.assets import FACE_TRACKING
from thadistill.drive.protocols import Face
from thadistill.errors import UserError

_MODEL = "face_landmarker.task"
_BETWEEN_MS = 40  # from one video to the next


class FaceTracker:
    """Follows one face through the images of a video. Opened as a context.

    MediaPipe 0.10.30 and 0.10.31 are what the extra ``drive`` installs: they open no connection (their library imports no
    socket call), while 0.10.35 and later send usage figures to a server, and later ones than 0.10.31 want OpenCV.

    Args:
        model: ``face_landmarker.task``; None is that of ``thadistill assets pull=facetracking``.

    Raises: UserError when the package or the model is missing.
    """

    def __init__(self, model: Path | None = None) -> None:
        path = FACE_TRACKING.folder / _MODEL if model is None else model
        if not path.is_file():
            raise UserError(f"no face tracker at {path}; expected its model: run 'thadistill assets pull=facetracking'")
        os.environ.setdefault("GLOG_minloglevel", "2")  # it reports its threads otherwise
        try:
            from mediapipe import Image, ImageFormat
            from mediapipe.tasks.python import BaseOptions
            from mediapipe.tasks.python.vision import FaceLandmarker, FaceLandmarkerOptions, RunningMode
        except ImportError as error:
            raise UserError(
                f"faces are tracked by MediaPipe, which does not load ({error}): pip install 'thadistill[drive]'"
            ) from None
        options = FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(path)),
            running_mode=RunningMode.VIDEO,
            num_faces=1,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        try:
            self._landmarker = FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(f"{path} cannot be read as a face tracker ({error}); expected MediaPipe's") from None
        self._image = lambda pixels: Image(image_format=ImageFormat.SRGB, data=pixels)
        self._last, self._ahead = -1, 0  # milliseconds of MediaPipe's clock, and how far it is ahead of the video's

    def __enter__(self) -> FaceTracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._landmarker.close()

    def find(self, image: UInt8[np.ndarray, "h w 3"], seconds: float) -> Face | None:
        """The face in an image, None when there is none.

        Args:
            image: RGB.
            seconds: when it was taken; a time before the last begins another video.
        """
        if round(1000 * seconds) + self._ahead < self._last:
            self._ahead = self._last + _BETWEEN_MS - round(1000 * seconds)
        # MediaPipe ends for good at a time that does not rise
        self._last = max(round(1000 * seconds) + self._ahead, self._last + 1)
        found: Any = self._landmarker.detect_for_video(self._image(np.ascontiguousarray(image)), self._last)
        if not found.face_blendshapes or not found.facial_transformation_matrixes:
            return None
        shapes = {shape.category_name: float(shape.score) for shape in found.face_blendshapes[0]}
        shapes.pop("_neutral", None)
        return Face(shapes, np.array(found.facial_transformation_matrixes[0], dtype=float))

"""A real face for tests: scikit-image's astronaut (NASA, public domain), turned, with eyes closed, as a video."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from skimage import data

MODEL = ("models", "face_landmarker.task")
SIZE = 440
# In the photograph's crop: an eye's corners, and where its lids meet the middle, above and below; the image's left first
_EYES = (((204, 122), (252, 127), 113, 131), ((288, 130), (336, 127), 117, 136))


def face(degrees: float = 0.0, closed: float = 0.0) -> np.ndarray:
    """The photograph, SIZE square, turned against the clock, with lids drawn over so much of the eyes."""
    picture = Image.fromarray(data.astronaut()[40:260, 90:310]).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    if closed > 0:
        draw = ImageDraw.Draw(picture)
        for (x0, y0), (x1, y1), top, bottom in _EYES:
            skin = picture.getpixel(((x0 + x1) // 2, top - 6))
            low = top + closed * (bottom - top)
            middle = (x0 + x1) / 2
            upper = [(x0 - 2, y0), (middle - 10, top - 1), (middle + 10, top - 1), (x1 + 2, y1)]
            lower = [(x1 + 2, y1 + 2), (middle + 10, low), (middle - 10, low), (x0 - 2, y0 + 2)]
            draw.polygon(upper + lower, fill=skin)
            draw.line(lower, fill=(70, 40, 35), width=3)
        picture = picture.filter(ImageFilter.GaussianBlur(0.8))
    return np.asarray(picture.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(90, 90, 90)))


def write_video(path: Path, images: Iterable[np.ndarray], fps: int, sound: np.ndarray | None = None) -> Path:
    """An H.264 video of the images, with mono sound of 44.1 kHz if any."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "12", "preset": "ultrafast"})
        stream.width = stream.height = SIZE
        speech = container.add_stream("aac", rate=44100, layout="mono") if sound is not None else None
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode(None))
        if speech is not None and sound is not None:
            frame = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="fltp", layout="mono")
            frame.rate = 44100
            resampler = av.AudioResampler("fltp", "mono", 44100, 1024)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(speech.encode(piece))
            container.mux(speech.encode(None))
    return path

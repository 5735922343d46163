"""Animate: a track and a character to a video; frames are made while earlier ones are encoded."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from thadistill.drive.video import FrameWriter, opaque
from thadistill.metrics.pictures import comparison
from thadistill.runtime import Runtime
from thadistill.teacher import Teacher

_HELD = 4  # frames between the two threads


def frames(fast: Runtime, poses: Float[Tensor, "n 45"]) -> Iterator[UInt8[np.ndarray, "512 512 4"]]:
    """A frame per pose, straight sRGB RGBA."""
    for pose in poses:
        yield fast.rgba8(pose)


def side_by_side(
    fast: Runtime, teacher: Teacher, image: Float[Tensor, "4 512 512"], poses: Float[Tensor, "n 45"]
) -> Iterator[UInt8[np.ndarray, "512 1536 4"]]:
    """Teacher | student | their difference for each pose; see :func:`thadistill.metrics.pictures.comparison`."""
    for pose in poses:
        with torch.inference_mode():
            rgb = comparison(teacher(image[None], pose[None]).posed[0], fast(pose[None]).posed[0])
        yield opaque(rgb)


def write_frames(
    made: Iterable[np.ndarray], writer: FrameWriter, done: Callable[[int], object] = lambda _: None
) -> int:
    """Writes frames while the next are being made; returns how many. ``done`` gets their number after each.

    Memory does not grow with their number: at most four wait. An error of either side ends both, and is raised.
    """
    waiting: queue.Queue[np.ndarray | None] = queue.Queue(_HELD)
    failed: list[BaseException] = []
    count = 0

    def write() -> None:
        nonlocal count
        try:
            while (frame := waiting.get()) is not None:
                writer.write(frame)
                count += 1
        except BaseException as error:
            failed.append(error)
            while waiting.get() is not None:  # the other side may be waiting for room
                pass

    thread = threading.Thread(target=write, name="video writer", daemon=True)
    thread.start()
    try:
        for frame in made:
            if failed:
                break
            waiting.put(frame)
            done(count)
    finally:
        waiting.put(None)
        thread.join()
    if failed:
        raise failed[0]
    done(count)
    return count

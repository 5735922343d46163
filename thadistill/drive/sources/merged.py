"""Merged source: several sources at once; each pose parameter follows the last one in the list that drives it now."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final

import torch
from torch import Tensor

from thadistill.drive.sources.base import WAIT_S, Source, TimedPose
from thadistill.pose import POSE_PARAMETERS

_SILENT_S: Final = 0.7  # a source that has given nothing for so long drives nothing, until it does again
_RELEASE_S: Final = 0.5
_END: Final = "end"


class Merged:
    """Sources read side by side, each in a thread of its own.

    ``[webcam, audio]``: audio's mouth over the webcam's, while there is sound to be had; else the webcam's. Ends when all
    have ended.

    Args:
        sources: from the least to the first in priority; what each drives is asked for once it is open.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)
        self.name = " + ".join(source.name for source in self.sources)
        self.drives = frozenset().union(*(source.drives for source in self.sources))
        self._poses: queue.Queue[tuple[int, TimedPose | BaseException | str]] = queue.Queue(64)
        self._stop = threading.Event()

    def __enter__(self) -> Merged:
        """Opens all, or none.

        Raises: UserError of the first that cannot be opened.
        """
        self._stop.clear()  # it may have been open before
        self._poses = queue.Queue(64)
        with contextlib.ExitStack() as stack:
            for source in self.sources:
                stack.enter_context(source)
            self._opened = stack.pop_all()
        self._threads = [
            threading.Thread(target=self._read, args=(index,), name=source.name, daemon=True)
            for index, source in enumerate(self.sources)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=2)
        self._opened.close()

    def poses(self) -> Iterator[TimedPose | None]:
        """See Source; an error of one is raised here."""
        columns = [torch.tensor([name in source.drives for name in POSE_PARAMETERS]) for source in self.sources]
        latest: list[TimedPose | None] = [None] * len(self.sources)
        running = set(range(len(self.sources)))
        while running and not self._stop.is_set():
            try:
                index, given = self._poses.get(timeout=WAIT_S)
            except queue.Empty:
                yield None
                continue
            if isinstance(given, BaseException):
                raise given
            if isinstance(given, str):
                running.discard(index)
                continue
            latest[index] = given
            yield TimedPose(_together(latest, columns), given.time)

    def _read(self, index: int) -> None:
        try:
            for pose in self.sources[index].poses():
                if self._stop.is_set():
                    return
                if pose is not None:
                    self._put(index, pose)
            self._put(index, _END)
        except Exception as error:
            self._put(index, error)

    def _put(self, index: int, given: TimedPose | BaseException | str) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._poses.put((index, given), timeout=WAIT_S)
                return


def _together(latest: Sequence[TimedPose | None], columns: Sequence[Tensor]) -> Tensor:
    """What each source drives, over what those before it do; one that falls silent lets go gently."""
    pose = POSE_PARAMETERS.rest()[0]
    now = time.monotonic()
    for given, column in zip(latest, columns, strict=True):
        if given is not None and (silent := now - given.time) < _SILENT_S + _RELEASE_S:
            strength = min(1.0, 1 - (silent - _SILENT_S) / _RELEASE_S)
            pose = torch.where(column, pose + strength * (given.pose - pose), pose)
    return pose

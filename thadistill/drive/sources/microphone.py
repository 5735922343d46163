"""Microphone source: speech to the mouth's vowels, by sounddevice."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final

import numpy as np

from thadistill.drive.motion import MOUTH
from thadistill.drive.sound import RATE, VowelTracker, import_av, mouth_pose
from thadistill.drive.sources.base import WAIT_S, SourceOptions, TimedPose
from thadistill.errors import UserError

_BLOCK_S: Final = 0.02
_MOST_BLOCKS: Final = 50  # that wait: a second
_AGAIN_S: Final = 1.0  # between tries to open a microphone that is gone


class Microphone:
    """The vowels that a microphone hears; one that is pulled out is used again when it is back.

    Args:
        options: ``microphone``.
    """

    name = "audio"
    drives = MOUTH

    def __init__(self, options: SourceOptions) -> None:
        self.options = options
        self._blocks: queue.Queue[tuple[float, np.ndarray]] = queue.Queue(_MOST_BLOCKS)
        self._stream: Any = None
        self._open = False

    def __enter__(self) -> Microphone:
        """Opens the microphone.

        Raises: UserError when sounddevice or PyAV is missing, or there is no such input.
        """
        import_av("sound is read")
        self._start()
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        self._end()

    def poses(self) -> Iterator[TimedPose | None]:
        """See Source."""
        tracker = VowelTracker()
        heard = time.monotonic()
        while self._open:
            try:
                arrived, block = self._blocks.get(timeout=WAIT_S)
            except queue.Empty:
                if time.monotonic() - heard > _AGAIN_S:
                    heard = time.monotonic()
                    self._again()
                yield None
                continue
            heard = arrived
            for piece in self._resample(block):
                for _, vowels in tracker.feed(piece):
                    yield TimedPose(mouth_pose(vowels), arrived)

    def _start(self) -> None:
        try:
            import sounddevice
        except (ImportError, OSError) as error:  # it needs PortAudio
            raise UserError(
                f"microphones are read by sounddevice, which does not load ({error}): pip install 'thadistill[drive]', and "
                "PortAudio (apt-get install libportaudio2)"
            ) from None
        try:
            device = sounddevice.query_devices(self.options.microphone, "input")
            rate = int(device["default_samplerate"])
            self._stream = sounddevice.InputStream(
                samplerate=rate,
                blocksize=round(_BLOCK_S * rate),
                device=self.options.microphone,
                channels=1,
                dtype="float32",
                callback=self._take,
            )
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            self._end()
            named = "" if self.options.microphone is None else f"={self.options.microphone}"
            raise UserError(
                f"microphone{named} cannot be opened ({error}); expected an input of this machine"
            ) from None
        self._rate = rate
        self._resampler = import_av("sound is read").AudioResampler("flt", "mono", RATE)

    def _end(self) -> None:
        if self._stream is not None:
            self._stream.close(ignore_errors=True)
            self._stream = None

    def _again(self) -> None:
        """Opens it again; a microphone that is still gone is tried later."""
        import sounddevice

        self._end()
        try:
            sounddevice._terminate()  # PortAudio sees devices that came back only after a restart
            sounddevice._initialize()
            self._start()
        except (UserError, sounddevice.PortAudioError):
            return

    def _take(self, block: np.ndarray, frames: int, clock: Any, status: Any) -> None:
        """Called by PortAudio's thread; the oldest goes when nobody reads."""
        item = (time.monotonic(), block[:, 0].copy())
        try:
            self._blocks.put_nowait(item)
        except queue.Full:
            try:
                self._blocks.get_nowait()
                self._blocks.put_nowait(item)
            except (queue.Empty, queue.Full):
                return

    def _resample(self, block: np.ndarray) -> Iterator[np.ndarray]:
        import av

        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), format="flt", layout="mono")
        frame.rate = self._rate
        for piece in self._resampler.resample(frame):
            yield piece.to_ndarray()[0]

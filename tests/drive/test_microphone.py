"""The microphone source, on a stand-in for sounddevice that plays a synthesised vowel."""

from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from thadistill.drive.sources import SourceOptions, open_source
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS

from .test_sound import vowel

EEE = POSE_PARAMETERS.index("mouth_eee")


class PortAudioError(Exception):
    pass


class Stand:
    """What the source uses of sounddevice; its inputs are 44.1 kHz and give an e, then nothing, until opened again."""

    PortAudioError = PortAudioError

    def __init__(self) -> None:
        self.opened = 0

    def query_devices(self, device: int | str | None, kind: str) -> dict[str, Any]:
        if device == "none":
            raise ValueError("No input device matching 'none'")
        return {"default_samplerate": 44100.0}

    def _terminate(self) -> None: ...

    def _initialize(self) -> None: ...

    def InputStream(self, blocksize: int, callback: Any, **options: Any) -> SimpleNamespace:
        self.opened += 1
        sound = vowel((470, 1850, 2500), 120.0, 0.4)

        def play() -> None:
            for start in range(0, len(sound) - blocksize, blocksize):
                callback(sound[start : start + blocksize, None], blocksize, None, None)
                time.sleep(0.01)

        return SimpleNamespace(start=threading.Thread(target=play, daemon=True).start, close=lambda ignore_errors: None)


def test_speech_moves_the_mouth_and_a_lost_microphone_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand()
    monkeypatch.setitem(sys.modules, "sounddevice", stand)  # type: ignore[arg-type]
    with open_source("audio", SourceOptions()) as source:
        assert "mouth_eee" in source.drives
        assert "head_x" not in source.drives
        began, heard, silent = time.monotonic(), 0.0, 0
        for pose in source.poses():
            if pose is None:
                silent += 1
            else:
                heard = max(heard, float(pose.pose[EEE]))
                assert began <= pose.time <= time.monotonic()
            if stand.opened > 1 and pose is not None:
                break
            assert time.monotonic() - began < 10
    assert heard > 0.5
    assert silent > 5


def test_a_microphone_that_is_not_there_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Stand())  # type: ignore[arg-type]
    with (
        pytest.raises(UserError, match="microphone=none cannot be opened"),
        open_source("audio", SourceOptions(microphone="none")),
    ):
        pass
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UserError, match=r"pip install 'thadistill\[drive\]'"), open_source("audio", SourceOptions()):
        pass

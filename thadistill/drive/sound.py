"""Sound: speech to the mouth's vowels, by the formants of a linear prediction, for files and microphones.

Method: windows of 32 ms every 20 ms at 11,025 Hz; pre-emphasis; linear prediction of order 12 by autocorrelation; the
first two resonances narrower than 500 Hz are F1 and F2 (Markel and Gray, Linear Prediction of Speech, 1976, chapter 7).
Their distance in octaves to each vowel's mean formants says how much of it is spoken; the level, against the loudest of
the last seconds, how far the mouth opens.

Limits: it hears vowels, not words. High voices (above about 250 Hz) have too few harmonics to separate their
formants well; whispering, singing, music and noise give some vowel or other; consonants close the mouth only by their level.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from torch import Tensor

from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS

RATE: Final = 11025  # Hz
HOP_S: Final = 0.02
_LEAST_RATE, _MOST_RATE = 1000, 768_000  # Hz, of files; for others the resampler's filter would take all memory
VOWELS: Final = ("aaa", "iii", "uuu", "eee", "ooo")

# F1 and F2 in Hz: between the means of men and women (Hillenbrand et al. 1995; Japanese vowels lie near)
_FORMANTS = np.array([(850, 1350), (320, 2500), (370, 1250), (540, 2050), (520, 880)], float)
_SHARPNESS = 0.25  # octaves: the standard deviation of a vowel
_WINDOW = round(0.032 * RATE)
_ORDER = 12
_PRE_EMPHASIS = 0.97
_BROADEST = 500.0  # Hz: a resonance that is broader is the source's
_SILENT_DB, _RANGE_DB = -50.0, 30.0  # below, all is silence; the mouth opens over so much below the loudest
_LOUDEST_DB, _FORGET_DB = -30.0, 1.0  # the least that counts as loudest; a second after it that much less does
_ATTACK_S, _RELEASE_S = 0.03, 0.09


class VowelTracker:
    """Follows the vowels in sound that comes piece by piece."""

    def __init__(self) -> None:
        self._waiting = np.zeros(0, np.float32)
        self._heard = 0  # samples before those that wait
        self._loudest = _LOUDEST_DB
        self._level = 0.0
        self._vowels = np.zeros(len(VOWELS))

    def feed(self, samples: Float[np.ndarray, " n"]) -> list[tuple[float, Float[np.ndarray, "5"]]]:
        """The vowels of what is complete by now: seconds from the beginning, and the strength of each of VOWELS, 0 to 1.

        Args:
            samples: mono, RATE a second, in [-1, 1]; what is not finite counts as silence.
        """
        self._waiting = np.concatenate([self._waiting, np.nan_to_num(samples, posinf=0, neginf=0).astype(np.float32)])
        hop = round(HOP_S * RATE)
        found = []
        start = 0
        while start + _WINDOW <= len(self._waiting):
            vowels = self._hear(self._waiting[start : start + _WINDOW].astype(float))
            found.append(((self._heard + start + _WINDOW / 2) / RATE, vowels))
            start += hop
        self._waiting, self._heard = self._waiting[start:], self._heard + start
        return found

    def _hear(self, window: np.ndarray) -> np.ndarray:
        level = 10 * math.log10(float(np.mean(window**2)) + 1e-12)
        self._loudest = max(level, self._loudest - _FORGET_DB * HOP_S, _LOUDEST_DB)
        opened = (
            0.0 if level < _SILENT_DB else min(1.0, max(0.0, (level - self._loudest + _RANGE_DB) / (_RANGE_DB - 6)))
        )
        if opened > 0 and (formants := formants_of(window)) is not None:
            octaves = np.log2(np.array(formants) / _FORMANTS)
            closeness = np.exp(-(octaves**2).sum(axis=1) / (2 * _SHARPNESS**2))
            self._vowels += 0.5 * (closeness / max(closeness.sum(), 1e-9) - self._vowels)
        time_constant = _ATTACK_S if opened > self._level else _RELEASE_S
        self._level += (1 - math.exp(-HOP_S / time_constant)) * (opened - self._level)
        return np.clip(self._level * self._vowels, 0, 1) if self._level > 0.02 else np.zeros(len(VOWELS))


def formants_of(window: Float[np.ndarray, " n"]) -> tuple[float, float] | None:
    """F1 and F2 in Hz of a window of speech at RATE; None where it has no two resonances."""
    from scipy.linalg import solve_toeplitz  # a quarter of a second: where it is needed

    emphasised = np.append(window[0], window[1:] - _PRE_EMPHASIS * window[:-1]) * np.hamming(len(window))
    correlation = np.correlate(emphasised, emphasised, "full")[len(window) - 1 :][: _ORDER + 1]
    if correlation[0] <= 1e-12:
        return None
    correlation[0] *= 1 + 1e-5  # keeps near-silent and pure tones solvable
    try:
        prediction = solve_toeplitz(correlation[:-1], correlation[1:])
        roots = np.roots(np.concatenate([[1.0], -prediction]))
    except (np.linalg.LinAlgError, ValueError):
        return None
    roots = roots[roots.imag > 0]
    frequency = np.angle(roots) * RATE / (2 * np.pi)
    breadth = -np.log(np.maximum(np.abs(roots), 1e-6)) * RATE / np.pi
    sharp = np.sort(frequency[(breadth < _BROADEST) & (frequency > 150) & (frequency < 4000)])
    return (float(sharp[0]), float(sharp[1])) if len(sharp) > 1 else None


def mouth_pose(vowels: Float[np.ndarray, "5"]) -> Float[Tensor, " 45"]:
    """The pose of some vowels, all else at rest."""
    pose = POSE_PARAMETERS.rest()[0]
    for vowel, strength in zip(VOWELS, vowels, strict=True):
        pose[POSE_PARAMETERS.index(f"mouth_{vowel}")] = float(strength)
    return pose


def read_samples(path: Path) -> Iterator[Float[np.ndarray, " n"]]:
    """A file's sound piece by piece: mono, RATE a second.

    Raises: UserError when PyAV is missing, or the file is no sound.
    """
    av = import_av("sound is read")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path} has no sound; expected a recording with speech")
            rate = getattr(container.streams.audio[0], "rate", None)  # absent where no codec is known
            if not _LEAST_RATE <= (rate or 0) <= _MOST_RATE:
                raise UserError(f"{path} has {rate} samples a second; expected {_LEAST_RATE} to {_MOST_RATE}")
            resampler = av.AudioResampler("flt", "mono", RATE)
            frames: Iterable[Any] = container.decode(audio=0)
            for frame in itertools.chain(frames, [None]):
                for piece in resampler.resample(frame):
                    yield piece.to_ndarray()[0]
    except av.FFmpegError as error:
        raise UserError(f"{path} cannot be read as sound ({error.strerror}); expected WAV, MP3 or another") from None


def import_av(what: str) -> Any:
    """PyAV.

    Raises: UserError, which says ``what`` needs it, when it is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError(f"{what} by PyAV, which is not installed: pip install 'thadistill[drive]'") from None
    return av

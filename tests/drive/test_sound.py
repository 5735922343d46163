"""Sound to vowels: synthesised speech of known formants, levels, files of several kinds."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from scipy.signal import lfilter

from thadistill.drive.sound import RATE, VOWELS, VowelTracker, formants_of, mouth_pose, read_samples
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS

# F1, F2, F3 in Hz of Japanese speakers (Hirahara and Kato 1992 and others, rounded)
SPEAKERS = {
    ("man", 120.0): ((740, 1180, 2500), (290, 2250, 3000), (340, 1200, 2250), (470, 1850, 2500), (460, 820, 2450)),
    ("woman", 210.0): ((900, 1450, 2900), (340, 2750, 3400), (390, 1400, 2700), (560, 2300, 3000), (530, 930, 2800)),
}


def vowel(formants: tuple[int, ...], pitch: float, seconds: float = 0.5) -> np.ndarray:
    """A source-filter vowel (Klatt 1980): a pulse train, its spectrum falling by 12 dB an octave, through resonators."""
    rate = 44100
    phase = np.cumsum(np.full(int(seconds * rate), pitch / rate)) % 1
    sound = np.diff(phase, prepend=0.0) < -0.5
    sound = lfilter([1], [1, -1.9, 0.9025], sound.astype(float))
    for frequency, breadth in zip((*formants, 3700, 4700), (60, 90, 140, 200, 250), strict=True):
        radius, turn = np.exp(-np.pi * breadth / rate), 2 * np.pi * frequency / rate
        poles = [1, -2 * radius * np.cos(turn), radius**2]
        sound = lfilter([sum(poles)], poles, sound)
    sound = np.diff(sound, prepend=0.0)  # the lips
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def write_sound(path: Path, sound: np.ndarray, rate: int = 44100, codec: str = "pcm_s16le") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((sound[None] * 32767).astype(np.int16), format="s16", layout="mono")
        frame.rate = rate
        context = stream.codec_context
        resampler = av.AudioResampler(context.format or "s16p", "mono", rate, context.frame_size or None)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def heard(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Times, and the five vowels at each."""
    tracker = VowelTracker()
    found = [item for piece in read_samples(path) for item in tracker.feed(piece)]
    return np.array([time for time, _ in found]), np.array([vowels for _, vowels in found])


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker[0])
@pytest.mark.parametrize("name", VOWELS)
def test_synthesised_vowels_are_distinguished(speaker: tuple[str, float], name: str, tmp_path: Path) -> None:
    formants = SPEAKERS[speaker][VOWELS.index(name)]
    path = write_sound(tmp_path / "a.wav", vowel(formants, speaker[1]))
    times, vowels = heard(path)
    steady = vowels[(times > 0.2) & (times < 0.45)].mean(axis=0)
    assert VOWELS[int(np.argmax(steady))] == name
    assert steady.max() > 0.5
    assert steady.sum() <= 1 + 1e-6
    window = np.concatenate(list(read_samples(path)))[3000:3353]
    found = formants_of(window)
    assert found is not None
    assert np.allclose(found, formants[:2], rtol=0.3)  # the first is drawn to a harmonic of the voice


def test_silence_closes_the_mouth_and_speech_opens_it(tmp_path: Path) -> None:
    quiet = np.zeros(22050, np.float32)
    spoken = vowel((740, 1180, 2500), 120.0)
    noise = 1e-3 * np.random.default_rng(1).standard_normal(22050).astype(np.float32)  # -60 dB
    times, vowels = heard(
        write_sound(tmp_path / "a.mp3", np.concatenate([quiet, spoken, noise, 0.2 * spoken]), codec="mp3")
    )
    opened = vowels.sum(axis=1)
    assert opened[times < 0.4].max() == 0
    assert opened[(times > 0.7) & (times < 0.95)].min() > 0.8
    assert opened[(times > 1.4) & (times < 1.48)].max() < 0.1
    assert 0.3 < opened[(times > 1.7) & (times < 1.95)].mean() < 1  # 14 dB less
    assert np.abs(np.diff(opened)).max() < 0.6  # no jump from shut to open


def test_pieces_of_any_size_are_the_same_sound() -> None:
    sound = vowel((470, 1850, 2500), 120.0)[::4].copy()
    whole, pieces = VowelTracker(), VowelTracker()
    expected = whole.feed(sound)
    found = [item for start in range(0, len(sound), 97) for item in pieces.feed(sound[start : start + 97])]
    assert [time for time, _ in found] == pytest.approx([time for time, _ in expected])
    np.testing.assert_allclose([v for _, v in found], [v for _, v in expected])
    assert RATE == 11025
    spoiled = sound.copy()
    spoiled[::50] = np.nan
    assert np.isfinite([v for _, v in VowelTracker().feed(spoiled)]).all()


def test_a_mouth_moves_alone() -> None:
    pose = mouth_pose(np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    moved = {name for name, value in zip(POSE_PARAMETERS, pose, strict=True) if value}
    assert moved == {f"mouth_{vowel}" for vowel in VOWELS}
    assert float(pose[POSE_PARAMETERS.index("mouth_ooo")]) == 0.5


def test_what_is_no_sound_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF nothing of the kind")
    with pytest.raises(UserError, match=r"a\.wav cannot be read as sound"):
        list(read_samples(tmp_path / "a.wav"))

"""Animate: tracks from files, their resampling, and videos as another program reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests.students import toy_student
from thadistill.cli.app import main
from thadistill.data.poses import sample_poses
from thadistill.drive import Track, frames, open_video, read_track, write_frames
from thadistill.drive.soundtrack import has_sound
from thadistill.drive.video import laid_on
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS
from thadistill.runtime import compile_model

from .faces import face, write_video
from .test_sound import vowel, write_sound

COUNT = 7


@pytest.fixture(scope="module")
def drawn() -> list[np.ndarray]:
    """Frames of a toy student in motion."""
    return list(frames(compile_model(toy_student(), "folded"), Track(sample_poses(3, seed=1), np.arange(3.0)).at(3.0)))


def written(drawn: list[np.ndarray], path: Path, background: np.ndarray | None = None) -> Path:
    with open_video(path, 12.0, background) as video:
        assert write_frames(drawn, video) == len(drawn)
    return path


def decoded(path: Path, decoder: str | None = None) -> list[np.ndarray]:
    """Frames as RGBA, by a decoder of another name where the usual one drops the alpha plane."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if decoder is None:
            return [frame.to_ndarray(format="rgba") for frame in container.decode(stream)]
        context = av.CodecContext.create(decoder, "r")
        packets = [packet for packet in container.demux(stream) if packet.size]
        return [frame.to_ndarray(format="rgba") for packet in [*packets, None] for frame in context.decode(packet)]


@pytest.mark.parametrize(
    ("name", "codec", "decoder", "least"),
    [
        ("a.mp4", "h264", None, 34.0),
        ("a.webm", "vp9", "libvpx-vp9", 30.0),
        ("a.mov", "prores", None, 38.0),
        ("a.gif", "gif", None, 20.0),
        ("a.apng", "apng", None, 99.0),
    ],
)
def test_every_format_holds_all_frames(
    drawn: list[np.ndarray], tmp_path: Path, name: str, codec: str, decoder: str | None, least: float
) -> None:
    path = written(drawn, tmp_path / name)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == codec
        assert (stream.width, stream.height) == (512, 512)
    found = decoded(path, decoder)
    assert len(found) == len(drawn) == COUNT
    white = np.full(3, 255, np.uint8)
    for frame, expected in zip(found, drawn, strict=True):
        if name != "a.mp4":  # keeps its alpha
            assert np.abs(frame[..., 3].astype(int) - expected[..., 3]).mean() < (8 if name == "a.gif" else 3)
        error = laid_on(frame, white).astype(float) - laid_on(expected, white)
        assert 10 * np.log10(255**2 / max(np.square(error).mean(), 1e-9)) > least
    assert list(tmp_path.iterdir()) == [path]


def test_pictures_are_the_frames(drawn: list[np.ndarray], tmp_path: Path) -> None:
    written(drawn, tmp_path / "frame-%03d.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"frame-{i:03d}.png" for i in range(1, COUNT + 1)]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "frame-007.png")), drawn[-1])


def test_a_background_lies_behind(drawn: list[np.ndarray], tmp_path: Path) -> None:
    green = np.array([0, 255, 0], np.uint8)
    found = decoded(written(drawn, tmp_path / "a.mp4", green))[0][:40, :40, :3].astype(float)
    assert drawn[0][:40, :40, 3].mean() < 20
    assert np.abs(found - laid_on(drawn[0], green)[:40, :40]).mean() < 4


def test_laid_on_is_pillows(drawn: list[np.ndarray]) -> None:
    below = Image.new("RGBA", (512, 512), (10, 200, 90, 255))
    expected = Image.alpha_composite(below, Image.fromarray(drawn[0])).convert("RGB")
    found = laid_on(drawn[0], np.array([10, 200, 90], np.uint8))
    assert np.abs(found.astype(int) - np.asarray(expected)).max() <= 1  # Pillow rounds alpha once more


@pytest.mark.parametrize("side", ["making", "writing"])
def test_an_interrupted_video_leaves_nothing(drawn: list[np.ndarray], tmp_path: Path, side: str) -> None:
    def made() -> object:
        yield from drawn[:3]
        if side == "making":
            raise KeyboardInterrupt
        yield np.zeros((2, 2), np.uint8)  # no frame: the encoder refuses it
        yield from drawn

    with pytest.raises((KeyboardInterrupt, Exception)), open_video(tmp_path / "a.mp4", 12.0) as video:
        write_frames(made(), video)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_values_between_poses_stay_between_them() -> None:
    torch.manual_seed(0)
    track = Track(sample_poses(30, seed=2), np.cumsum(np.random.default_rng(0).uniform(0.01, 0.3, 30)))
    fine = track.at(240.0)
    assert len(fine) == int(track.seconds * 240 + 1e-6) + 1
    times = track.times[0] + np.arange(len(fine)) / 240
    after = np.clip(np.searchsorted(track.times, times, side="right"), 1, 29)
    low = torch.minimum(track.poses[after - 1], track.poses[after])
    high = torch.maximum(track.poses[after - 1], track.poses[after])
    assert bool(((fine >= low - 1e-5) & (fine <= high + 1e-5)).all())
    assert torch.equal(Track(track.poses, np.arange(30) / 20).at(20.0), track.poses)


def test_json_tracks(tmp_path: Path) -> None:
    poses = sample_poses(3, seed=5)
    named = [dict(zip(POSE_PARAMETERS, row.tolist(), strict=True)) for row in poses]
    forms = {
        "list": poses.tolist(),
        "object": {"fps": 10, "poses": named},
        "timed": [{"time": 4 + i / 10, "pose": pose} for i, pose in enumerate(named)],
    }
    for name, content in forms.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        track = read_track(path, fps=10.0)
        torch.testing.assert_close(track.poses, poses)
        assert np.allclose(track.times, [0, 0.1, 0.2])
    (tmp_path / "one.json").write_text(json.dumps({"head_y": 0.5}))
    assert float(read_track(tmp_path / "one.json").poses[0, POSE_PARAMETERS.index("head_y")]) == 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "holds no poses"),
        ('[{"head_q": 1}]', "pose 0 has 'head_q'"),
        ('[{"head_y": "left"}]', "head_y of pose 0 is 'left'; expected a number"),
        ('[{"head_y": NaN}]', "head_y of pose 0 is nan"),
        ("[[0, 1]]", "pose 0 is no pose; expected 45 numbers"),
        ('[{"head_y": 3}]', "head_y = 3; expected -1 to 1"),
        ('[{"time": 1, "pose": {}}, {"time": 1, "pose": {}}]', "expected later"),
        ('[{"time": 1, "pose": {}}, {"head_y": 0}]', "pose 1 has no time"),
    ],
)
def test_broken_tracks_are_refused_in_one_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(UserError, match=r"t\.json|expected later") as caught:
        read_track(tmp_path / "t.json")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["out=a.avi"], "out=a.avi; expected an ending"),
        (["out=a.png"], "expected one pattern for PNG pictures"),
        (["fps=0"], "fps=0; expected a number above 0"),
        (["background=nowhere.png"], "background=nowhere.png; expected transparent, RRGGBB"),
        (["side_by_side=true"], "expected teacher=tha3"),
        (["poses=none.npy"], "none.npy does not exist"),
    ],
)
def test_wrong_values_are_refused_before_work(
    given: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("t.npy", sample_poses(2, seed=1).numpy())
    with pytest.raises(SystemExit) as caught:
        main(["animate", "poses=t.npy", *given] if not given[0].startswith("poses") else ["animate", *given])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["t.npy"]


def test_the_command_side_by_side_and_raw(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", sample_poses(2, seed=1).numpy())
    command = [
        sys.executable,
        "-m",
        "thadistill.cli",
        "animate",
        "poses=t.npy",
        "poses_fps=2",
        "fps=4",
        "runtime=folded",
    ]
    raw = subprocess.run([*command, "out=-", "background=0000ff"], cwd=tmp_path, capture_output=True, check=True).stdout
    pixels = np.frombuffer(raw, np.uint8).reshape(-1, 512, 512, 4)
    assert len(pixels) == 3
    assert pixels[0, 0, 0].tolist() == [0, 0, 255, 255]
    pair = [*command, "out=pair.mp4", "side_by_side=true", "teacher=puppet", "teacher.seed=30"]
    subprocess.run(pair, cwd=tmp_path, capture_output=True, check=True)
    found = decoded(tmp_path / "pair.mp4")
    assert [frame.shape for frame in found] == [(512, 1536, 4)] * 3
    teacher, student = found[0][:, :512, :3].astype(float), found[0][:, 512:1024, :3].astype(float)
    assert (
        10 * np.log10(255**2 / np.square(teacher - student).mean()) > 30
    )  # the packaged puppet is a good student of it


def sound_of(path: Path) -> tuple[np.ndarray, int]:
    """A file's sound as mono samples, and their rate."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", 16000)
        pieces = [p.to_ndarray()[0] for f in container.decode(audio=0) for p in resampler.resample(f)]
    return np.concatenate(pieces), 16000


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mov", "aac"), ("a.webm", "opus")])
def test_sound_is_carried_over(drawn: list[np.ndarray], tmp_path: Path, name: str, codec: str) -> None:
    silence, spoken = np.zeros(17640, np.float32), vowel((740, 1180, 2500), 120.0)
    voice = write_sound(tmp_path / "voice.wav", np.concatenate([silence, spoken, silence]))
    assert has_sound(voice)
    with open_video(tmp_path / name, 10.0, sound=voice) as video:
        write_frames(drawn, video)
    with av.open(str(tmp_path / name)) as container:
        audio, images = container.streams.audio[0], container.streams.video[0]
        assert audio.codec_context.name == codec
        assert sum(1 for _ in container.decode(images)) == COUNT
    sound, rate = sound_of(tmp_path / name)
    assert len(sound) / rate == pytest.approx(COUNT / 10, abs=0.1)  # as long as the images
    assert np.abs(sound[: int(0.35 * rate)]).max() < 0.05
    assert np.abs(sound[int(0.45 * rate) : int(0.65 * rate)]).max() > 0.2


def test_sound_that_begins_before_the_images_is_cut_there(drawn: list[np.ndarray], tmp_path: Path) -> None:
    """A recording whose sound begins 0.4 s before its images, with a click 0.6 s after its beginning."""
    recording, rate = tmp_path / "face.mkv", 48000
    sound = np.zeros(rate, np.float32)
    sound[int(0.6 * rate) : int(0.65 * rate)] = 0.9
    with av.open(str(recording), "w") as container:
        images, audio = (
            container.add_stream("mpeg4", rate=10),
            container.add_stream("pcm_s16le", rate=rate, layout="mono"),
        )
        images.width, images.height, images.pix_fmt = 64, 64, "yuv420p"
        piece = av.AudioFrame.from_ndarray((sound[None] * 32767).astype(np.int16), format="s16", layout="mono")
        piece.rate, piece.pts = rate, 0
        container.mux(audio.encode(piece))
        for number in range(5):
            image = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * number, np.uint8), format="rgb24")
            image.pts, image.time_base = number + 4, Fraction(1, 10)
            container.mux(images.encode(image))
        container.mux(images.encode(None))
    with open_video(tmp_path / "a.mp4", 10.0, sound=recording) as video:
        write_frames(drawn, video)
    heard, found = sound_of(tmp_path / "a.mp4")
    assert np.abs(heard).argmax() / found == pytest.approx(0.22, abs=0.06)  # encoded in pieces of 21 ms


def test_a_format_without_sound_stays_without(drawn: list[np.ndarray], tmp_path: Path) -> None:
    voice = write_sound(tmp_path / "voice.wav", vowel((740, 1180, 2500), 120.0))
    with open_video(tmp_path / "a.gif", 10.0, sound=voice) as video:
        write_frames(drawn, video)
    assert not has_sound(tmp_path / "a.gif")
    assert not has_sound(tmp_path / "none.wav")


def test_the_command_on_a_voice_and_a_face(
    tracker_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    toy_student().save("student")
    voice = np.concatenate([vowel((740, 1180, 2500), 120.0), np.zeros(4410, np.float32)])
    write_sound(tmp_path / "voice.wav", voice)
    write_video(tmp_path / "face.mp4", [face(0, float(4 < i < 9)) for i in range(12)], 20, voice)
    for poses, seconds in (("voice.wav", 0.6), ("face.mp4", 0.55)):
        main(["animate", "model=student", f"poses={poses}", "fps=10", "out=out.mp4", "runtime=folded"])
        images = decoded(tmp_path / "out.mp4")
        assert len(images) == pytest.approx(10 * seconds + 1, abs=1)
        assert max(np.abs(image.astype(int) - images[0]).max() for image in images) > 20  # it moves
        sound, rate = sound_of(tmp_path / "out.mp4")
        assert np.abs(sound[: rate // 2]).max() > 0.2


def test_smoothing_of_a_track_takes_jitter_and_no_time() -> None:
    times = np.arange(200) / 30
    clean = POSE_PARAMETERS.rest(200)
    head = POSE_PARAMETERS.index("head_y")
    clean[:, head] = torch.from_numpy(0.6 * np.sin(2 * times)).float()
    noisy = clean.clone()
    noisy[:, head] += torch.from_numpy(np.random.default_rng(0).normal(0, 0.03, 200)).float()
    track = Track(noisy, times)
    smooth = track.smoothed(0.5).poses[20:-20, head]
    assert (smooth - clean[20:-20, head]).std() < 0.6 * (noisy - clean)[20:-20, head].std()
    lags = [float((smooth[5:-5] - clean[20 + lag : -20 + lag, head][5:-5]).square().mean()) for lag in range(-3, 4)]
    assert int(np.argmin(lags)) == 3  # no lag
    assert track.smoothed(0.0) is track

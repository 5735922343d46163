"""Poses: the loaders of poses, tracks, captures and sound."""

from __future__ import annotations

import base64
import io
import itertools
import json
import struct
import wave
from pathlib import Path

import formats
import mutants
import numpy as np
from fuzz_models import spoil_state
from loaders import Files, Loader, hold, saved
from mutants import Mutant, spoil_bytes
from torch import Tensor

from thadistill.data.poses import load_poses, sample_poses
from thadistill.drive.names import BLENDSHAPES
from thadistill.drive.sound import read_samples
from thadistill.drive.track import read_track
from thadistill.pose import POSE_PARAMETERS

POSES = sample_poses(3, 0)


def npy_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _pose_files() -> Files:
    names = ",".join(POSE_PARAMETERS)
    rows = "\n".join(",".join(f"{value:.4f}" for value in pose) for pose in POSES.tolist())
    return {"a.npy": npy_bytes(POSES.numpy()), "b.pt": saved(POSES), "c.csv": f"{names}\n{rows}\n".encode()}


def _spoil_poses(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    if generator.random() < 0.25:
        return spoil_bytes(data, generator)
    if name.endswith(".npy"):
        return formats.spoil_npy(data, generator)
    return (
        mutants.spoil_table(data.decode(), generator) if name.endswith(".csv") else spoil_state(name, data, generator)
    )


def _hold_poses(poses: Tensor) -> None:
    hold(poses.ndim == 2 and poses.shape[1] == 45 and len(poses) > 0, f"poses of shape {tuple(poses.shape)}")
    hold(bool((poses == POSE_PARAMETERS.clamp(poses)).all()), "a pose out of its range")


def _read_poses(folder: Path) -> None:
    for path in folder.iterdir():
        _hold_poses(load_poses(path))


def _read_track(folder: Path) -> None:
    for path in folder.iterdir():
        track = read_track(path)
        hold(bool(np.isfinite(track.times).all()), "times that are not finite")
        _hold_poses(track.poses)
        _hold_poses(track.at(1.0))


def _track_files() -> Files:
    pose = dict(zip(POSE_PARAMETERS, POSES[0].tolist(), strict=True))
    timed = [{"time": 0.1 * i, "pose": POSES[i].tolist()} for i in range(2)]
    return {
        "a.json": json.dumps({"fps": 20, "poses": [{"head_x": 0.5}, pose]}).encode(),
        "b.json": json.dumps(timed).encode(),
    }


def _spoil_track(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    return spoil_bytes(data, generator) if generator.random() < 0.2 else mutants.spoil_json(json.loads(data), generator)


def _osc(address: str, *arguments: str | float) -> bytes:
    texts = [address, "," + "".join("s" if isinstance(one, str) else "f" for one in arguments)]
    made = b"".join(text.encode() + bytes(4 - len(text.encode()) % 4) for text in texts)
    for one in arguments:
        made += one.encode() + bytes(4 - len(one) % 4) if isinstance(one, str) else struct.pack(">f", one)
    return made


def _packets() -> list[tuple[str, int, bytes]]:
    parts = "|".join(f"{name}&{10 + index}" for index, name in enumerate(BLENDSHAPES[:8]))
    blend = _osc("/VMC/Ext/Blend/Val", "jawOpen", 0.5), _osc("/VMC/Ext/Blend/Apply")
    return [
        ("ifacialmocap", 49983, f"{parts}|=head#1,2,3,0,0,0|".encode()),
        ("vmc", 39539, b"#bundle\0" + bytes(8) + b"".join(struct.pack(">i", len(one)) + one for one in blend)),
        ("openseeface", 11573, struct.pack("<di4fBf4f", 1.0, 0, 640, 360, 1, 1, 1, 0.1, 0, 0, 0, 1) + bytes(1724)),
    ]


def _capture_files() -> Files:
    lines, pcap, text = [], struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1), b""
    for second, (name, port, packet) in enumerate(_packets()):
        line = {"time": 0.1 * second, "protocol": name, "packet": base64.b64encode(packet).decode()}
        lines.append(json.dumps(line))
        ip = struct.pack(">BBHHHBBHII", 0x45, 0, 28 + len(packet), 0, 0, 64, 17, 0, 1, 2)
        frame = bytes(12) + b"\x08\0" + ip + struct.pack(">HHHH", 5, port, 8 + len(packet), 0) + packet
        pcap += struct.pack("<IIII", second, 0, len(frame), len(frame)) + frame
        text += f"{0.1 * second}\t".encode() + _packets()[0][2] + b"\n"
    return {"a.jsonl": "\n".join(lines).encode(), "b.pcap": pcap, "c.txt": text}


def _spoil_capture(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    if not name.endswith(".jsonl") or generator.random() < 0.3:
        return spoil_bytes(data, generator)
    lines = data.splitlines()
    number = int(generator.integers(len(lines)))
    lines[number] = mutants.spoil_json(json.loads(lines[number]), generator).content
    return Mutant(b"\n".join(lines))


def _live_link_files() -> Files:
    names = [f"{name[0].upper()}{name[1:]}" for name in BLENDSHAPES]
    rows = [[f"10:00:0{second}:05.5", "61", *["0.2"] * len(names), "0.1", "0.2", "0.3"] for second in range(3)]
    header = ["Timecode", "BlendShapeCount", *names, "HeadYaw", "HeadPitch", "HeadRoll"]
    return {"take.csv": "\n".join(",".join(row) for row in [header, *rows]).encode()}


def spoil_csv(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    return spoil_bytes(data, generator) if generator.random() < 0.25 else mutants.spoil_table(data.decode(), generator)


def _sound_files() -> Files:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes((np.sin(np.arange(800) / 6) * 9000).astype("<i2").tobytes())
    return {"a.wav": file.getvalue()}


def _read_sound(folder: Path) -> None:
    pieces = list(itertools.islice(read_samples(folder / "a.wav"), 1000))
    hold(all(piece.ndim == 1 for piece in pieces), "samples of another form")


POSE_LOADERS = {
    "poses (.npy, .pt, .csv)": Loader(150, _pose_files, _spoil_poses, _read_poses),
    "track (.json)": Loader(100, _track_files, _spoil_track, _read_track),
    "capture (.jsonl, .pcap, .txt)": Loader(60, _capture_files, _spoil_capture, _read_track),
    "Live Link take (.csv)": Loader(40, _live_link_files, spoil_csv, _read_track),
    "sound (.wav)": Loader(10, _sound_files, lambda name, data, generator: spoil_bytes(data, generator), _read_sound),
}

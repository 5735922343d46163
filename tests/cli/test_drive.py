"""drive as a process: packets to a video, a pipe and a page, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import av
import numpy as np
import pytest

from tests.serve.test_serve import run
from tests.students import toy_student
from thadistill.drive import read_track
from thadistill.pose import POSE_PARAMETERS

HEAD_Y = POSE_PARAMETERS.index("head_y")


def packet(degrees: float) -> bytes:
    """What iFacialMocap sends of a face that has turned its head."""
    return f"jawOpen&30|eyeBlink_L&0|=head#0,{degrees:.3f},0,0,0,0|rightEye#0,0,0|leftEye#0,0,0|".encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("driven")
    toy_student(0).save(found / "one")
    return found


@pytest.fixture
def phone() -> Iterator[int]:
    """A phone that sends sixty packets a second to a port of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stop = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not stop.wait(1 / 60):
                sender.sendto(packet(8 * np.sin(time.monotonic())), ("127.0.0.1", port))

    thread = threading.Thread(target=send)
    thread.start()
    yield port
    stop.set()
    thread.join()


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "thadistill.cli", "drive", "model=one", "open=false", "port=0", *arguments],
        cwd=folder,
        env={**os.environ, "THADISTILL_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
def test_packets_to_a_video_that_ctrl_c_finishes(folder: Path, phone: int) -> None:
    process = start(
        folder, "source=ifacialmocap", f"listen_port={phone}", "sink=a.mp4", "record=a.json", "runtime=folded"
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob(".a.json.*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert b"Traceback" not in said
    assert b"ifacialmocap" in said.lower()
    assert re.search(rb"latency [\d.]+ ms, p95 [\d.]+ ms", said)
    with av.open(str(folder / "a.mp4")) as container:
        stream = container.streams.video[0]
        times = [frame.time for frame in container.decode(stream)]
    assert times[-1] == pytest.approx(4, abs=2)
    assert np.all(np.diff(times) > 0)
    track = read_track(folder / "a.json")
    assert track.seconds == pytest.approx(times[-1], abs=1)
    assert np.ptp(track.poses[:, HEAD_Y].numpy()) > 0.3
    assert not list(folder.glob(".a.*"))


@pytest.mark.slow
def test_raw_frames_to_a_pipe(folder: Path, phone: int) -> None:
    process = start(folder, "source=ifacialmocap", f"listen_port={phone}", "sink=stdout", "fps=10", "runtime=folded")
    assert process.stdout is not None
    frame = process.stdout.read(512 * 512 * 4)
    assert np.frombuffer(frame, np.uint8).reshape(512, 512, 4)[200, 256, 3] > 200
    process.stdout.read(512 * 512 * 4)
    process.stdout.close()  # the program that reads has ended
    assert process.wait(timeout=30) == 2
    assert process.stderr is not None
    assert b"thadistill: the program that reads the frames has ended" in process.stderr.read()


@pytest.mark.slow
def test_pages_are_sent_poses(folder: Path, phone: int) -> None:
    process = start(folder, "source=ifacialmocap", f"listen_port={phone}")
    try:
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)

        async def follow() -> tuple[dict[str, str], list[np.ndarray], list[int]]:
            refused = []
            poses = []
            async with aiohttp.ClientSession() as session:
                for origin in ("http://evil.example", None):
                    try:
                        await session.ws_connect(f"{address}drive", headers={"Origin": origin} if origin else {})
                    except aiohttp.WSServerHandshakeError as error:
                        refused.append(error.status)
                async with session.ws_connect(f"{address}drive", headers={"Origin": address.rstrip("/")}) as ws:
                    about = {}
                    while len(poses) < 60:
                        message = await ws.receive(timeout=20)
                        if message.type == aiohttp.WSMsgType.TEXT:
                            about = json.loads(message.data)
                        else:
                            poses.append(np.frombuffer(message.data[8:], "<f4"))
                            await ws.send_bytes(message.data[:8])
                            await ws.send_bytes(b"what?")  # is no stamp
            return about, poses, refused

        about, poses, refused = run(follow())
        assert refused == [403, 403]
        assert about["state"] == "driven"
        assert "ifacialmocap" in about["source"].lower()
        assert all(pose.shape == (45,) for pose in poses)
        assert np.ptp([pose[HEAD_Y] for pose in poses]) > 0.05
    finally:
        process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert b"Traceback" not in said

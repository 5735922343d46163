"""The server as a process: what it answers, what it refuses, the frames it streams, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import aiohttp
import numpy as np
import pytest
import torch

from tests.cache import new_cache
from tests.students import toy_student
from thadistill.data.poses import sample_poses
from thadistill.runtime import compile_model

Result = TypeVar("Result")


@contextlib.contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``thadistill serve`` in a folder: the process, and the port that its first line names."""
    cache = folder / "cache" if (folder / "cache").exists() else new_cache(folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "thadistill.cli", "serve", "port=0", "open=false", *arguments],
        cwd=folder,
        env={**os.environ, "THADISTILL_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), process.communicate()[1]
        assert line.endswith("/\n")
        yield process, int(line.split(":")[2].strip("/\n"))
    finally:
        process.kill()
        process.communicate()


def run(coroutine: Coroutine[None, None, Result]) -> Result:
    """Runs a coroutine in a thread of its own: Playwright's fixtures leave a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("served")
    toy_student(0).save(found / "one")
    toy_student(1).save(found / "runs" / "my run" / "character_model")
    return found


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    with serving(folder, "model=one,runs/my run/character_model") as (_, found):
        yield found


def ask(port: int, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    """A request as it stands: nothing tidies the path."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    response = connection.getresponse()
    return response.status, response.headers, response.read()


def test_page_with_its_policy_and_types(port: int) -> None:
    status, headers, body = ask(port, "/")
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert b'name="thadistill-native"' in body
    policy = headers["Content-Security-Policy"]
    assert "'unsafe-eval'" not in policy
    assert "unsafe-inline" not in policy
    assert "default-src 'self'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    for path, kind in (("/pose.js", "text/javascript"), ("/engines/kernels.wasm", "application/wasm")):
        status, headers, _ = ask(port, path)
        assert (status, headers["Content-Type"].split(";")[0]) == (200, kind)


def test_menu_and_characters(port: int) -> None:
    index = json.loads(ask(port, "/characters/index.json")[2])
    assert [entry["name"] for entry in index] == ["one", "my run"]
    for entry in index:
        status, _, body = ask(port, f"/characters/{entry['file']}")
        assert status == 200
        assert len(body) > 10_000


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/characters/../../../etc/passwd",
        "/characters/%2e%2e%2fone%2fcharacter.png",
        "//etc/passwd",
        "/engines/kernels.cpp",
        "/web/index.html",
        "/\\..\\..\\etc\\passwd",
        "/characters/absent.safetensors",
    ],
)
def test_only_its_own_files(port: int, path: str) -> None:
    status, headers, body = ask(port, path)
    assert status == 404
    assert b"root:" not in body
    assert "default-src 'self'" in headers["Content-Security-Policy"]


def test_names_that_are_not_this_machine(port: int) -> None:
    assert ask(port, "/", Host=f"evil.example:{port}")[0] == 421
    assert ask(port, "/", Host=f"localhost:{port}")[0] == 200


def test_frames_of_the_native_engine(port: int, folder: Path) -> None:
    """What the socket streams is what the runtime draws, pixel for pixel, and nothing lies outside its rectangle."""
    poses = sample_poses(5, seed=3)
    from thadistill.student import CharacterModel

    runtime = compile_model(CharacterModel.load(folder / "one"), "reduced")

    async def frames() -> list[bytes]:
        origin = {"Origin": f"http://127.0.0.1:{port}"}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{port}/native?character=one.safetensors", headers=origin) as ws,
        ):
            assert "runtime" in await ws.receive_json(timeout=120)
            for pose in poses:  # all at once: they are answered in order
                await ws.send_bytes(pose.numpy().tobytes())
            return [await ws.receive_bytes(timeout=60) for _ in poses]

    for pose, frame in zip(poses, run(frames()), strict=True):
        top, left, height, width = np.frombuffer(frame[:16], "<u4").tolist()
        image = np.zeros((512, 512, 4), np.uint8)
        image[top : top + height, left : left + width] = np.frombuffer(frame[16:], np.uint8).reshape(height, width, 4)
        np.testing.assert_array_equal(image, runtime.rgba8(pose))


@pytest.mark.parametrize("message", [b"", b"123", bytes(176), np.full(45, np.nan, "<f4").tobytes(), "text"])
def test_messages_that_are_no_pose(port: int, message: bytes | str) -> None:
    async def answer() -> dict[str, str]:
        origin = {"Origin": f"http://127.0.0.1:{port}"}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{port}/native?character=one.safetensors", headers=origin) as ws,
        ):
            await ws.receive_json(timeout=120)
            await (ws.send_str(message) if isinstance(message, str) else ws.send_bytes(message))
            return await ws.receive_json(timeout=60)

    assert "expected" in run(answer())["error"]
    assert ask(port, "/")[0] == 200


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null", "http://127.0.0.1:1"])
def test_sockets_of_other_pages_are_refused(port: int, origin: str | None) -> None:
    async def status() -> int:
        async with aiohttp.ClientSession() as session:
            try:
                await session.ws_connect(
                    f"http://127.0.0.1:{port}/native?character=one.safetensors",
                    headers={} if origin is None else {"Origin": origin},
                )
            except aiohttp.WSServerHandshakeError as error:
                return error.status
        return 101

    assert run(status()) == 403


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly(folder: Path, name: signal.Signals) -> None:
    with serving(folder, "model=one") as (process, port):
        assert ask(port, "/")[0] == 200
        process.send_signal(name)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "Traceback" not in said


def test_a_taken_port_is_one_line(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "thadistill.cli", "serve", f"port={port}", "open=false", "model=one"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        f"thadistill: port {port} of 127.0.0.1 is taken; expected a free one"
    )
    assert done.stdout == ""


def test_without_a_model_the_newest_student_or_the_puppet(folder: Path, tmp_path: Path) -> None:
    with serving(tmp_path) as (_, port):
        assert [entry["name"] for entry in json.loads(ask(port, "/characters/index.json")[2])] == ["puppet"]
    toy_student(2).save(tmp_path / "outputs" / "distill" / "mine-tha3-warm" / "character_model")
    with serving(tmp_path) as (_, port):
        assert [entry["name"] for entry in json.loads(ask(port, "/characters/index.json")[2])] == ["mine-tha3-warm"]


def test_frame_maker_sees_rotations(folder: Path) -> None:
    """A toy student moves at all: otherwise the comparison above would compare stills."""
    runtime = compile_model(toy_student(0), "exact")
    rest, turned = torch.zeros(45), torch.zeros(45)
    turned[39] = 1
    assert (runtime.rgba8(rest) != runtime.rgba8(turned)).any()

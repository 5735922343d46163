"""Poses: what drives the character, to the pages that follow it, over a WebSocket; drive/remote.js is its other end.

A pose is a little-endian float64, seconds of the server's clock at which what made it arrived (0: nothing new did), and 45
little-endian float32. A page sends those seconds back, alone, once its frame is on the canvas. Text is JSON: ``{"source":
name, "state": "waiting" | "driven" | "held" | "resting" | "failed"}``, when it changes.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from aiohttp import WSMsgType, web
from jaxtyping import Float
from torch import Tensor

_STAMP = struct.Struct("<d")
_LONGEST_S = 10.0  # stamps that come back later than this tell nothing
_SEND_S = 10.0  # a page that takes nothing for this long is gone


class PoseStream:
    """Sends the newest pose to every page; a slow page gets fewer, and none waits for another.

    Args:
        drawn: is given the milliseconds from a pose's arrival until a page says that its frame is on the canvas.

    ``publish`` and ``tell`` may be called from any thread.
    """

    def __init__(self, drawn: Callable[[float], object] = lambda _: None) -> None:
        self._drawn = drawn
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: set[asyncio.Event] = set()
        self._pose: bytes | None = None
        self._about: str | None = None

    @property
    def pages(self) -> int:
        """How many follow."""
        return len(self._news)

    def publish(self, pose: Float[Tensor, " 45"], arrived: float | None) -> None:
        """The pose that pages are to show now."""
        self._pose = _STAMP.pack(arrived or 0.0) + pose.numpy().astype("<f4").tobytes()
        self._wake()

    def tell(self, source: str, state: str) -> None:
        """What drives the character, and how that goes."""
        self._about = json.dumps({"source": source, "state": state})
        self._wake()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(self._notify)

    def _notify(self) -> None:
        for news in self._news:
            news.set()

    async def follow(self, socket: web.WebSocketResponse) -> None:
        """Serves one page until it leaves."""
        self._loop = asyncio.get_running_loop()
        news = asyncio.Event()
        news.set()
        self._news.add(news)
        sending = asyncio.create_task(self._send(socket, news))
        try:
            async for message in socket:
                if message.type != WSMsgType.BINARY or len(message.data) != _STAMP.size:
                    continue
                passed = time.monotonic() - _STAMP.unpack(message.data)[0]
                if math.isfinite(passed) and 0 <= passed < _LONGEST_S:
                    self._drawn(1000 * passed)
        finally:
            self._news.discard(news)
            sending.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await sending

    async def _send(self, socket: web.WebSocketResponse, news: asyncio.Event) -> None:
        about: str | None = None
        pose: bytes | None = None
        try:
            while True:
                await news.wait()
                news.clear()
                async with asyncio.timeout(_SEND_S):
                    if self._about is not None and self._about is not about:
                        about = self._about
                        await socket.send_str(about)
                    if self._pose is not None and self._pose is not pose:
                        pose = self._pose
                        await socket.send_bytes(pose)
        except (ConnectionError, TimeoutError, RuntimeError):
            await socket.close()

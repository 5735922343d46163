"""Native engine: poses in, raw frames out, over a WebSocket; the page's native.js is its other end.

A pose is 45 little-endian float32. A frame is four little-endian uint32 (top, left, height, width of the rectangle that the
character can reach) and that rectangle's pixels, straight sRGB RGBA. The first message is text: ``{"runtime": name}``, or
``{"error": line}``.
"""

from __future__ import annotations

import asyncio
import json
import math
from concurrent.futures import Executor

import numpy as np
import torch
from aiohttp import WSMsgType, web

from thadistill.errors import UserError
from thadistill.pose import POSE_SIZE
from thadistill.runtime import Runtime, compile_model, resolve
from thadistill.student import CharacterModel

_POSE_BYTES = 4 * POSE_SIZE
_MOST_WAITING = 4  # poses; the page keeps two under way


class FrameMaker:
    """One character's runtime and the rectangle of its frames."""

    def __init__(self, model: CharacterModel) -> None:
        runtime: Runtime = compile_model(model, "reduced")
        visible = getattr(runtime, "visible", None)
        self.top, self.left, self.height, self.width = _reach(visible)
        self.runtime = compile_model(model, "reduced", crop=self.crop) if visible is not None else runtime
        self.name = f"{resolve('reduced', model.image.device.type)}, {torch.get_num_threads()} threads"
        self._header = np.array([self.top, self.left, self.height, self.width], "<u4").tobytes()

    @property
    def crop(self) -> tuple[int, int, int, int]:
        """The rectangle as runtimes take it: top, bottom, left, right."""
        return self.top, self.top + self.height, self.left, self.left + self.width

    def frame(self, pose: bytes) -> bytes:
        """The frame of a pose, as the WebSocket carries it.

        Raises: UserError when the message is no pose.
        """
        if len(pose) != _POSE_BYTES:
            raise UserError(f"a message of {len(pose)} bytes; expected a pose of {_POSE_BYTES}")
        values = np.frombuffer(pose, "<f4")
        if not all(map(math.isfinite, values)):
            raise UserError("a pose with values that are not finite; expected 45 numbers")
        pixels = self.runtime.rgba8(torch.from_numpy(values.copy()))
        return self._header + pixels.tobytes()


def _reach(visible: np.ndarray | None) -> tuple[int, int, int, int]:
    if visible is None or not visible.any():
        return 0, 0, 512, 512
    rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
    top, left = int(rows[0]), int(columns[0])
    return top, left, int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left


async def stream(socket: web.WebSocketResponse, maker: FrameMaker, executor: Executor) -> None:
    """Answers each pose with its frame, in order, until the page leaves; one is drawn while the last is sent."""
    waiting: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_WAITING)

    async def receive() -> None:
        async for message in socket:
            if message.type == WSMsgType.BINARY:
                await waiting.put(message.data)
            elif message.type == WSMsgType.TEXT:
                await waiting.put(b"")  # refused as any other message that is no pose
        await waiting.put(None)

    receiver = asyncio.create_task(receive())
    loop = asyncio.get_running_loop()
    sending: asyncio.Task[None] | None = None
    try:
        while (pose := await waiting.get()) is not None:
            try:
                frame = await loop.run_in_executor(executor, maker.frame, pose)
            except UserError as error:
                await socket.send_str(json.dumps({"error": str(error)}))
                break
            if sending is not None:
                await sending
            sending = asyncio.create_task(socket.send_bytes(frame))
        if sending is not None:
            await sending
    except (ConnectionError, asyncio.CancelledError):
        pass  # the page has left, or the server ends
    finally:
        receiver.cancel()

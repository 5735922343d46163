"""App: the server of the browser player, on loopback unless configured otherwise."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import sys
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, web

from thadistill.console import console
from thadistill.errors import UserError
from thadistill.export.site import INDEX, index_of, media_type
from thadistill.export.web import Exported
from thadistill.serve.hosts import is_answered, is_any, is_loopback, is_same_origin
from thadistill.serve.native import FrameMaker, stream
from thadistill.serve.poses import PoseStream

NATIVE = "native"
DRIVE = "drive"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; worker-src 'self' blob:; style-src 'self'; object-src 'none'; base-uri 'none'; "
        "frame-ancestors 'self'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}
_SOCKETS = web.AppKey("sockets", set)


class Server:
    """The player's files and characters, answered from memory.

    Args:
        files: the site without its characters, by path.
        students: what the menu shows, the first one first; a character is packed when it is first asked for.
        host: the address to listen on, which decides whose requests are answered.
        poses: what pages follow, where something drives the character.
    """

    def __init__(
        self, files: Mapping[str, bytes], students: Sequence[Exported], host: str, poses: PoseStream | None = None
    ) -> None:
        self._files = dict(files) | {INDEX: index_of({student.name: student.file for student in students})}
        self._poses = poses
        offered = [NATIVE] if poses is None else [NATIVE, DRIVE]
        self._files["index.html"] = _with_sockets(self._files["index.html"], offered)
        self._students = {student.file: student for student in students}
        self._packed: dict[str, bytes] = {}
        self._makers: dict[str, FrameMaker] = {}
        self._host = host
        # one worker: a runtime takes one call at a time, and has all cores for it
        self._executor = ThreadPoolExecutor(1, "frames")

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(middlewares=[self._guard])
        app[_SOCKETS] = set()
        app.router.add_get(f"/{NATIVE}", self._native)
        if self._poses is not None:
            app.router.add_get(f"/{DRIVE}", self._drive)
        app.router.add_get("/characters/{file}", self._character)
        app.router.add_get("/{path:.*}", self._file)
        app.on_shutdown.append(_close_sockets)
        return app

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not is_answered(request.headers.get("Host"), self._host):
            return web.Response(status=421, text="this server does not go by that name\n", headers=_HEADERS)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(_HEADERS)
            raise
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _file(self, request: web.Request) -> web.Response:
        path = request.match_info["path"] or "index.html"
        if path not in self._files:
            raise web.HTTPNotFound(text=f"{path} is no file of the player\n")
        return web.Response(body=self._files[path], content_type=media_type(path))

    async def _character(self, request: web.Request) -> web.Response:
        file = request.match_info["file"]
        if f"characters/{file}" in self._files:
            return web.Response(body=self._files[f"characters/{file}"], content_type=media_type(file))
        if file not in self._students:
            raise web.HTTPNotFound(text=f"{file} is no character of this server\n")
        if file not in self._packed:
            try:
                packed = await asyncio.get_running_loop().run_in_executor(self._executor, self._students[file].pack)
            except UserError as error:
                console.print(f"{self._students[file].name}: {error}", soft_wrap=True)
                raise web.HTTPInternalServerError(text=f"{error}\n") from None
            self._packed[file] = packed
        return web.Response(body=self._packed[file], content_type=media_type(file))

    @asynccontextmanager
    async def _socket(self, request: web.Request) -> AsyncIterator[web.WebSocketResponse]:
        """A WebSocket of one of this server's own pages, closed with the server."""
        if not is_same_origin(request.headers.get("Origin"), request.headers.get("Host")):
            raise web.HTTPForbidden(text="only this server's own page may open it\n")
        socket = web.WebSocketResponse(compress=False, max_msg_size=4096, heartbeat=30)
        await socket.prepare(request)
        request.app[_SOCKETS].add(socket)
        try:
            yield socket
        finally:
            request.app[_SOCKETS].discard(socket)

    async def _drive(self, request: web.Request) -> web.StreamResponse:
        assert self._poses is not None
        async with self._socket(request) as socket:
            await self._poses.follow(socket)
        return socket

    async def _native(self, request: web.Request) -> web.StreamResponse:
        async with self._socket(request) as socket:
            file = request.query.get("character", "")
            if file not in self._students:
                await socket.send_str(json.dumps({"error": "the server does not have this character"}))
                return socket
            try:
                maker = await asyncio.get_running_loop().run_in_executor(self._executor, self._maker, file)
            except UserError as error:
                await socket.send_str(json.dumps({"error": str(error)}))
                return socket
            await socket.send_str(json.dumps({"runtime": maker.name}))
            await stream(socket, maker, self._executor)
        return socket

    def _maker(self, file: str) -> FrameMaker:
        if file not in self._makers:
            self._makers[file] = FrameMaker(self._students[file].model)
        return self._makers[file]

    def close(self) -> None:
        """Ends the worker."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _with_sockets(page: bytes, names: Sequence[str]) -> bytes:
    """The page with the addresses of WebSockets, which a static site lacks."""
    lines = "".join(f'<meta name="thadistill-{name}" content="{name}">\n' for name in names)
    return page.replace(b"</head>", f"{lines}</head>".encode(), 1)


async def _close_sockets(app: web.Application) -> None:
    for socket in [*app[_SOCKETS]]:
        with suppress(Exception):
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server has ended")


def serve(server: Server, host: str, port: int, browse: bool) -> None:
    """Listens until it is interrupted. The first line on stdout is the address, once it answers.

    Args:
        host, port: where to listen; port 0 is any free one.
        browse: open the address in the user's browser.

    Raises: UserError when the address is taken or not this machine's.
    """
    try:
        asyncio.run(_serve(server, host, port, browse))
    except KeyboardInterrupt:
        pass  # where signals have no handlers (Windows)
    finally:
        server.close()


async def _serve(server: Server, host: str, port: int, browse: bool) -> None:
    ended = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(name, ended.set)
    async with listening(server, host, port) as address:
        introduce(address, host)
        if browse:
            await asyncio.get_running_loop().run_in_executor(None, webbrowser.open, address)
        await ended.wait()


@asynccontextmanager
async def listening(server: Server, host: str, port: int) -> AsyncIterator[str]:
    """Answers requests within the block, which gets the address.

    Raises: UserError when the address is taken or not this machine's.
    """
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=2)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise _cannot_listen(error, host, port) from None
        reached = host
        if is_any(host):  # which no browser opens; loopback is one of them
            reached = "::1" if ":" in host else "127.0.0.1"
        shown = f"[{reached}]" if ":" in reached else reached
        yield f"http://{shown}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def introduce(address: str, host: str) -> None:
    """Prints the address, the first line on stdout, and who can reach it."""
    print(address, flush=True)
    if not is_loopback(host):
        named = f"port {urlsplit(address).port} of this machine" if is_any(host) else address
        console.print(f"other machines can reach {named}; their browsers allow webcams on https only", soft_wrap=True)
    console.print("Ctrl-C ends it")


def _cannot_listen(error: OSError, host: str, port: int) -> UserError:
    if error.errno == errno.EADDRINUSE:
        return UserError(
            f"port {port} of {host} is taken; expected a free one: give port=0 for any, or end what has it"
        )
    if error.errno == errno.EACCES:
        return UserError(f"port {port} may not be opened by this user; expected one above 1023: give port=")
    return UserError(
        f"host={host} cannot be listened on ({error.strerror or error}); expected an address of this machine"
    )


def can_browse() -> bool:
    """Whether there is a browser with a window here; on a bare terminal a text browser would take it over."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

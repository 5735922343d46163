"""Browser sink: poses of a live character to the player's pages, which draw them by their own engines."""

from __future__ import annotations

import asyncio
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from thadistill.assets import facetracking_folder
from thadistill.drive.sinks.base import Shown
from thadistill.errors import UserError
from thadistill.export.site import face_tracking_files, player_files
from thadistill.export.web import Exported
from thadistill.serve.app import Server, introduce, listening
from thadistill.serve.poses import PoseStream


class BrowserSink:
    """The browser player, as ``thadistill serve`` has it, following poses. The first line on stdout is its address.

    Args:
        students: what the menu shows, the first one first.
        host, port: where to listen; port 0 is any free one.
        browse: open the page in the user's browser.
        fps: poses a second.

    Raises: UserError, when opened, when the address is taken or not this machine's.
    """

    takes_frames = False

    def __init__(
        self,
        students: Sequence[Exported],
        host: str = "127.0.0.1",
        port: int = 8420,
        browse: bool = False,
        fps: float = 60.0,
    ) -> None:
        self.name = "browser"
        self.fps = fps
        self.address = ""
        self.drawn_ms: list[float] = []
        self._stream = PoseStream(self._drawn)
        files = player_files() | face_tracking_files(facetracking_folder())
        self._server = Server(files, students, host, self._stream)
        self._host, self._port, self._browse = host, port, browse
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="browser player's server", daemon=True)

    def __enter__(self) -> BrowserSink:
        self._thread.start()
        self._ready.wait()
        if self._failed is not None:
            raise self._failed
        introduce(self.address, self._host)
        if self._browse:
            threading.Thread(target=webbrowser.open, args=(self.address,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._ended is not None:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(5)
        self._server.close()

    def take(self, shown: Shown) -> None:
        """Sends a pose to every page."""
        if self._failed is not None:
            raise UserError(f"the browser player's server has ended ({self._failed})")
        self._stream.publish(shown.pose, shown.arrived)

    def tell(self, source: str, state: str) -> None:
        """Pages say what drives the character."""
        self._stream.tell(source, state)

    def status(self) -> str:
        pages = self._stream.pages
        drawn = sorted(self.drawn_ms)
        until = f", drawn after {drawn[len(drawn) // 2]:.0f} ms" if drawn and pages else ""
        return f"{pages} page{'' if pages == 1 else 's'}{until}"

    def _drawn(self, ms: float) -> None:
        self.drawn_ms.append(ms)
        del self.drawn_ms[:-300]

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failed = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        async with listening(self._server, self._host, self._port) as self.address:
            self._ready.set()
            await self._ended.wait()

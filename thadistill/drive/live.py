"""Live: a source to a player until one of them ends; capture, frames and output each have a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from thadistill.drive.player import Player, PlayerStatus
from thadistill.drive.sources.base import Source
from thadistill.errors import UserError

RETRY_S: Final = 1.0  # between tries to open a source that failed
STATUS_S: Final = 0.25  # between looks at how it goes


class LiveStatus(NamedTuple):
    """How a live performance goes. ``problem``: why the source is gone, where it failed; it is tried again."""

    source: str
    sink: str
    problem: str | None
    watched: str
    player: PlayerStatus

    @property
    def state(self) -> str:
        """The player's, or ``failed``."""
        return self.player.state if self.problem is None else "failed"

    def line(self) -> str:
        """For a console."""
        player = self.player
        how = self.state if self.problem is None else f"failed, tried again: {self.problem}"
        parts = [f"{self.source}: {how}", f"{player.poses_per_second:.0f} poses/s"]
        sink = self.sink if not self.watched or self.watched == self.sink else f"{self.sink} ({self.watched})"
        parts.append(f"-> {sink} {player.fps:.0f} fps")
        if player.latency_ms is not None:
            parts.append(f"latency {player.latency_ms:.0f} ms, p95 {player.latency_p95_ms:.0f} ms")
        return "  ".join(parts)


def drive(
    source: Source,
    player: Player,
    stop: threading.Event,
    on_status: Callable[[LiveStatus], object] = lambda _: None,
) -> LiveStatus:
    """Lets a source drive a player until ``stop`` is set or the source's file ends; returns how it went at the end.

    A source that fails once it was open, such as a camera that was pulled out, is opened again until it is back;
    meanwhile the character is held, then at rest.

    Args:
        source, player: both entered.
        on_status: is given the status four times a second.

    Raises: UserError when the player's sink takes no more.
    """
    reader = _Reader(source, player, stop)
    reader.start()
    state: str | None = None
    try:
        while not stop.is_set() and not reader.ended.is_set():
            player.check()
            status = _status(source, player, reader)
            if status.state != state:
                state = status.state
                player.sink.tell(source.name, state)
            on_status(status)
            reader.ended.wait(STATUS_S)
        reader.check()
    finally:
        stop.set()
        reader.close()
    return _status(source, player, reader)


def _status(source: Source, player: Player, reader: _Reader) -> LiveStatus:
    return LiveStatus(source.name, player.sink.name, reader.problem, player.sink.status(), player.status())


class _Reader:
    """The thread that reads a source, and opens it again after it failed."""

    def __init__(self, source: Source, player: Player, stop: threading.Event) -> None:
        self.source, self.player, self.stop = source, player, stop
        self.ended = threading.Event()
        self.problem: str | None = None
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def check(self) -> None:
        """Raises what has ended the reading, if it was no end of a file."""
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """Waits for the thread; a source that does not return within seconds is left behind."""
        self._thread.join(3)

    def _run(self) -> None:
        try:
            self._read()
            while not self.stop.is_set() and self.problem is not None:
                if self.stop.wait(RETRY_S):
                    return
                try:
                    self.source.__enter__()
                except (UserError, OSError, RuntimeError) as error:
                    self.problem = _line(error)
                    continue
                self._read()
        except BaseException as error:
            self._failed = error
        finally:
            self.ended.set()

    def _read(self) -> None:
        """Reads an open source until it ends, is to stop, or fails; closes it then."""
        try:
            for timed in self.source.poses():
                if self.stop.is_set():
                    break
                if timed is not None:
                    self.problem = None
                    self.player.show(*timed)
            else:
                self.problem = None
        except (UserError, OSError, RuntimeError) as error:
            self.player.check()  # its end is no failure of the source
            self.problem = _line(error)
            self.source.__exit__(type(error), error, None)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

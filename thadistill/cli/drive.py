"""thadistill drive: a student moved live, from a source of motion to a sink."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.live import Live
from rich.text import Text

from thadistill.console import console
from thadistill.drive.blendshapes import BlendshapeMapper
from thadistill.drive.live import LiveStatus, drive
from thadistill.drive.player import Player
from thadistill.drive.sinks import SinkOptions, open_sink
from thadistill.drive.sources import SourceOptions, open_source
from thadistill.errors import UserError
from thadistill.export.students import find_students
from thadistill.runtime import compile_model
from thadistill.serve.app import can_browse


def run(config: DictConfig, out: Path) -> None:
    """Drives until it is interrupted, or the source's file ends; then says how it went."""
    students = find_students(config.model)
    if len(students) > 1 and config.sink != "browser":
        raise UserError(f"model={config.model} names {len(students)} students; expected one, or sink=browser")
    sink = open_sink(str(config.sink), _sink_options(config, students))
    source = open_source([name.strip() for name in config.source.split(",")], _source_options(config))
    runtime = compile_model(students[0].model, config.runtime) if sink.takes_frames else None
    record = None if config.record is None else str(config.record)
    smoothing = float(config.smoothing)
    began = time.monotonic()
    player = Player(runtime, sink, source.drives, smoothing, record)
    with _interruptible() as stop, source, player, _StatusLine() as line:
        status = drive(source, player, stop, line.show)
    console.print(_summary(status, player, time.monotonic() - began), soft_wrap=True)


def _number(given: int | str | None) -> int | str | None:
    """A device's number, which the command line takes as text, or its name."""
    return int(given) if isinstance(given, str) and given.isdigit() else given


def _source_options(config: DictConfig) -> SourceOptions:
    return SourceOptions(
        mapper=BlendshapeMapper(eyebrow_down=config.eyebrow_down, wink=config.wink),
        host=str(config.listen),
        port=config.listen_port,
        phone=config.phone,
        camera=_number(config.camera) or 0,
        microphone=_number(config.microphone),
        path=config.path,
        calibrate_s=float(config.calibrate_s),
        poses_fps=float(config.poses_fps),
        loop=config.loop,
        mirror=config.mirror,
    )


def _sink_options(config: DictConfig, students: Any) -> SinkOptions:
    return SinkOptions(
        fps=None if config.fps is None else float(config.fps),
        background=None if config.background is None else str(config.background),
        students=students,
        host=str(config.host),
        port=config.port,
        open=config.open and can_browse(),
        to=str(config.to),
    )


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set within the block, so that a file is finished."""
    stop = threading.Event()
    before = {name: signal.signal(name, lambda *_: stop.set()) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


class _StatusLine:
    """One line that is kept up to date on a terminal; elsewhere a line when the state changes."""

    def __init__(self) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._state: str | None = None

    def __enter__(self) -> _StatusLine:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)

    def show(self, status: LiveStatus) -> None:
        """Takes the newest status."""
        if self._live is not None:
            self._live.update(Text(status.line(), no_wrap=True, overflow="ellipsis"), refresh=True)
        elif status.state != self._state:
            console.print(status.line(), soft_wrap=True)
        self._state = status.state


def _summary(status: LiveStatus, player: Player, seconds: float) -> str:
    made = player.status()
    text = f"{seconds:.0f} s: {made.poses} poses from {status.source}, {made.frames} shown by {status.sink}"
    median, p95 = player.latency.at(0.5), player.latency.at(0.95)
    return text if median is None else f"{text}; latency {median:.1f} ms, p95 {p95:.1f} ms"

"""Player: poses as they come to a sink; frames are made while earlier ones are shown, and the newest pose wins."""

from __future__ import annotations

import threading
import time
from collections import deque
from types import TracebackType
from typing import Final, Generic, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from thadistill.drive.follower import Follower, State
from thadistill.drive.recording import Recording
from thadistill.drive.sinks.base import Shown, Sink
from thadistill.drive.sources.base import TimedPose
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS, POSE_SIZE
from thadistill.runtime import Runtime

Item = TypeVar("Item")

_SOONEST: Final = 0.8  # of the time between frames: a new pose that comes a little early does not wait for the rest
_LONGEST: Final = 2.0  # the same: without a new pose for this long, a frame of idle motion is made
_PATIENCE_S: Final = 5.0  # for a sink that does not return, when the player is closed
_BINS, _BIN_MS = 4000, 0.5
_LATELY: Final = 300  # frames


class Latest(Generic[Item]):
    """A slot between two threads that holds the newest item alone: nothing waits in line, so nothing grows old."""

    def __init__(self) -> None:
        self._filled = threading.Condition()
        self._item: Item | None = None
        self.replaced = 0

    def put(self, item: Item) -> None:
        """Leaves an item, in the place of one that nobody has taken."""
        with self._filled:
            self.replaced += self._item is not None
            self._item = item
            self._filled.notify()

    def take(self, timeout: float) -> Item | None:
        """The newest item, or None when none comes within ``timeout`` seconds."""
        with self._filled:
            if self._item is None and timeout > 0:
                self._filled.wait(timeout)
            item, self._item = self._item, None
            return item

    def wake(self) -> None:
        """Lets a waiting ``take`` return at once."""
        with self._filled:
            self._filled.notify_all()


class Latency:
    """Milliseconds of many frames, in memory that does not grow."""

    def __init__(self) -> None:
        self._bins = np.zeros(_BINS, np.int64)
        self._lately: deque[float] = deque(maxlen=_LATELY)

    def add(self, ms: float) -> None:
        """Counts one; those above two seconds count as two seconds."""
        self._bins[min(_BINS - 1, max(0, int(ms / _BIN_MS)))] += 1
        self._lately.append(ms)

    def at(self, share: float) -> float | None:
        """The quantile of all, to half a millisecond: 0.5 is the median. None of none."""
        total = int(self._bins.sum())
        if not total:
            return None
        return float(np.searchsorted(self._bins.cumsum(), share * total) + 0.5) * _BIN_MS

    def lately(self, share: float) -> float | None:
        """The quantile of the last frames."""
        return float(np.quantile(list(self._lately), share)) if self._lately else None


class Rate:
    """Events a second, lately."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=240)

    def count(self, now: float) -> None:
        self._times.append(now)

    def at(self, now: float, over: float = 2.0) -> float:
        """Over the last seconds."""
        return sum(now - one <= over for one in list(self._times)) / over


class PlayerStatus(NamedTuple):
    """How a player is doing. Milliseconds are from a pose's arrival until its frame is shown; None before the first."""

    state: State
    poses: int
    frames: int
    poses_per_second: float
    fps: float
    latency_ms: float | None
    latency_p95_ms: float | None


class Player:
    """Shows poses live.

    Args:
        runtime: the character, such as ``CharacterModel.load(DIR).compile("reduced")``; None for a sink that takes poses.
        sink: where it is shown, such as :func:`thadistill.drive.open_sink` gives.
        drives, smoothing: what the poses set, the rest moves by itself; 0 (none) to 1 (strong). See
            :class:`thadistill.drive.follower.Follower`.
        record: also writes the poses that were shown, into this ``.json`` file.

    Example:
        with open_source("ifacialmocap") as source, Player(fast, open_sink("me.mp4"), source.drives) as player:
            for timed in source.poses():
                if timed is not None:
                    player.show(*timed)
    """

    def __init__(
        self,
        runtime: Runtime | None,
        sink: Sink,
        drives: frozenset[str] = frozenset(POSE_PARAMETERS),
        smoothing: float = 0.5,
        record: str | None = None,
    ) -> None:
        if sink.takes_frames and runtime is None:
            raise UserError(f"{sink.name} shows frames; expected a runtime that makes them")
        self.sink = sink
        self.latency = Latency()
        self._runtime = runtime if sink.takes_frames else None
        self._recording = None if record is None else Recording(record)
        self._follower = Follower(drives, smoothing)
        self._poses: Latest[TimedPose] = Latest()
        self._shown: Latest[Shown] = Latest()
        self._ending = threading.Event()
        self._made = threading.Event()  # all frames are
        self._failed: BaseException | None = None
        self._arriving, self._showing = Rate(), Rate()
        self._arrived = self._frames = 0
        self._threads = [
            threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
            for name, work in (("frames", self._make), ("sink", self._show))
        ]

    def __enter__(self) -> Player:
        if self._recording is not None:
            self._recording.__enter__()
        try:
            self.sink.__enter__()
        except BaseException:
            if self._recording is not None:
                self._recording.__exit__(None, None, None)
            raise
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._poses.wake()
        for thread in self._threads:
            thread.join(_PATIENCE_S)
        try:
            self.sink.__exit__(kind or (type(self._failed) if self._failed else None), error or self._failed, trace)
        finally:
            if self._recording is not None:
                self._recording.__exit__(None, None, None)
        if error is None:
            self.check()

    def show(self, pose: Float[Tensor, " 45"], time: float | None = None) -> None:
        """Shows a pose as soon as it can, unless a newer one comes before. Does not wait.

        Args:
            time: when what it was made from arrived, in seconds of ``time.monotonic()``; None is now.

        Raises: what has ended the player: UserError when the sink takes no more.
        """
        self.check()
        if pose.numel() != POSE_SIZE:
            raise UserError(f"a pose of {pose.numel()} values; expected {POSE_SIZE}")
        timed = TimedPose(pose.detach().cpu().reshape(POSE_SIZE), _now() if time is None else time)
        self._arrived += 1
        self._arriving.count(_now())
        self._poses.put(timed)

    def check(self) -> None:
        """Raises what has ended the player, if anything has."""
        if self._failed is not None:
            raise self._failed

    def status(self) -> PlayerStatus:
        """How it is doing."""
        now = _now()
        return PlayerStatus(
            self._follower.state(now),
            self._arrived,
            self._frames,
            self._arriving.at(now),
            self._showing.at(now),
            self.latency.lately(0.5),
            self.latency.lately(0.95),
        )

    def _run(self, work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except BaseException as error:
            self._failed = self._failed or error
            self._ending.set()
            self._poses.wake()
            self._shown.wake()

    def _make(self) -> None:
        """Makes frames until the player is closed, then that of a pose still waiting."""
        step = 1 / self.sink.fps
        began = _now()
        try:
            while not self._ending.is_set():
                self._ending.wait(began + _SOONEST * step - _now())
                driven = self._follower.state(_now()) == "driven"
                new = self._poses.take(began + (_LONGEST if driven else 1.0) * step - _now())
                began = _now()
                self._make_one(new, began)
            if (last := self._poses.take(0.0)) is not None:
                time.sleep(max(0.0, began + step - _now()))
                self._make_one(last, _now())
        finally:
            self._made.set()
            self._shown.wake()

    def _make_one(self, new: TimedPose | None, now: float) -> None:
        if new is not None:
            self._follower.track(new.pose, now)
        pose = self._follower.at(now)
        if self._recording is not None:
            self._recording.write(pose, now)
        frame = None if self._runtime is None else self._runtime.rgba8(pose)
        self._shown.put(Shown(pose, frame, now, None if new is None else new.time))

    def _show(self) -> None:
        """Shows frames until all are made."""
        while True:
            made = self._made.is_set()
            shown = self._shown.take(0.0 if made else 0.1)
            if shown is None:
                if made:
                    return
                continue
            self.sink.take(shown)
            now = _now()
            self._frames += 1
            self._showing.count(now)
            if shown.arrived is not None:
                self.latency.add(1000 * (now - shown.arrived))


def _now() -> float:
    return time.monotonic()

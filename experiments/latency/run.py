"""Latency: from a tracker's packet, sent by another process over UDP, to the frame it moves; and an hour of packets.

Writes results.csv, hour.csv, and of both table.md. See README.md.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sender import packet

from thadistill.drive import BlendshapeMapper, Player, Sink, SinkOptions, drive, open_sink, open_source
from thadistill.drive.follower import Follower
from thadistill.drive.player import Latency, Latest
from thadistill.drive.protocols import parse_ifacialmocap
from thadistill.drive.recording import Recording
from thadistill.drive.sinks import Shown
from thadistill.drive.sources import SourceOptions, TimedPose
from thadistill.export.students import open_students
from thadistill.files import write_csv, write_text
from thadistill.metrics.benchmark import hardware
from thadistill.pipeline.report import commit
from thadistill.pose import POSE_PARAMETERS
from thadistill.runtime import compile_model, resolve
from thadistill.tables.ledger import markdown

HERE = Path(__file__).parent
GOAL_MEDIAN_MS, GOAL_P95_MS, GOAL_MB = 45, 80, 20
HEAD_Y = POSE_PARAMETERS.index("head_y")
WARMUP_S = 2.0  # what is shown before is not counted


class Frames:
    """A sink that takes frames and does nothing with them: what any sink's latency begins with."""

    name, takes_frames, fps = "frame in memory", True, 60.0

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def take(self, shown: Shown) -> None:
        """Nothing."""

    def tell(self, source: str, state: str) -> None:
        """Nothing."""

    def status(self) -> str:
        """Nothing."""
        return ""


class Noted:
    """Another sink, with the moments at which poses arrived and were shown."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.name, self.takes_frames, self.fps = sink.name, sink.takes_frames, sink.fps
        self.moments: list[tuple[float, float]] = []

    def __enter__(self) -> Noted:
        self.sink.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.sink.__exit__(*error)

    def take(self, shown: Shown) -> None:
        """Shows it, and notes when that was done."""
        self.sink.take(shown)
        if shown.arrived is not None:
            self.moments.append((shown.arrived, time.monotonic()))

    def tell(self, source: str, state: str) -> None:
        """The sink's."""
        self.sink.tell(source, state)

    def status(self) -> str:
        """The sink's."""
        return self.sink.status()


def stolen_s() -> float:
    """Seconds of all processors that other guests of the machine have taken from it; nan where it does not say."""
    with contextlib.suppress(OSError, IndexError), open("/proc/stat") as file:
        return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")
    return float("nan")


def free_port() -> int:
    """A UDP port of loopback that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(model: str, runtime: str, sink: Sink, rate: float, seconds: float) -> dict[str, Any]:
    """A row: what passes from sending a packet to having shown the frame of its pose."""
    student = open_students([model])[0].model
    fast = compile_model(student, runtime)
    fast.rgba8(torch.zeros(45))
    port, stop, noted = free_port(), threading.Event(), Noted(sink)
    source = open_source("ifacialmocap", SourceOptions(port=port))
    command = [sys.executable, str(HERE / "sender.py"), str(port), str(rate), str(seconds)]
    sender = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    threading.Timer(seconds + 1, stop.set).start()
    stolen, used, began = stolen_s(), time.process_time(), time.monotonic()
    with source, Player(fast, noted, source.drives) as player:
        drive(source, player, stop)
    took = time.monotonic() - began
    used, stolen = time.process_time() - used, stolen_s() - stolen
    sent = json.loads(sender.communicate()[0])
    moments = [(arrived, shown) for arrived, shown in noted.moments if arrived - sent[0] > WARMUP_S]
    if not moments:
        moments = noted.moments
    whole = [1000 * (shown - sent[bisect.bisect_right(sent, arrived) - 1]) for arrived, shown in moments]
    inside = [1000 * (shown - arrived) for arrived, shown in moments]
    return {
        "student": Path(model).parent.name if Path(model).name == "character_model" else Path(model).name,
        "runtime": resolve(runtime),
        "sink": sink.name if "/" not in sink.name else f"video file {Path(sink.name).suffix}",
        "packets_per_s": rate,
        "frames": len(whole),
        "fps": round(len(moments) / max(moments[-1][1] - moments[0][1], 1e-9), 1),
        "ms_median": round(float(np.median(whole)), 1),
        "ms_p95": round(float(np.quantile(whole, 0.95)), 1),
        "ms_worst": round(max(whole), 1),
        "arrived_ms_median": round(float(np.median(inside)), 1),
        "arrived_ms_p95": round(float(np.quantile(inside, 0.95)), 1),
        "cpu_share": round(used / took, 2),
        "steal_share": round(stolen / took, 3),
        "load": round(os.getloadavg()[0], 2),
        "hardware": hardware(),
        "commit": commit(),
    }


def resident_mb() -> float:
    """What the process holds in memory, in 10^6 bytes."""
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6
    return float("nan")


def hour(minutes: float, rate: float = 60.0) -> Iterator[dict[str, Any]]:
    """Packets of ``minutes`` of a simulated clock, through parser, mapping, smoothing and recording: a row each minute."""
    mapper, follower, slot, latency = BlendshapeMapper(), Follower(smoothing=0.5), Latest[TimedPose](), Latency()
    per_minute, apart = int(60 * rate), 0.0
    with tempfile.TemporaryDirectory() as folder, Recording(Path(folder) / "poses.json") as recording:
        for number in range(1, max(1, int(minutes * per_minute)) + 1):
            now = number / rate
            face = parse_ifacialmocap(packet(now))
            pose = mapper(face.blendshapes, face.head)
            slot.put(TimedPose(pose, now))
            timed = slot.take(0.0)
            assert timed is not None
            follower.track(timed.pose, now)
            shown = follower.at(now)
            recording.write(shown, now)
            latency.add(1000 * (now - timed.time))
            apart += abs(float(shown[HEAD_Y] - pose[HEAD_Y]))
            if number % per_minute == 0 or number == int(minutes * per_minute):
                minute = round(number / per_minute, 2)
                count = number % per_minute or per_minute
                yield {"minute": minute, "resident_mb": round(resident_mb(), 1), "apart": round(apart / count, 5)}
                apart = 0.0


def table(results: list[dict[str, Any]], hours: list[dict[str, Any]]) -> str:
    """Both tables."""
    columns = ["student", "runtime", "sink", "packets_per_s", "fps", "ms_median", "ms_p95", "ms_worst"]
    columns += ["arrived_ms_median", "cpu_share", "steal_share", "load"]
    lines = [
        "# Latency",
        "",
        f"From the moment a packet is sent to the moment its frame is shown. Goal: median {GOAL_MEDIAN_MS} ms, p95 "
        f"{GOAL_P95_MS} ms. `arrived` counts from the packet's arrival. Hardware: {results[0]['hardware']}.",
        "",
        markdown(columns, [[str(row[column]) for column in columns] for row in results]),
    ]
    if hours:
        grown = max(row["resident_mb"] for row in hours) - hours[0]["resident_mb"]
        first, last = hours[0]["apart"], hours[-1]["apart"]
        lines += [
            "",
            f"{hours[-1]['minute']:g} minutes of packets from a simulated clock: after the first, memory grows by "
            f"{grown:.1f} MB (goal: {GOAL_MB}); by smoothing, the head that is shown differs from the one that was sent by "
            f"{first:.4f} in the first minute and {last:.4f} in the last.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a character-model folder")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=60.0, help="packets a second")
    parser.add_argument("--runtime", default="reduced")
    parser.add_argument("--minutes", type=float, default=61.0, help="of the simulated clock; 0: none")
    parser.add_argument("--out", type=Path, default=HERE)
    given = parser.parse_args()
    hours = list(hour(given.minutes)) if given.minutes else []
    with tempfile.TemporaryDirectory() as folder:
        video = open_sink(f"{folder}/a.mp4", SinkOptions(fps=30.0))
        results = [measure(given.model, given.runtime, sink, given.rate, given.seconds) for sink in (Frames(), video)]
    write_csv(given.out / "results.csv", results)
    if hours:
        write_csv(given.out / "hour.csv", hours)
    write_text(given.out / "table.md", table(results, hours))
    print(table(results, hours))


if __name__ == "__main__":
    main()

"""Sources for tests: poses by a script, and UDP packets of 45 float32, as a tracker would send them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np
import torch

from thadistill.drive import TimedPose
from thadistill.pose import POSE_PARAMETERS

ALL = frozenset(POSE_PARAMETERS)


class Scripted:
    """Gives what a function yields; counts how often it was opened."""

    def __init__(self, script: Callable[[], Iterator[TimedPose | None]], drives: frozenset[str] = ALL) -> None:
        self.name, self.drives, self.script, self.opened = "script", drives, script, 0

    def __enter__(self) -> Self:
        self.opened += 1
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def poses(self) -> Iterator[TimedPose | None]:
        return self.script()


class UdpPoses:
    """Reads 45 float32 from each packet on loopback."""

    name = "udp"
    drives = ALL

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]

    def __enter__(self) -> Self:
        self.socket.settimeout(0.1)
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def poses(self) -> Iterator[TimedPose | None]:
        while True:
            try:
                packet = self.socket.recv(2048)
            except TimeoutError:
                yield None
                continue
            yield TimedPose(torch.from_numpy(np.frombuffer(packet, "<f4").copy()), time.monotonic())


def pose_with(**values: float) -> torch.Tensor:
    """A pose of named values, else at rest."""
    pose = POSE_PARAMETERS.rest()[0]
    for name, value in values.items():
        pose[POSE_PARAMETERS.index(name)] = value
    return pose

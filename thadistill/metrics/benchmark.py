"""Speed: frame times of anything that turns a pose into a frame, measured so that they can be compared."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.devices import return_freed_memory
from thadistill.kernels.build import cpu_field

Frame = Callable[[Tensor], object]


@dataclass(frozen=True)
class Candidate:
    """What is timed.

    ``build`` makes the call pose [batch, 45] -> frame; its own cost is part of the first frame's. ``dtype`` is what it
    computes in, for the record.
    """

    build: Callable[[], Frame]
    dtype: str = "float32"


@dataclass(frozen=True)
class Speed:
    """Frame times of one candidate, in milliseconds a call of ``batch`` poses."""

    ms_median: float
    ms_p95: float
    ms_worst: float
    cpu_ms_median: float  # of all threads together: little moved by what else the machine does, unlike the others
    first_frame_s: float  # building included, importing not
    frames: int
    device: str
    hardware: str
    dtype: str
    batch: int
    threads: int
    peak_mb: float  # 10^6 bytes; of the device where it is a GPU, else of the whole process
    load: float  # other work on the machine: the system's load average when the measurement ended; nan where unknown

    def row(self) -> dict[str, str | float | int]:
        """As a row of a table, times rounded to a microsecond."""
        return {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(self).items()}


def hardware(device: torch.device | str = "cpu") -> str:
    """The processor's name and how many cores this process may use, or the GPU's name.

    With the processor's family and model where Linux tells them: hosts give several generations one name.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = cpu_field("model name") or platform.processor() or platform.machine()
    family, model = cpu_field("cpu family"), cpu_field("model")
    name += f" (family {family}, model {model})" if family and model else ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, {torch.backends.cpu.get_cpu_capability()}"


def measure_speeds(
    candidates: Mapping[str, Candidate],
    poses: Float[Tensor, "n 45"],
    batch: int = 1,
    frames: int = 50,
    warmup: int = 3,
    max_seconds: float | None = None,
) -> dict[str, Speed]:
    """Times the candidates interleaved, one frame of each per round, so that what else the machine does falls on all alike.

    Every candidate is built and gives its first frame on its own; then all do ``warmup`` rounds that do not count, and
    ``frames`` rounds that do. GPUs are synchronised before and after every frame.

    Args:
        candidates: by name.
        poses: taken in order, round and round, ``batch`` a frame; two successive frames differ, so that a runtime that
            keeps the last frame gains nothing.
        frames: rounds that count.
        max_seconds: stop after the round that passes this many seconds, if at least 5 rounds are done.

    Raises: ValueError when there are too few poses for successive frames to differ.
    """
    if len(poses) < 2 * batch:
        raise ValueError(f"{len(poses)} poses; expected at least {2 * batch}, so that successive frames differ")
    groups = [poses[i : i + batch] for i in range(0, len(poses) - batch + 1, batch)]
    device = poses.device
    calls, first, peak = {}, {}, {}
    for name, candidate in candidates.items():
        _reset_peak(device)
        start = time.perf_counter()
        calls[name] = candidate.build()
        _timed(calls[name], groups[-1], device)
        first[name] = time.perf_counter() - start
        peak[name] = _peak_mb(device)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    work: dict[str, list[float]] = {name: [] for name in candidates}
    begun = time.perf_counter()
    for i in range(warmup + frames):
        for name, call in calls.items():
            worked = time.process_time()
            seconds = _timed(call, groups[i % len(groups)], device)
            if i >= warmup:
                times[name].append(seconds * 1e3)
                work[name].append((time.process_time() - worked) * 1e3)
        if max_seconds is not None and i >= warmup + 4 and time.perf_counter() - begun > max_seconds:
            break
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        name: Speed(
            ms_median=float(np.median(times[name])),
            ms_p95=float(np.percentile(times[name], 95)),
            ms_worst=max(times[name]),
            cpu_ms_median=float(np.median(work[name])),
            first_frame_s=first[name],
            frames=len(times[name]),
            device=device.type,
            hardware=hardware(device),
            dtype=candidate.dtype,
            batch=batch,
            threads=torch.get_num_threads(),
            peak_mb=peak[name],
            load=load,
        )
        for name, candidate in candidates.items()
    }


def measure_speed(
    candidate: Candidate,
    poses: Float[Tensor, "n 45"],
    batch: int = 1,
    frames: int = 50,
    warmup: int = 3,
    max_seconds: float | None = None,
) -> Speed:
    """Frame times of one candidate; see :func:`measure_speeds`."""
    return measure_speeds({"only": candidate}, poses, batch, frames, warmup, max_seconds)["only"]


def _timed(call: Frame, pose: Tensor, device: torch.device) -> float:
    _synchronise(device)
    start = time.perf_counter()
    call(pose)
    _synchronise(device)
    return time.perf_counter() - start


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    return_freed_memory()  # what training kept for itself is not the candidate's, and would hide what it takes
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts again from here


def _peak_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6

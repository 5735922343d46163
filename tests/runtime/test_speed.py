"""Speed: what is timed, in which order, and what the row says."""

from __future__ import annotations

import time

import pytest
import torch

from thadistill.data.poses import sample_poses
from thadistill.devices import keep_freed_memory
from thadistill.kernels.build import cpu_field
from thadistill.metrics.benchmark import Candidate, hardware, measure_speed, measure_speeds


def test_times_what_is_called() -> None:
    slow = Candidate(lambda: lambda pose: time.sleep(0.02), "none")
    fast = Candidate(lambda: lambda pose: time.sleep(0.002))
    speeds = measure_speeds({"slow": slow, "fast": fast}, sample_poses(4, seed=0), frames=7, warmup=1)
    assert speeds["slow"].ms_median >= 20
    assert 2 <= speeds["fast"].ms_median < speeds["slow"].ms_median
    assert speeds["slow"].ms_median <= speeds["slow"].ms_p95 <= speeds["slow"].ms_worst
    assert speeds["slow"].frames == 7
    assert speeds["slow"].dtype == "none"
    assert speeds["slow"].threads == torch.get_num_threads()


def test_building_is_in_the_first_frame_only() -> None:
    def build():
        time.sleep(0.1)
        return lambda pose: None

    speed = measure_speed(Candidate(build), sample_poses(2, seed=0), frames=3)
    assert speed.first_frame_s >= 0.1
    assert speed.ms_worst < 50


def test_takes_turns_with_changing_poses() -> None:
    seen = []
    candidates = {
        name: Candidate(lambda name=name: lambda pose: seen.append((name, float(pose[0, 0])))) for name in "ab"
    }
    poses = torch.arange(6.0)[:, None].expand(-1, 45)
    measure_speeds(candidates, poses, batch=2, frames=3, warmup=0)
    assert seen[2:] == [("a", 0), ("b", 0), ("a", 2), ("b", 2), ("a", 4), ("b", 4)]
    with pytest.raises(ValueError, match="successive frames differ"):
        measure_speeds(candidates, poses[:1])


def test_stops_in_time() -> None:
    sleepy = Candidate(lambda: lambda pose: time.sleep(0.02))
    speed = measure_speed(sleepy, sample_poses(2, seed=0), frames=1000, warmup=0, max_seconds=0.2)
    assert 5 <= speed.frames < 30


def test_memory_is_seen() -> None:
    keep_freed_memory()  # as after a training in the same process
    torch.ones(100_000_000)

    def build():
        held = torch.ones(50_000_000)  # 200 MB, all touched
        return lambda pose: held

    small = measure_speed(Candidate(lambda: lambda pose: None), sample_poses(2, seed=0), frames=1)
    large = measure_speed(Candidate(build), sample_poses(2, seed=0), frames=1)
    assert large.peak_mb - small.peak_mb > 150
    assert set(large.row()) >= {
        "ms_median",
        "ms_p95",
        "first_frame_s",
        "device",
        "hardware",
        "dtype",
        "batch",
        "threads",
    }
    assert "cores" in hardware()


@pytest.mark.skipif(not cpu_field("cpu family"), reason="only Linux on x86 tells the processor's family")
def test_hardware_tells_generations_apart() -> None:
    """Hosts call several generations of one maker alike."""
    assert f"(family {cpu_field('cpu family')}, model {cpu_field('model')})" in hardware()

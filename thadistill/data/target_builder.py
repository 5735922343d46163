"""Target builder: runs the teacher over a pose sequence and fills a target cache, shard by shard."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock, Timeout
from jaxtyping import Float
from torch import Tensor

from thadistill.data.poses import PoseSequence
from thadistill.data.target_cache import SHARD, CacheKey, Kind, TargetCache, hash_tensor
from thadistill.devices import keep_freed_memory
from thadistill.files import cache_folder
from thadistill.images import FACE_REGION, STUDENT_FACE_REGION
from thadistill.teacher import Teacher

_FOR_OTHERS = {"posed": 2**30, "face": 2**29}  # bytes of a disk; faces are small, and come after the posed ones


def targets_folder() -> Path:
    """Where caches lie unless a command says otherwise."""
    return cache_folder() / "targets"


def open_cache(
    kind: Kind,
    teacher: Teacher,
    image: Float[Tensor, "4 512 512"],
    poses: PoseSequence,
    folder: str | Path | None = None,
    shard: int = SHARD,
) -> TargetCache:
    """The cache of these targets, new or as far as it was built; in the user's cache folder, or in ``folder``.

    Raises: UserError when ``folder`` holds other targets, or the poses cannot be read.
    """
    poses.first(1)
    key = CacheKey(kind, teacher.name, teacher.fingerprint(), hash_tensor(image), poses.label)
    return TargetCache(targets_folder() / f"{kind}-{key.digest}" if folder is None else folder, key, shard)


def build_targets(
    cache: TargetCache,
    teacher: Teacher,
    image: Float[Tensor, "4 512 512"],
    poses: PoseSequence,
    count: int,
    batch_size: int = 4,
    seconds: float | None = None,
    report: Callable[[int], None] = lambda done: None,
    timed: Callable[[float], None] = lambda seconds: None,
) -> int:
    """Fills ``cache`` up to ``count`` poses, continuing what is there; or until ``seconds``, if given, have passed or the
    disk has little room left.

    At least one shard is built whatever the time. Shards that another run is building are left to it, unless it ends
    before they are there; at the end they are waited for, after ``seconds`` only where others behind them would else be
    lost. Several processes of one run share the work by pipeline.distributed_targets. ``report`` gets how many poses of
    this call are on disk, ``timed`` how many seconds per pose a shard took. Returns the poses now in the cache.

    Raises: UserError when the disk is full.
    """
    end = None if seconds is None else time.monotonic() + seconds
    parts = shard_poses(poses, count, cache.shard)
    device = next(teacher.parameters(), torch.empty(0)).device
    image = image[None].to(device)
    slowest = 0.0
    others: list[int] = []  # what other runs are building
    for index in range(len(parts)):
        if not cache.has_shard(index):
            enough = others or cache.has_shard(0)
            if end is not None and enough and (time.monotonic() + slowest >= end or crowded(cache)):
                break
            left = []
            for free in (*others, index):  # those first whose run ended: they come earlier
                started = time.monotonic()
                state = _build_shard(cache, free, teacher, image, parts[free], batch_size, wait=0.0)
                if state == "built":
                    took = time.monotonic() - started
                    slowest = max(slowest, took)
                    timed(took / cache.shard)
                elif state == "busy":
                    left.append(free)
            others = left
        report(min(count, (index + 1) * cache.shard))
    for index in others:
        wait = -1.0  # however long: without the first there is no cache, and a gap makes what lies behind it useless
        if end is not None and index and not any(map(cache.has_shard, range(index + 1, len(parts)))):
            wait = end - slowest - time.monotonic()
            if wait < 0:
                break
        if _build_shard(cache, index, teacher, image, parts[index], batch_size, wait) == "busy":
            break
    cache.write_manifest()
    return len(cache)


def crowded(cache: TargetCache) -> bool:
    """Whether the cache's disk has little room left."""
    return shutil.disk_usage(cache.folder).free < _FOR_OTHERS[cache.key.kind]


def _build_shard(
    cache: TargetCache,
    index: int,
    teacher: Teacher,
    image: Float[Tensor, "1 4 512 512"],
    poses: Float[Tensor, "_n 45"],
    batch_size: int,
    wait: float,
) -> Literal["built", "there", "busy"]:
    """Builds a shard that is not there; ``busy``: another run still builds it after ``wait`` seconds; -1: no limit."""
    lock = shard_lock(cache, index)
    try:
        mine = lock.acquire(timeout=wait)
    except Timeout:
        return "there" if cache.has_shard(index) else "busy"
    with mine:
        there = cache.has_shard(index)
        if not there:
            cache.write_shard(index, shard_targets(cache.key.kind, teacher, image, poses, batch_size))
        # whoever waits for this file, or creates it again, finds the shard
        Path(lock.lock_file).unlink(missing_ok=True)
    return "there" if there else "built"


def shard_lock(cache: TargetCache, index: int) -> FileLock:
    """Held by the process that builds a shard; runs on the same targets so share the work instead of repeating it."""
    return FileLock(cache.folder / f".shard-{index:05d}.lock")


def shard_poses(poses: PoseSequence, count: int, shard: int = SHARD) -> list[Float[Tensor, "_n 45"]]:
    """The poses of each shard that ``count`` poses need; of a file that ends within a shard, the whole ones."""
    shards = -(-count // shard)
    sequence = poses.first(shards * shard)
    shards = min(shards, len(sequence) // shard) if len(sequence) % shard else shards
    return [sequence[index * shard : (index + 1) * shard] for index in range(shards)]


def shard_targets(
    kind: Kind, teacher: Teacher, image: Float[Tensor, "1 4 512 512"], poses: Float[Tensor, "n 45"], batch_size: int
) -> dict[str, Tensor]:
    """What a shard of a cache holds for ``poses``, on the CPU; images are where ``teacher`` is."""
    if image.device.type == "cpu":
        keep_freed_memory()
    make: Callable[[Teacher, Tensor, Tensor], dict[str, Tensor]] = _posed if kind == "posed" else _face
    with torch.inference_mode():
        batches = [make(teacher, image, pose.to(image.device)) for pose in poses.split(batch_size)]
    return {"pose": poses, **{name: _join(batch[name] for batch in batches) for name in batches[0]}}


def _posed(teacher: Teacher, image: Tensor, pose: Tensor) -> dict[str, Tensor]:
    out = teacher(image, pose)
    return {
        "posed": out.posed.half(),
        "grid_change": out.grid_change.half(),
        "face_region": FACE_REGION.crop(out.face_morphed).half(),
    }


def _face(teacher: Teacher, image: Tensor, pose: Tensor) -> dict[str, Tensor]:
    return {"face": STUDENT_FACE_REGION.crop(teacher.face_morphed(image, pose)).half()}


def _join(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([part.cpu() for part in parts])

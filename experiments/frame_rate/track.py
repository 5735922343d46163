"""Track: a recorded pose track run whole by a runtime, and what flickers in it that the teacher's pictures do not."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hydra
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.config import compose
from thadistill.data.target_cache import hash_tensor
from thadistill.images import over_white
from thadistill.metrics.flicker import TemporalFlicker
from thadistill.metrics.image import psnr
from thadistill.runtime import Runtime, compile_model
from thadistill.student import CharacterModel

RECORDED_MS = 50  # between two poses of the track
LEVELS = 255
SAME_LEVELS = 2  # colour and alpha of a faint pixel are rounded apart


class TeacherPairs:
    """Pairs of successive frames of a track, evenly spread over it, as the teacher draws them; kept on disk.

    Args:
        teacher, character: names of the Hydra groups, as ``thadistill distill`` takes them.
        track: the poses.
        count: pairs; at most one per step of the track.
        folder: where pictures are kept, named by all that they depend on; float32, as 16 bits would flicker by
            themselves in the darks.
    """

    def __init__(self, teacher: str, character: str, track: Float[Tensor, "t 45"], count: int, folder: Path) -> None:
        config = compose("distill", [f"teacher={teacher}", f"character={character}"])
        self.image: Float[Tensor, "4 512 512"] = hydra.utils.instantiate(config.character).image
        self._teacher = hydra.utils.instantiate(config.teacher, device="cpu")
        self.name = self._teacher.name
        self._made_of = f"{self._teacher.fingerprint()} {hash_tensor(self.image)}"
        self._folder = folder
        steps = len(track) - 1
        starts = np.linspace(0, steps - 1, min(count, steps)).round().astype(int)
        self.poses = [track[start : start + 2] for start in starts]

    def __iter__(self) -> Iterator[tuple[Float[Tensor, "2 45"], Float[Tensor, "2 4 512 512"]]]:
        """(poses, pictures) of every pair."""
        return ((poses, self._drawn(poses)) for poses in self.poses)

    def draw_all(self) -> None:
        """Draws what is not on disk yet, before anything is timed."""
        for _ in self:
            pass

    def _drawn(self, poses: Float[Tensor, "2 45"]) -> Float[Tensor, "2 4 512 512"]:
        digest = hashlib.sha256(f"{self._made_of} {hash_tensor(poses)}".encode()).hexdigest()[:24]
        path = self._folder / f"{digest}.npy"
        if not path.is_file():
            with torch.inference_mode():
                drawn = torch.cat([self._teacher(self.image[None], pose).posed for pose in poses.split(1)])
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{os.getpid()}.npy")
            np.save(temporary, drawn.numpy())
            os.replace(temporary, path)
        return torch.from_numpy(np.load(path))

    def fits(self, name: str, model: CharacterModel) -> bool:
        """Whether the student is of the character that was drawn, but for rounding of its PNG; if not, says so."""
        off = float((over_white(model.image.cpu()) - over_white(self.image)).abs().max()) * LEVELS
        if off > SAME_LEVELS:
            print(f"{name}: not held against the teacher, whose character is another (--character)", file=sys.stderr)
        return off <= SAME_LEVELS


def change(frames: Float[Tensor, "2 4 h w"]) -> float:
    """Mean change from a frame to the next, as a viewer sees them, in 8-bit levels."""
    shown = over_white(frames)
    return float((shown[1] - shown[0]).abs().mean()) * LEVELS


def against_teacher(fast: Runtime, pairs: TeacherPairs) -> dict[str, object]:
    """Flicker against the teacher, next to what each changes of itself, and PSNR, over all pairs."""
    flicker, decibels, moved, moved_teacher = TemporalFlicker(), [], [], []
    for poses, drawn in pairs:
        given = torch.cat([fast(pose).posed for pose in poses.split(1)])
        flicker.start_track()
        flicker.update(given, drawn)
        decibels += psnr(given, drawn).tolist()
        moved.append(change(given))
        moved_teacher.append(change(drawn))
    return {
        "teacher": pairs.name,
        "teacher_pairs": len(pairs.poses),
        "flicker_to_teacher_levels": round(float(flicker.compute()) * LEVELS, 4),
        "teacher_change_levels": round(float(np.mean(moved_teacher)), 4),
        "student_change_levels": round(float(np.mean(moved)), 4),
        "psnr_to_teacher": round(float(np.mean(decibels)), 3),
    }


def against_exact(fast: Runtime, exact: Runtime, track: Float[Tensor, "t 45"]) -> dict[str, object]:
    """Flicker against the exact runtime over the whole of ``track``."""
    flicker = TemporalFlicker()
    for pose in track.split(1):
        flicker.update(fast(pose).posed, exact(pose).posed)
    return {"flicker_to_exact_levels": round(float(flicker.compute()) * LEVELS, 4), "flicker_frames": len(track)}


def run_track(
    name: str,
    model: CharacterModel,
    runtime: str,
    track: Float[Tensor, "t 45"],
    pairs: TeacherPairs | None,
    flickered: int,
) -> dict[str, object]:
    """A row: the whole track from poses to 8-bit RGBA as fast as it goes, then its flicker."""
    fast = compile_model(model, runtime)
    fast.rgba8(track[-1])
    times = []
    begun = time.perf_counter()
    for pose in track:
        start = time.perf_counter()
        fast.rgba8(pose)
        times.append((time.perf_counter() - start) * 1e3)
    whole = time.perf_counter() - begun
    row: dict[str, object] = {
        "model": name,
        "runtime": runtime,
        "kind": fast.name,
        "frames": len(track),
        "repeated_poses": int((track[1:] == track[:-1]).all(dim=1).sum()),
        "frames_a_second": round(len(track) / whole, 2),
        "ms_median": round(float(np.median(times)), 3),
        "ms_p95": round(float(np.percentile(times, 95)), 3),
        "ms_worst": round(max(times), 3),
        "worst_at": int(np.argmax(times)),
        f"over_{RECORDED_MS}_ms": sum(ms > RECORDED_MS for ms in times),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else "",
    }
    if pairs is not None and pairs.fits(name, model):
        row |= against_teacher(fast, pairs)
    if runtime != "exact" and flickered > 1:
        row |= against_exact(fast, compile_model(model, "exact"), track[:flickered])
    return row

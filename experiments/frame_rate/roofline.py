"""Roofline: the arithmetic and memory traffic of a student's frame, what a device needs for them at its stated peaks,
and the share of that which the measured frames of runtime half reach. Counting needs no GPU."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from students import Student, open_students

from thadistill.errors import UserError
from thadistill.images import IMAGE_SIZE
from thadistill.pose import FACIAL_SIZE, POSE_SIZE
from thadistill.runtime import compile_model, resolve
from thadistill.runtime.folded import Stage, build_stages
from thadistill.runtime.half_level import channel_blocks
from thadistill.runtime.region import read_by_doubling
from thadistill.student import CharacterModel
from thadistill.student.face_morpher import FACE_SIZE
from thadistill.tables.ledger import read_rows

HERE = Path(__file__).parent
H200_TFLOPS, H200_TBS = 990.0, 4.8  # float16 without sparsity, and memory, as NVIDIA's data sheet gives them
_PAINTED = 8  # floats a pixel between the last level and painting: seven and one to align


@dataclass(frozen=True)
class Work:
    """A frame's work: additions and multiplications of the matrix products, the same with channels padded as the kernels
    hold them, sines, and bytes that have to pass through memory if nothing but a level's own activations stays on chip."""

    flops: float
    padded_flops: float
    sines: float
    bytes: float

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, key) + getattr(other, key) for key in self.__dataclass_fields__))

    def milliseconds(self, peak_tflops: float, bandwidth_tbs: float) -> float:
        """The least a device of these peaks needs: products or memory, whichever takes longer, sines for nothing."""
        return 1e3 * max(self.flops / (peak_tflops * 1e12), self.bytes / (bandwidth_tbs * 1e12))


def _padded(width: int) -> int:
    return math.prod(channel_blocks(width))


def count_stage(stage: Stage, pixels: int, below: int, pose_size: int) -> Work:
    """One level (or the face) at ``pixels`` pixels; ``below`` are the pixels it reads of the level below."""
    first = len(stage.bias)
    last, last_bias = stage.out
    matrices = [matrix for matrix, _ in stage.hidden] + [last]
    widths = [first, *(matrix.shape[1] for matrix in matrices)]
    pairs = list(pairwise(widths))
    handed = _padded(widths[-1]) if last_bias is None else _PAINTED
    weights = 2 * sum(_padded(a) * _padded(b) for a, b in pairs) + 4 * first * (pose_size + 3)
    return Work(
        flops=2 * pixels * sum(a * b for a, b in pairs),
        padded_flops=2 * pixels * sum(_padded(a) * _padded(b) for a, b in pairs),
        sines=pixels * sum(widths[:-1]),
        # weights once; two places in lists, and the plane handed on, a pixel; the plane below, in float32
        bytes=weights + pixels * (8 + 4 * handed) + below * 4 * _padded(first),
    )


def count_frame(model: CharacterModel, visible: Bool[np.ndarray, "512 512"]) -> Work:
    """A frame whose pose changed altogether, the face with it, from pose to RGBA in the device's memory."""
    with torch.no_grad():
        face, stages = build_stages(model, visible)
    masks = [visible]
    for _ in stages[1:]:
        masks.insert(0, read_by_doubling(masks[0]))
    pixels = [int(mask.sum()) for mask in masks]
    work = count_stage(face, FACE_SIZE**2, 0, FACIAL_SIZE)
    for stage, here, below in zip(stages, pixels, [0, *pixels[:-1]], strict=True):
        work += count_stage(stage, here, below, POSE_SIZE)
    # painting reads its channels and, once, the character; it writes four bytes a pixel
    painting = pixels[-1] * (4 * _PAINTED + 8 + 4) + IMAGE_SIZE**2 * 4 * 4
    return work + Work(0, 0, 0, painting)


def visible_of(model: CharacterModel) -> Bool[np.ndarray, "512 512"]:
    """The tiles that runtime half computes by default; the native runtime finds the same ones sooner without a GPU."""
    if resolve("exact") == "native":
        return compile_model(model, "native").visible  # type: ignore[return-value]
    return compile_model(model, "half", kernels=False).visible  # type: ignore[return-value]


def rows_of(
    student: Student, measured: Sequence[Mapping[str, str]], peak_tflops: float, bandwidth_tbs: float, whole: bool
) -> Iterator[list[str]]:
    """Table rows: the whole image, then (unless ``whole``) the visible tiles with what was measured on them."""
    everything = np.ones((IMAGE_SIZE, IMAGE_SIZE), bool)
    for name, mask in [("whole", everything)] + ([] if whole else [("visible", visible_of(student.model))]):
        work = count_frame(student.model, mask)
        least = work.milliseconds(peak_tflops, bandwidth_tbs)
        counted = [student.name, f"{name}, {mask.mean():.0%}", f"{work.flops / 1e9:.2f}"]
        counted += [f"{work.padded_flops / 1e9:.2f}", f"{work.sines / 1e6:.1f}", f"{work.bytes / 1e6:.1f}"]
        counted.append(f"{least * 1e3:.1f}")
        found = [row for row in measured if name == "visible" and row["model"] == student.name] or [None]
        for row in found:
            if row is None:
                yield [*counted, "", "", ""]
                continue
            median = float(row["ms_median"])
            achieved = work.flops / (median * 1e-3) / 1e12
            yield [*counted, f"{median:.3f}", f"{achieved:.1f}", f"{least / median:.1%}"]


def table(rows: list[list[str]], peak_tflops: float, bandwidth_tbs: float) -> str:
    """The rows as a Markdown table, with what its columns mean."""
    head = ["model", "pixels", "GFLOP", "padded GFLOP", "sines, M", "MB", "roofline, µs"]
    head += ["measured, ms", "TFLOP/s", "share of roofline"]
    lines = [head, ["---"] * len(head), *rows]
    about = (
        f"Peaks: {peak_tflops:g} TFLOP/s, {bandwidth_tbs:g} TB/s. Roofline: the longer of GFLOP and MB at these peaks. "
        "Measured: results.csv, runtime half on a GPU, median from pose to RGBA in the host's memory; the copies to and "
        "from the host, launching, sines and padding are in the measured time and not in the roofline."
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{about}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("students", nargs="+", type=Path, help="model folders or distill's run folders")
    parser.add_argument("--peak-tflops", type=float, default=H200_TFLOPS, help="float16 products, TFLOP/s")
    parser.add_argument("--bandwidth-tbs", type=float, default=H200_TBS, help="memory, TB/s")
    parser.add_argument("--results", type=Path, default=HERE / "results.csv")
    parser.add_argument("--whole", action="store_true", help="don't look for the visible tiles")
    given = parser.parse_args()
    if given.peak_tflops <= 0 or given.bandwidth_tbs <= 0:
        raise UserError(f"peaks of {given.peak_tflops} TFLOP/s and {given.bandwidth_tbs} TB/s; expected more than 0")
    measured = read_rows(given.results) if given.results.is_file() else []
    measured = [row for row in measured if row["runtime"] == "half" and row["device"] == "cuda" and row["batch"] == "1"]
    rows: list[list[str]] = []
    for student in open_students(given.students):
        rows += rows_of(student, measured, given.peak_tflops, given.bandwidth_tbs, given.whole)
    print(table(rows, given.peak_tflops, given.bandwidth_tbs))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"roofline.py: {error}") from None

"""Poses: seeded sets drawn by the published recipe, and pose tracks read from files."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.errors import UserError, first_line
from thadistill.pose import POSE_PARAMETERS, POSE_SIZE
from thadistill.tensors import oddity, read_torch

Rotations = Literal["uniform", "sobol"]

# Each facial group shows one or two of its morphs. A morph is the parameters that one facial expression moves together.
_EYEBROW_MORPHS = tuple(range(0, 12, 2))
_EYE_MORPHS = tuple(range(12, 24, 2))
_IRIS_SMALL = POSE_PARAMETERS.index("iris_small_left")
_MOUTH_MORPHS = (
    *((POSE_PARAMETERS.index(f"mouth_{shape}"),) for shape in ("aaa", "iii", "uuu", "eee", "ooo", "delta")),
    *((POSE_PARAMETERS.index(f"mouth_{corner}_corner_left"),) for corner in ("lowered", "raised")),
    (POSE_PARAMETERS.index("mouth_smirk"),),
)
_MOUTH_PAIRED = {POSE_PARAMETERS.index("mouth_lowered_corner_left"), POSE_PARAMETERS.index("mouth_raised_corner_left")}


def sample_poses(n: int, seed: int, rotations: Rotations = "uniform") -> Float[Tensor, "n 45"]:
    """n poses drawn as THA2's training data were (the paper does not publish its own set; THA4 paper, section 4).

    Eyebrows, eyes and mouth each show one morph (probability 1/4, strength U[0, 1]) or two (3/4, x ~ U[0, 1] and
    U[0, 1 - x]); paired parameters are drawn separately for left and right, so that each side is also seen alone.
    Iris rotations are U[-1, 1]; small irises are 0 with probability 1/4, else U[0, 1]. The six rotation values are
    uniform over their range, or, with ``rotations="sobol"``, a scrambled low-discrepancy sequence over it. A longer
    set begins with the poses of a shorter one.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    poses = np.zeros((n, POSE_SIZE), np.float32)
    for row in poses:
        for morphs in (_EYEBROW_MORPHS, _EYE_MORPHS):
            for side in (0, 1):
                for morph, strength in _draw_morphs(generator, len(morphs)):
                    row[morphs[morph] + side] = strength
        for morph, strength in _draw_morphs(generator, len(_MOUTH_MORPHS)):
            index = _MOUTH_MORPHS[morph][0]
            row[index : index + (2 if index in _MOUTH_PAIRED else 1)] = strength
        row[_IRIS_SMALL : _IRIS_SMALL + 2] = 0 if generator.random() < 0.25 else generator.random()
        for name in ("iris_rotation_x", "iris_rotation_y"):
            row[POSE_PARAMETERS.index(name)] = generator.uniform(-1, 1)
    unit = _unit_rotations(n, seed, rotations)
    low = np.array(POSE_PARAMETERS.low[POSE_PARAMETERS.rotation], np.float32)
    poses[:, POSE_PARAMETERS.rotation] = low + unit * (1 - low)
    return torch.from_numpy(poses)


def _draw_morphs(generator: np.random.Generator, count: int) -> list[tuple[int, float]]:
    first = generator.random()
    if generator.random() < 0.25:
        return [(int(generator.integers(count)), first)]
    a, b = generator.choice(count, 2, replace=False)
    return [(int(a), first), (int(b), generator.uniform(0, 1 - first))]


def _unit_rotations(n: int, seed: int, rotations: Rotations) -> np.ndarray:
    size = POSE_PARAMETERS.rotation.stop - POSE_PARAMETERS.rotation.start
    if rotations == "uniform":  # a stream of its own, so that more poses begin with the same ones
        return np.random.Generator(np.random.PCG64([seed, 1])).random((n, size), dtype=np.float32)
    return torch.quasirandom.SobolEngine(size, scramble=True, seed=seed).draw(n).numpy()


def load_poses(path: str | Path) -> Float[Tensor, "n 45"]:
    """Reads n poses from a ``.npy``, ``.pt`` or ``.csv`` file (the last with or without a header of parameter names).

    Raises: UserError when the file is missing, unreadable, not of shape (n, 45), not finite or out of range.
    """
    path = Path(path)
    readers = {".npy": _read_npy, ".pt": _read_pt, ".csv": _read_csv}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise UserError(f"{path} is not a pose file; expected one ending in {', '.join(readers)}")
    if not path.is_file():
        raise UserError(f"{path} does not exist; expected a file of poses: check the path")
    try:
        poses = torch.as_tensor(readers[suffix](path)).float()
    except UserError:
        raise
    except Exception as error:  # pickle, numpy and csv each have their own
        raise UserError(
            f"{path} cannot be read as poses ({first_line(error)}); expected {POSE_SIZE} numbers a pose"
        ) from None
    return check_poses(poses, path)


def check_poses(poses: Tensor, path: Path) -> Float[Tensor, "n 45"]:
    """Poses of a file, clamped of what rounding to float16 adds.

    Raises: UserError when their shape is not (n, 45), or a value is not finite or out of range.
    """
    if poses.ndim != 2 or poses.shape[1] != POSE_SIZE or len(poses) == 0:
        raise UserError(f"{path} has shape {tuple(poses.shape)}; expected (n, {POSE_SIZE}), one row per pose")
    slack = 1e-3  # files of float16 poses overshoot by rounding
    outside = ~torch.isfinite(poses) | (poses < poses.new_tensor(POSE_PARAMETERS.low) - slack) | (poses > 1 + slack)
    if bool(outside.any()):
        row, column = (int(i) for i in outside.nonzero()[0])
        low, value = POSE_PARAMETERS.low[column], float(poses[row, column])
        raise UserError(
            f"{path} row {row} has {POSE_PARAMETERS[column]} = {value:g}; expected {low:g} to 1: clamp it first"
        )
    return POSE_PARAMETERS.clamp(poses)


def _read_npy(path: Path) -> np.ndarray:
    # mapped, so that a header that claims more than the file has takes no memory
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise ValueError(f"it holds {array.dtype if isinstance(array, np.ndarray) else 'several arrays'}")
    return array.astype(np.float32)


def _read_pt(path: Path) -> Tensor:
    value = read_torch(path, str(path))
    odd = oddity(value) if isinstance(value, Tensor) else None
    if odd is not None and "finite" not in odd:  # which pose is not is told later
        raise ValueError(f"a tensor {odd}")
    return value


def _read_csv(path: Path) -> np.ndarray:
    """As spreadsheets write them: a byte-order mark, quotes, and semicolons or tabs where numbers have decimal commas."""
    raw = path.read_bytes()
    text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("it is empty")
    separator = next((mark for mark in ";\t" if mark in lines[0]), ",")
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator, skipinitialspace=True)]
    header = rows[0]
    if any(cell in POSE_PARAMETERS for cell in header):
        if sorted(header) != sorted(POSE_PARAMETERS):
            odd = sorted({*header} ^ {*POSE_PARAMETERS})
            raise ValueError(
                f"its header is not the {POSE_SIZE} parameter names: {', '.join(odd[:3]) or 'one is doubled'}"
            )
        rows = rows[1:]
        order = [header.index(name) for name in POSE_PARAMETERS]
    else:
        order = list(range(len(rows[0])))
    for number, row in enumerate(rows):
        if len(row) != len(order):
            raise ValueError(f"row {number} has {len(row)} values, not {len(order)}")
    decimal = "," if separator != "," else "."
    return np.array([[float(row[i].replace(decimal, ".")) for i in order] for row in rows], np.float32)


def pose_set(poses: str | Path, n: int, seed: int) -> Float[Tensor, "n 45"]:
    """``random``: n sampled poses; else the first n of the file ``poses`` (all, if it has fewer)."""
    return sample_poses(n, seed) if str(poses) == "random" else load_poses(poses)[:n]


@dataclass(frozen=True)
class PoseSequence:
    """An endless, or a file's, sequence of poses: the first n are the same whatever n is.

    Args:
        source: ``random``, or a pose file.
        seed, rotations: of the random sequence; see :func:`sample_poses`.
        poses_per_face: of the random sequence, in a row; a teacher's face stages then run once for them.

    Raises: UserError when ``poses_per_face`` is no whole number above 0.
    """

    source: str = "random"
    seed: int = 0
    rotations: Rotations = "uniform"
    poses_per_face: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.poses_per_face, int) or self.poses_per_face < 1:
            raise UserError(f"PoseSequence: poses_per_face={self.poses_per_face}; expected a whole number above 0")

    def first(self, n: int) -> Float[Tensor, "n 45"]:
        """The first n poses; a file's may be fewer.

        Raises: UserError when the file cannot be used.
        """
        if self.source != "random":
            return load_poses(self.source)[:n]
        poses = sample_poses(n, self.seed, self.rotations)
        poses[:, POSE_PARAMETERS.facial] = poses[torch.arange(n) // self.poses_per_face, POSE_PARAMETERS.facial]
        return poses

    @property
    def label(self) -> str:
        """What identifies the sequence in a cache key."""
        if self.source == "random":
            shared = "" if self.poses_per_face == 1 else f" poses_per_face={self.poses_per_face}"
            return f"random seed={self.seed} rotations={self.rotations}{shared}"
        return f"file sha256={hashlib.sha256(Path(self.source).read_bytes()).hexdigest()}"

    @property
    def limit(self) -> int | None:
        """How many poses there are: none for random, whole shards of a file's."""
        return None if self.source == "random" else len(load_poses(self.source))

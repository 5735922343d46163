"""Visible: finds, by posing a character, which pixels it ever paints and which of its face hardly change; kept on disk."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from thadistill.data.poses import sample_poses
from thadistill.files import cache_folder, replacing
from thadistill.images import IMAGE_SIZE
from thadistill.pose import POSE_PARAMETERS, POSE_SIZE
from thadistill.runtime.region import tiles_of
from thadistill.student import CharacterModel

_SAMPLED = 48
TILE = 4
# An answer holds for the code that gave it.
_SOURCES = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("visible.py", "region.py", "packing.py"))
BORDER = 1  # tiles
# How far from transparent a skipped pixel may be in the sampled poses where frames are to be exact. Students leave faint
# dust all over the background, those of a few minutes in every pose, others in the corners of the pose space; there, in
# poses the caller gives, only what a frame of 8 bits would show counts: half a level. Reduced precision allows itself one.
TOLERANCE = 2e-4
SHOWN = 1 / 255
FAINT = 2 / 255


def sampled_poses(n: int = _SAMPLED) -> Float[Tensor, "n 45"]:
    """Low-discrepancy poses, drawn as those a student is trained on."""
    return sample_poses(n, seed=5, rotations="sobol")


def corner_poses() -> Float[Tensor, "32 45"]:
    """The corners of the rotations' ranges: where the silhouette reaches furthest."""
    corners = torch.zeros(32, POSE_SIZE)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=5)))
    corners[:, POSE_PARAMETERS.rotation] = torch.cat([signs, (signs.prod(1, keepdim=True) + 1) / 2], 1)
    return corners


def measure_visible(
    posed: Callable[[np.ndarray], np.ndarray], looks: Sequence[tuple[Float[Tensor, "_ 45"], float]]
) -> Bool[np.ndarray, "512 512"]:
    """The tiles in which any pose paints anything, with a border of tiles around them.

    Args:
        posed: pose (float32 [45]) -> posed image [4, 512, 512], network space.
        looks: sets of poses, each with how far from transparent (-1 in every channel) a pixel may be in them and still
            count as transparent.
    """
    painted = np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool)
    for poses, tolerance in looks:
        for pose in poses.numpy():
            painted |= np.abs(posed(np.ascontiguousarray(pose)) + 1).max(0) > tolerance
    return tiles_of(painted, TILE, BORDER)


def find_visible(
    model: CharacterModel,
    exact: bool,
    poses: Float[Tensor, "n 45"] | None,
    begin: Callable[[], Callable[[np.ndarray], np.ndarray]],
) -> Bool[np.ndarray, "512 512"]:
    """The tiles that a character ever paints, from sampled poses, corners and ``poses``; kept on disk.

    ``begin`` makes the ``posed`` of :func:`measure_visible`, where the answer is not known yet.
    """
    looks = [(sampled_poses(), TOLERANCE if exact else FAINT), (corner_poses(), SHOWN if exact else FAINT)]
    if poses is not None:
        looks.append((poses.float().cpu(), SHOWN if exact else FAINT))

    def compute() -> dict[str, np.ndarray]:
        return {"visible": np.packbits(measure_visible(begin(), looks))}

    kept = remembered("visible", model_key(model, *(part for look in looks for part in look)), compute)
    return np.unpackbits(kept["visible"]).astype(bool).reshape(IMAGE_SIZE, IMAGE_SIZE)


def measure_face(
    face: Callable[[np.ndarray], np.ndarray], poses: Float[Tensor, "_ 45"]
) -> tuple[Float[np.ndarray, "4 128 128"], Float[np.ndarray, "128 128"]]:
    """The middle of each pixel's range over the poses, and how far from it the pixel gets in any channel.

    Args:
        face: pose (float32 [45]) -> face crop [4, 128, 128], network space.
    """
    faces = [face(np.ascontiguousarray(pose)).copy() for pose in poses.numpy()]
    least, most = np.minimum.reduce(faces), np.maximum.reduce(faces)
    return (least + most) / 2, ((most - least) / 2).max(0)


def model_key(model: CharacterModel, *settings: object) -> str:
    """Names a character model's weights, architecture and image, and whatever else an answer depends on."""
    digest = hashlib.sha256(_SOURCES)
    architecture = {"omega": [model.face_morpher.omega, model.body_rotator.omega], "sizes": model.body_rotator.sizes}
    digest.update(json.dumps(architecture).encode())
    for name, tensor in [*model.state_dict().items(), ("image", model.image)]:
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    for setting in settings:
        digest.update(setting.numpy().tobytes() if isinstance(setting, Tensor) else json.dumps(setting).encode())
    return digest.hexdigest()[:24]


def remembered(kind: str, key: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays kept under ``key``, computed and kept the first time; a cache that fails only costs time."""
    path = cache_folder() / kind / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = dict(kept)
        if all(isinstance(array, np.ndarray) for array in arrays.values()):
            return arrays
    except Exception:  # numpy, zip and zlib each have their own
        pass
    arrays = compute()
    with contextlib.suppress(OSError), replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return arrays

"""Starts: what a student begins its training with, instead of random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from thadistill.errors import UserError
from thadistill.pose import FACIAL_SIZE, POSE_PARAMETERS
from thadistill.student.character_model import CharacterModel

STARTS = Path(__file__).parent / "starts"  # a file for each conf/student; how they were made: experiments/warm_start
SUFFIX = ".safetensors"

Part = Literal["face_morpher", "body_rotator"]


def start(network: nn.Module, part: Part, source: str | None) -> None:
    """Puts the weights of ``source`` into ``network``.

    Args:
        part: which of a student's networks it is.
        source: ``warm`` for the shipped start of these sizes, learned from several characters; a character-model folder; a
            file written by :func:`save_start`; or None, which leaves the network as it is.

    Raises: UserError when the sizes are others, or the source cannot be read.
    """
    if source is None:
        return
    expected = {key: value.shape for key, value in network.state_dict().items()}
    paths = sorted(STARTS.glob(f"*{SUFFIX}")) if source == "warm" else [Path(source)]
    for path in paths:
        tensors = _tensors(path, part)
        if {key: value.shape for key, value in tensors.items()} == expected:
            network.load_state_dict({key: value.float() for key, value in tensors.items()})
            return
    names = f"; it comes for student={' or '.join(path.stem for path in paths)}" if source == "warm" else ""
    raise UserError(
        f"init={source} has a {part} of other sizes than the student; expected the same: see student=, or init=null{names}"
    )


def load_directions(source: str) -> Float[Tensor, "39 39"]:
    """Directions of the 39 facial values, a row each, at the rates that bodies' weights on them are learned at.

    ``source``: ``warm`` for those that come with the package, or a file as :func:`save_directions` writes it.

    Raises: UserError when it cannot be read, or is not such a matrix.
    """
    path = STARTS / "facial_directions.csv" if source == "warm" else Path(source)
    try:
        values = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.float32, ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(f"facial_directions={source} cannot be read ({error}); expected warm, or a .csv file") from None
    if values.shape != (FACIAL_SIZE, FACIAL_SIZE) or np.linalg.matrix_rank(values) < FACIAL_SIZE:
        raise UserError(
            f"facial_directions={source} has {values.shape[0]} rows of {values.shape[1]} numbers; "
            f"expected {FACIAL_SIZE} of {FACIAL_SIZE}, independent of one another"
        )
    return torch.from_numpy(values)


def save_directions(path: Path, directions: Float[Tensor, "39 39"]) -> None:
    """Writes directions, a row each, under the facial parameters' names."""
    names = ",".join(POSE_PARAMETERS[index] for index in range(FACIAL_SIZE))
    np.savetxt(path, directions.numpy(), fmt="%.5g", delimiter=",", header=names, comments="")


def _tensors(path: Path, part: Part) -> Mapping[str, Tensor]:
    if not path.exists():
        raise UserError(f"init={path} does not exist; expected warm, a character-model folder or a start file")
    if path.suffix != SUFFIX:
        return getattr(CharacterModel.load(path), part).state_dict()
    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors' own class is not public
        raise UserError(f"init={path} cannot be read ({error}); expected a start file, whole") from None
    prefix = f"{part}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def save_start(path: Path, face_morpher: nn.Module, body_rotator: nn.Module) -> None:
    """Writes both networks' tensors in float16, which is exact enough to start from."""
    parts = {"face_morpher": face_morpher, "body_rotator": body_rotator}
    tensors = {
        f"{part}.{key}": value.detach().half().contiguous()
        for part, network in parts.items()
        for key, value in network.state_dict().items()
    }
    save_file(tensors, path)

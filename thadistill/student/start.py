"""Starts: what a student begins its training with, instead of random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from thadistill.errors import UserError
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

"""Starts: what a student begins its training with, instead of random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from thadistill.errors import UserError
from thadistill.student.character_model import CharacterModel

SHIPPED = Path(__file__).parent / "warm_start.safetensors"  # float16; how it was made: experiments/warm_start

Part = Literal["face_morpher", "body_rotator"]


def start(network: nn.Module, part: Part, source: str | None) -> None:
    """Puts the weights of ``source`` into ``network``.

    Args:
        part: which of a student's networks it is.
        source: ``warm`` for the shipped start, learned from several characters; a character-model folder; a file written
            by :func:`save_start`; or None, which leaves the network as it is.

    Raises: UserError when the sizes are others, or the source cannot be read.
    """
    if source is None:
        return
    tensors = _tensors(source, part)
    expected = {key: value.shape for key, value in network.state_dict().items()}
    if {key: value.shape for key, value in tensors.items()} != expected:
        raise UserError(
            f"init={source} has a {part} of other sizes than the student; expected the same: see student=, or init=null"
        )
    network.load_state_dict({key: value.float() for key, value in tensors.items()})


def _tensors(source: str, part: Part) -> Mapping[str, Tensor]:
    path = SHIPPED if source == "warm" else Path(source)
    if not path.exists():
        raise UserError(f"init={source} does not exist; expected warm, a character-model folder or a start file")
    if path.suffix != SHIPPED.suffix:
        return getattr(CharacterModel.load(path), part).state_dict()
    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors' own class is not public
        raise UserError(f"init={source} cannot be read ({error}); expected a start file, whole") from None
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

"""Init: pretrained weights that a student begins its training with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from safetensors.torch import load_file, save_file
from torch import Tensor

from thadistill.errors import UserError
from thadistill.student.body_rotator import BodyRotator
from thadistill.student.character_model import PUBLISHED_OMEGA, CharacterModel, doubling_sizes, unpublished
from thadistill.student.face_morpher import FaceMorpher
from thadistill.tensors import oddity

INITS = Path(__file__).parent / "inits"  # a file for each conf/student; how they were made: experiments/warm_init
SUFFIX = ".safetensors"

Part = Literal["face_morpher", "body_rotator"]


def apply_init(network: FaceMorpher | BodyRotator, part: Part, source: str | None) -> None:
    """Puts the weights of ``source`` into ``network``.

    Args:
        part: which of a student's networks it is.
        source: ``warm`` for the shipped init of these sizes, learned from several characters; a character-model folder; a
            file written by :func:`save_init`; or None, which leaves the network as it is.

    Raises: UserError when sizes or omega are others, or the source cannot be read.
    """
    if source is None:
        return
    expected = {key: value.shape for key, value in network.state_dict().items()}
    paths = sorted(INITS.glob(f"*{SUFFIX}")) if source == "warm" else [Path(source)]
    for path in paths:
        tensors = _tensors(path, part)
        saved: dict[str, Tensor] = {name: tensors.pop(name) for name in ("omega", "sizes") if name in tensors}
        if {key: value.shape for key, value in tensors.items()} == expected:
            _check_saved(saved, network, f"init={source} has a {part}")
            network.load_state_dict({key: value.float() for key, value in tensors.items()})
            return
    names = f"; it comes for student={' or '.join(path.stem for path in paths)}" if source == "warm" else ""
    raise UserError(
        f"init={source} has a {part} of other sizes than the student; expected the same: see student=, or init=null{names}"
    )


def _check_saved(saved: dict[str, Tensor], network: FaceMorpher | BodyRotator, what: str) -> None:
    omega = saved["omega"].flatten().tolist() if "omega" in saved else [PUBLISHED_OMEGA]
    if omega != [network.omega]:
        shown = ", ".join(f"{one:g}" for one in omega[:4])
        raise UserError(f"{what} of omega {shown}; expected the student's, {network.omega:g}")
    if isinstance(network, BodyRotator):
        sizes = saved["sizes"].flatten().tolist() if "sizes" in saved else [*doubling_sizes(len(network.sizes))]
        if sizes != [*network.sizes]:
            raise UserError(f"{what} of levels of {sizes} pixels; expected the student's, {list(network.sizes)}")


def _tensors(path: Path, part: Part) -> dict[str, Tensor]:
    """What :func:`save_init` wrote of a part: its tensors, and what is unpublished of its architecture."""
    if not path.exists():
        raise UserError(f"init={path} does not exist; expected warm, a character-model folder or an init file")
    if path.suffix != SUFFIX:
        network = getattr(CharacterModel.load(path), part)
        return {**network.state_dict(), **unpublished(network)}
    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors' own class is not public
        raise UserError(f"init={path} cannot be read ({error}); expected an init file, whole") from None
    for key, value in tensors.items():
        if (odd := oddity(value)) is not None:
            raise UserError(f"init={path} has {key}, {odd}; expected finite numbers: take another file")
    prefix = f"{part}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def save_init(path: Path, face_morpher: FaceMorpher, body_rotator: BodyRotator) -> None:
    """Writes both networks' tensors in float16, which is exact enough as an init."""
    parts: dict[str, FaceMorpher | BodyRotator] = {"face_morpher": face_morpher, "body_rotator": body_rotator}
    tensors: dict[str, Tensor] = {}
    for part, network in parts.items():
        weights = {key: value.detach().half().contiguous() for key, value in network.state_dict().items()}
        tensors |= {f"{part}.{key}": value for key, value in {**weights, **unpublished(network)}.items()}
    save_file(tensors, path)

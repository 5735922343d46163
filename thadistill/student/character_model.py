"""Character model: face morpher + body rotator + character image, in the authors' folder layout."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
import yaml
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from thadistill.errors import UserError, check_positive
from thadistill.files import replacing
from thadistill.images import IMAGE_SIZE, STUDENT_FACE_REGION, load_character, to_rgba8
from thadistill.outputs import StudentOutput
from thadistill.pose import FACIAL_SIZE, POSE_SIZE, PoseLike, as_poses
from thadistill.student.body_rotator import BodyRotator
from thadistill.student.face_morpher import FaceMorpher
from thadistill.student.published import (
    BODY_MORPHER,
    FACE_MORPHER,
    IMAGE,
    file_beside,
    is_published,
    load_layers_model,
)
from thadistill.tensors import read_tensors

Network = TypeVar("Network", bound=nn.Module)

_MANIFEST = "character_model.yaml"
PUBLISHED_OMEGA = 30.0
_PLACE = re.compile(r"siren_layers\.(\d{1,4})\.(\d{1,4})\.linear\.weight", re.ASCII)
_LARGEST_MANIFEST = 8192  # bytes; it names three files
_KEYS = ("character_image_file_name", "face_morpher_file_name", "body_morpher_file_name")


class CharacterModel(nn.Module):
    """One character's student: pose -> posed image.

    Args:
        image: the character, network space.
        face_morpher, body_rotator: the two trained networks.
    """

    def __init__(self, image: Float[Tensor, "4 512 512"], face_morpher: FaceMorpher, body_rotator: BodyRotator) -> None:
        super().__init__()
        self.register_buffer("image", image, persistent=False)
        self.image: Tensor
        self.face_morpher = face_morpher
        self.body_rotator = body_rotator

    def forward(self, pose: PoseLike) -> StudentOutput:
        """Poses the character (THA4 section 4): face painted and pasted, then warped and painted over.

        Args:
            pose: [n, 45] or [45], a tensor, array or list.

        Raises: UserError for another width.
        """
        poses = as_poses(pose, self.image)
        face = self.face_morpher(poses[:, :FACIAL_SIZE])
        motion = self.body_rotator(poses)
        posed = self.body_rotator.render(motion, STUDENT_FACE_REGION.paste(self.image, face))
        return StudentOutput(posed.blended, posed.warped, motion.grid_change, motion.color_change, motion.alpha, face)

    @property
    def size_mb(self) -> float:
        """Megabytes (10^6 bytes) of float32 parameters."""
        return sum(p.numel() for p in self.parameters()) * 4 / 1e6

    def compile(self, runtime: str = "exact", **options: object) -> nn.Module:  # type: ignore[override]
        """A fast form with the same call: ``exact`` differs by rounding only, ``reduced`` is faster, at 16 bits.

        Takes the place of ``nn.Module.compile``, which compiles a module in place: ``torch.compile(model)`` still does.

        Raises: UserError when there is no such runtime, or it cannot run here.
        """
        from thadistill.runtime import compile_model  # the runtimes build on this module

        return compile_model(self, runtime, **options)

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> CharacterModel:
        """Opens a character-model folder, the authors' own and their web characters included.

        The architecture is read off the tensors.

        Raises: UserError when a file is missing, cut short, or not a student's.
        """
        folder = Path(folder)
        read: Callable[[Path], dict[str, Tensor]]
        if not (folder / _MANIFEST).is_file() and is_published(folder):
            names, read = (IMAGE, FACE_MORPHER, BODY_MORPHER), load_layers_model
        else:
            names, read = _read_manifest(folder), lambda path: read_tensors(path, str(path))
        image = load_character(folder / names[0])
        face = _build_face_morpher(read(folder / names[1]), folder / names[1])
        body = _build_body_rotator(read(folder / names[2]), folder / names[2])
        return cls(image, face, body).to(device).eval()

    def save(self, folder: str | Path) -> Path:
        """Writes the folder in the authors' layout and tensor names, so that their programs open it.

        Of the published architecture, that is: what their format has no words for goes into further tensors
        (:func:`unpublished`), which the authors' programs refuse and :meth:`load` reads.
        The folder appears or changes file by file, each whole (written under another name, then renamed).
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(to_rgba8(self.image), mode="RGBA")
        _write(folder / "character.png", lambda path: picture.save(path, format="PNG"))
        for name, network in (("face_morpher.pt", self.face_morpher), ("body_morpher.pt", self.body_rotator)):
            tensors = {key: value.detach().float().cpu().contiguous() for key, value in network.state_dict().items()}
            _write(folder / name, partial(torch.save, {**tensors, **unpublished(network)}))
        manifest = dict(zip(_KEYS, ("character.png", "face_morpher.pt", "body_morpher.pt"), strict=True))
        _write(folder / _MANIFEST, lambda path: path.write_text(yaml.safe_dump(manifest, sort_keys=False)))
        return folder


def unpublished(network: FaceMorpher | BodyRotator) -> dict[str, Tensor]:
    """What of a network's architecture neither its tensors' shapes nor the published format tell, as tensors by name.

    ``omega`` where it is not the published 30, ``sizes`` where levels do not double; nothing for a published network.
    """
    saved: dict[str, Tensor] = {}
    if network.omega != PUBLISHED_OMEGA:
        saved["omega"] = torch.tensor(network.omega, dtype=torch.float64)
    if isinstance(network, BodyRotator) and network.sizes != doubling_sizes(len(network.sizes)):
        saved["sizes"] = torch.tensor(network.sizes)
    return saved


def doubling_sizes(levels: int) -> tuple[int, ...]:
    """The image sizes of a published rotator's levels."""
    return tuple(IMAGE_SIZE >> (levels - 1 - level) for level in range(levels))


def _take_omega(tensors: dict[str, Tensor], path: Path) -> float:
    saved = tensors.pop("omega", torch.tensor(PUBLISHED_OMEGA))
    omega = float(saved) if saved.numel() == 1 else math.nan
    check_positive(f"{path}: omega", omega)
    return omega


def _write(path: Path, write: Callable[[Path], object]) -> None:
    with replacing(path) as temporary:
        write(temporary)


def _read_manifest(folder: Path) -> tuple[str, str, str]:
    path = folder / _MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} has no {_MANIFEST}; expected a character-model folder: check model=")
    try:
        content = yaml.safe_load(path.read_bytes()) if path.stat().st_size <= _LARGEST_MANIFEST else None
    except Exception:  # of YAML, and what a date of month 13 or a deep nesting makes stumble
        content = None
    if not isinstance(content, Mapping) or not all(isinstance(content.get(key), str) for key in _KEYS):
        raise UserError(f"{path} is not a character model's; expected the keys {', '.join(_KEYS)}")
    for key in _KEYS:
        file_beside(path, content[key], key)
    return content[_KEYS[0]], content[_KEYS[1]], content[_KEYS[2]]


def filled(make: Callable[[], Network], tensors: Mapping[str, Tensor], path: Path | str) -> Network:
    """The network that ``make`` makes, with the tensors; no memory is taken for it before their shapes are its own.

    Raises: UserError, which calls what holds the tensors ``path``, where they are another network's.
    """
    try:
        with torch.device("meta"):
            expected = {key: tuple(value.shape) for key, value in make().state_dict().items()}
    except UserError as error:
        raise UserError(f"{path} is not a student's: {error}") from None
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    if expected != found:
        odd = next(key for key in sorted({*expected, *found}) if expected.get(key) != found.get(key))
        raise UserError(f"{path} has {odd} of shape {found.get(odd)}; expected {expected.get(odd)}: not this network's")
    network = make()
    network.load_state_dict(dict(tensors))
    return network


def _build_face_morpher(tensors: dict[str, Tensor], path: Path) -> FaceMorpher:
    omega = _take_omega(tensors, path)
    depth = sum(key.endswith("linear.weight") and ".sine_layers." in key for key in tensors)
    first = tensors.get("siren.sine_layers.0.linear.weight")
    if first is None or first.ndim != 4:
        raise UserError(f"{path} is not a face morpher; expected tensors named siren.sine_layers.*")
    return filled(partial(FaceMorpher, width=len(first), depth=depth, omega=omega), tensors, path)


def _build_body_rotator(tensors: dict[str, Tensor], path: Path) -> BodyRotator:
    omega = _take_omega(tensors, path)
    told_sizes = tensors.pop("sizes", None)
    places = [_PLACE.fullmatch(key) for key in tensors if key.startswith("siren_layers.") and key.endswith(".weight")]
    numbers = [(int(place[1]), int(place[2])) for place in places if place]
    first = tensors.get("siren_layers.0.0.linear.weight")
    if first is None or first.ndim != 4 or first.shape[1] != 2 + POSE_SIZE or len(numbers) < len(places):
        raise UserError(f"{path} is not a body rotator; expected tensors named siren_layers.*")
    levels, depth = (1 + max(numbers_of) for numbers_of in zip(*numbers, strict=True))
    if levels * depth != len(numbers):
        raise UserError(f"{path} has {len(numbers)} layers in {levels} levels; expected as many in each")
    try:
        widths = [tensors[f"siren_layers.{level}.0.linear.weight"].shape[0] for level in range(levels)]
    except (KeyError, IndexError) as error:
        raise UserError(f"{path} lacks {error}; expected a body rotator's tensors") from None
    sizes = doubling_sizes(levels) if told_sizes is None else told_sizes.flatten().tolist()
    if not sizes or sizes[-1] != IMAGE_SIZE:
        raise UserError(f"{path} has levels of {sizes} pixels; expected the last to be {IMAGE_SIZE}")
    return filled(partial(BodyRotator, sizes=sizes, widths=widths, depth=depth, omega=omega), tensors, path)

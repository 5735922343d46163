"""Models: the loaders of trained weights: students, published web characters, teachers, inits, character files."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import formats
import mutants
import numpy as np
import torch
from lightning import LightningModule
from loaders import Files, Loader, hold, hold_finite, saved
from mutants import Mutant, pick, spoil_bytes
from PIL import Image
from safetensors.torch import save as pack_tensors
from torch import nn

from thadistill.export.character_file import pack_character, unpack_character
from thadistill.pipeline.fit import check_checkpoint
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher
from thadistill.student.init import apply_init, save_init
from thadistill.student.published import load_layers_model
from thadistill.teacher.weights import load_networks
from thadistill.tensors import read_tensors


class _Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(4, 3)


class _ToyTraining(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(4, 3)


torch.manual_seed(0)
_FACE, _BODY = FaceMorpher(width=8, depth=2), BodyRotator(widths=(8, 6, 4), depth=2)
_STATE = {key: value.detach() for key, value in _FACE.state_dict().items()}


def character_png() -> bytes:
    """A character image: a strip of one colour on a transparent background."""
    picture = Image.new("RGBA", (512, 512))
    picture.paste((200, 120, 40, 255), (192, 64, 320, 512))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


_ODD_TENSORS: tuple[Callable[[], Any], ...] = (
    lambda: torch.full((2, 2), torch.nan),
    lambda: torch.tensor([torch.inf]),
    lambda: torch.zeros(1).expand(10**6, 10**6),
    lambda: torch.zeros(2, 2).to_sparse(),
    lambda: torch.zeros(2, 2, device="meta"),
    lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.quint8),
    lambda: torch.zeros(2, dtype=torch.complex64),
    lambda: torch.zeros(2, dtype=torch.float8_e4m3fn),
    lambda: torch.zeros(2, dtype=torch.int64),
    lambda: torch.zeros(0),
    lambda: torch.tensor(3.0),
    lambda: torch.zeros(3, 3, 3, 3, 3),
    lambda: nn.Parameter(torch.zeros(2)),
    lambda: torch.zeros(8, 47, 1, 1).half(),
    lambda: None,
    lambda: "x",
    lambda: [torch.zeros(2)],
    lambda: {"a": torch.zeros(2)},
)
_ODD_NAMES = (3, None, "", "x", "omega", "sizes", "a\nb", "x" * 4000, "siren_layers.9999.0.linear.weight", ("a",), 1.5)


def spoil_state(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    """A file of torch.save: its bytes, its ZIP, or its tensors."""
    kind = int(generator.integers(6))
    if kind <= 1:
        return spoil_bytes(data, generator)
    if kind == 2:
        return formats.spoil_zip(data, generator)
    if kind == 3:
        legacy = saved(torch.load(io.BytesIO(data), weights_only=True), _use_new_zipfile_serialization=False)
        return spoil_bytes(legacy, generator)._replace(bytes_only=False)
    content = torch.load(io.BytesIO(data), weights_only=True)
    tree = content
    while (
        isinstance(tree, dict) and any(isinstance(value, dict) for value in tree.values()) and generator.random() < 0.7
    ):
        tree = pick(generator, [value for value in tree.values() if isinstance(value, dict)])
    if not isinstance(tree, dict) or not tree or generator.random() < 0.05:
        content = pick(generator, _ODD_TENSORS)()
    elif kind == 4:
        tree[pick(generator, [*tree])] = pick(generator, _ODD_TENSORS)()
    elif generator.random() < 0.5:
        del tree[pick(generator, [*tree])]
    else:
        tree[pick(generator, _ODD_NAMES)] = pick(generator, [*tree.values()])
    return Mutant(saved(content))


def _read_state(folder: Path) -> Any:
    found = read_tensors(folder / "x.pt", "x.pt")
    hold(all(isinstance(name, str) for name in found), "a name that is none")
    hold_finite(*found.values())
    return {
        name: (tuple(value.shape), value.detach().numpy().tobytes())
        for name, value in found.items()
        if value.numel() < 10**6
    }


# students

_MANIFEST = {
    "character_image_file_name": "character.png",
    "face_morpher_file_name": "face_morpher.pt",
    "body_morpher_file_name": "body_morpher.pt",
}


def _student_files() -> Files:
    return {
        "character_model.yaml": "".join(f"{key}: {value}\n" for key, value in _MANIFEST.items()).encode(),
        "character.png": character_png(),
        "face_morpher.pt": saved(_FACE.state_dict()),
        "body_morpher.pt": saved(_BODY.state_dict()),
    }


def _spoil_student(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    if generator.random() < 0.2:
        return spoil_bytes(data, generator)
    if name.endswith(".yaml"):
        return mutants.spoil_yaml(_MANIFEST, generator)
    return formats.spoil_png(data, generator) if name.endswith(".png") else spoil_state(name, data, generator)


def _read_student(folder: Path) -> Any:
    model = CharacterModel.load(folder)
    hold(model.image.shape == (4, 512, 512) and float(model.image.abs().max()) <= 1, "a picture out of its range")
    hold_finite(model.image, *model.state_dict().values())
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()} | {
        "picture": model.image.numpy().tobytes()
    }


def _published_files() -> Files:
    weights = [
        (key.removesuffix(".weight") + "/kernel", value.permute(2, 3, 1, 0))
        if value.ndim == 4
        else (key.removesuffix(".bias") + "/bias", value)
        for key, value in _STATE.items()
    ]
    entries = [{"name": name, "shape": [*value.shape], "dtype": "float32"} for name, value in weights]
    groups = [{"paths": ["face_morpher.weights.bin"], "weights": entries}]
    model = {"format": "layers-model", "generatedBy": "x", "modelTopology": {}, "weightsManifest": groups}
    data = b"".join(value.contiguous().numpy().tobytes() for _, value in weights)
    return {"face_morpher.json": json.dumps(model).encode(), "face_morpher.weights.bin": data}


def _spoil_published(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    if name.endswith(".bin") or generator.random() < 0.2:
        return spoil_bytes(data, generator)
    return mutants.spoil_json(json.loads(data), generator, ("face_morpher.weights.bin",))


def _read_published(folder: Path) -> None:
    found = load_layers_model(folder / "face_morpher.json")
    hold_finite(*found.values())
    hold(all(value.dtype == torch.float32 for value in found.values()), "another precision")


def _teacher_files() -> Files:
    state = saved(_Toy().part.state_dict())
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/part.pt", state)
    return {"part.pt": state, "teacher.zip": file.getvalue()}


def _spoil_teacher(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    if name == "part.pt":
        return spoil_state(name, data, generator)
    if generator.random() < 0.3:
        return spoil_bytes(data, generator)
    return formats.spoil_zip(data, generator, lambda inner: spoil_state(name, inner, generator))


def _read_teacher(folder: Path) -> Any:
    packed = folder / "teacher.zip"
    with torch.device("meta"):
        teacher = _Toy()
    load_networks(teacher, packed if packed.exists() else folder, torch.float32)
    hold_finite(*teacher.state_dict().values())
    return [value.numpy().tobytes() for value in teacher.state_dict().values()]


def _spoil_safetensors(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    if generator.random() < 0.4:
        return spoil_bytes(data, generator)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    if "__metadata__" in header and generator.random() < 0.4:
        architecture = json.loads(header["__metadata__"]["architecture"])
        text = mutants.spoil_json(architecture, generator).content.decode("utf-8", "replace")
        header["__metadata__"]["architecture"] = text
        made = json.dumps(header).encode()
    else:
        made = mutants.spoil_json(header, generator).content
    return Mutant(len(made).to_bytes(8, "little") + made + data[8 + size :])


def _init_files() -> Files:
    save_init(Path("init.safetensors"), _FACE, _BODY)
    data = Path("init.safetensors").read_bytes()
    Path("init.safetensors").unlink()
    odd = {f"face_morpher.{key}": value.half().contiguous() for key, value in _STATE.items()}
    odd["face_morpher.omega"] = torch.tensor(30.0, dtype=torch.float64)
    return {"init.safetensors": data, "omega.safetensors": pack_tensors(odd)}


def _read_init(folder: Path) -> None:
    for name, part, network in (
        ("init", "face_morpher", FaceMorpher(width=8, depth=2)),
        ("init", "body_rotator", BodyRotator(widths=(8, 6, 4), depth=2)),
        ("omega", "face_morpher", FaceMorpher(width=8, depth=2)),
    ):
        if (path := folder / f"{name}.safetensors").exists():
            apply_init(network, part, str(path))  # type: ignore[arg-type]
            hold_finite(*network.state_dict().values())


def _character_files() -> Files:
    visible = np.zeros((512, 512), bool)
    model = CharacterModel(torch.zeros(4, 512, 512) - 1, _FACE, _BODY)
    return {"c.safetensors": pack_character(model, "toy", visible)}


def _read_character(folder: Path) -> None:
    model, visible = unpack_character((folder / "c.safetensors").read_bytes(), "c.safetensors")
    hold_finite(*model.state_dict().values())
    hold(visible.shape == (512, 512) and visible.dtype == bool, "visible pixels of another form")


def _checkpoint_files() -> Files:
    named = {f"network.{key}": value for key, value in _Toy().part.state_dict().items()}
    content: dict[str, Any] = {"loops": {}, "callbacks": {}}
    content |= {"epoch": 0, "global_step": 7, "optimizer_states": [], "lr_schedulers": [], "state_dict": named}
    return {"last.ckpt": saved({**content, "pytorch-lightning_version": "2.6.0"})}


def _read_checkpoint(folder: Path) -> Any:
    step = check_checkpoint(folder / "last.ckpt", _ToyTraining())
    hold(isinstance(step, int), "a step that is no number")
    content = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    return {key: value.float().numpy().tobytes() for key, value in content.items()}


MODEL_LOADERS = {
    "tensors (.pt)": Loader(130, lambda: {"x.pt": saved(_FACE.state_dict())}, spoil_state, _read_state),
    "student folder": Loader(5, _student_files, _spoil_student, _read_student, alone=False),
    "published web character": Loader(250, _published_files, _spoil_published, _read_published, alone=False),
    "teacher weights, folder or ZIP": Loader(40, _teacher_files, _spoil_teacher, _read_teacher),
    "init (.safetensors)": Loader(30, _init_files, _spoil_safetensors, _read_init),
    "character file": Loader(5, _character_files, _spoil_safetensors, _read_character),
    "checkpoint of a training": Loader(60, _checkpoint_files, spoil_state, _read_checkpoint),
}

"""The authors' web characters: the reference student laid out as they publish it, and folders that are refused."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.students import toy_student
from thadistill.cli.app import main
from thadistill.data.poses import sample_poses
from thadistill.errors import UserError
from thadistill.student import CharacterModel
from thadistill.student.published import is_published


def write_layers_model(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """One network as TF.js saves a layers model: JSON, and float32 arrays one after the other."""
    entries, data = [], b""
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        array = tensor.numpy()
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array  # [out, in, h, w] -> [h, w, in, out]
        data += array.astype("<f4").tobytes()
        kind = {"weight": "kernel", "bias": "bias"}[kind]
        entries.append({"name": f"{layer}/{kind}", "shape": list(array.shape), "dtype": "float32"})
    weights = path.with_suffix(".weights.bin")
    weights.write_bytes(data)
    topology = {"class_name": "Model", "config": {"name": path.stem, "layers": []}, "backend": "tensorflow"}
    manifest = [{"paths": [f"./{weights.name}"], "weights": entries}]
    path.write_text(json.dumps({"format": "layers-model", "modelTopology": topology, "weightsManifest": manifest}))


def publish(model: CharacterModel, folder: Path) -> Path:
    """A student as a web character's folder."""
    model.save(folder)
    write_layers_model(model.face_morpher.state_dict(), folder / "face_morpher.json")
    write_layers_model(model.body_rotator.state_dict(), folder / "body_morpher.json")
    for name in ("character_model.yaml", "face_morpher.pt", "body_morpher.pt"):
        (folder / name).unlink()
    return folder


@pytest.fixture(scope="module")
def published(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference student, as its authors' web pages have it."""
    folder = tmp_path_factory.mktemp("published") / "lambda_00"
    publish(CharacterModel.load(reference / "students" / "lambda_00"), folder)
    shutil.copyfile(reference / "students" / "lambda_00" / "character.png", folder / "character.png")
    return folder


def test_the_reference_student_to_the_last_bit(published: Path, reference: Path) -> None:
    # the sizes of the published files
    assert (published / "face_morpher.weights.bin").stat().st_size == 485_904
    assert (published / "body_morpher.weights.bin").stat().st_size == 1_326_268
    found, expected = CharacterModel.load(published), CharacterModel.load(reference / "students" / "lambda_00")
    assert torch.equal(found.image, expected.image)
    pose = sample_poses(1, seed=3)
    with torch.inference_mode():
        for ours, theirs in zip(found(pose), expected(pose), strict=True):
            assert torch.equal(ours, theirs)


def test_golden_frames(published: Path, reference: Path) -> None:
    """The authors' own outputs, so that a layout that reader and writer both mistake would show."""
    with np.load(reference / "golden" / "student_lambda_00.npz") as file, torch.inference_mode():
        out = CharacterModel.load(published)(torch.from_numpy(file["pose"][:1]))
        for plane, name, tolerance in ((out.alpha, "alpha_s8", 1e-3), (out.grid_change, "grid_change_s8", 2e-5)):
            np.testing.assert_allclose(plane[0, :, 4::8, 4::8].numpy(), file[name][0], atol=tolerance, rtol=0)


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("verb", ["benchmark", "evaluate"])
def test_commands_take_it(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = publish(puppet_like(), tmp_path / "character")
    own = {"benchmark": ["runtime=eager", "frames=1"], "evaluate": ["teacher=puppet", "n=1"]}[verb]
    main([verb, f"model={folder}", f"out={tmp_path / 'out'}", *own])
    capsys.readouterr()
    made = {"benchmark": "benchmark.csv", "evaluate": "metrics.json"}[verb]
    assert (tmp_path / "out" / made).is_file()


def puppet_like() -> CharacterModel:
    """A toy student with the picture of the puppet, the only one that the puppet's teacher poses."""
    from thadistill.teacher.puppet import load_puppet

    toy = toy_student()
    return CharacterModel(load_puppet().character(), toy.face_morpher, toy.body_rotator)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return publish(toy_student(), tmp_path / "toy")


def test_a_yaml_file_takes_precedence(toy: Path) -> None:
    assert is_published(toy)
    other = toy_student(seed=1)
    other.save(toy)
    assert torch.equal(CharacterModel.load(toy).body_rotator.last_linear.weight, other.body_rotator.last_linear.weight)


def test_several_groups_of_files_are_one_after_the_other(toy: Path) -> None:
    expected = CharacterModel.load(toy).state_dict()
    path = toy / "face_morpher.json"
    content = json.loads(path.read_text())
    group = content["weightsManifest"][0]
    data = (toy / "face_morpher.weights.bin").read_bytes()
    first = 4 * sum(math.prod(entry["shape"]) for entry in group["weights"][:3])
    (toy / "face_morpher.weights.bin").unlink()
    (toy / "a.bin").write_bytes(data[:first])
    (toy / "b.bin").write_bytes(data[first : first + 20])  # as TF.js cuts files, not at an array's end
    (toy / "c.bin").write_bytes(data[first + 20 :])
    content["weightsManifest"] = [
        {"paths": ["a.bin"], "weights": group["weights"][:3]},
        {"paths": ["./b.bin", "c.bin"], "weights": group["weights"][3:]},
    ]
    path.write_text(json.dumps(content))
    found = CharacterModel.load(toy).state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def change(folder: Path, edit: Callable[[dict[str, Any]], object], name: str = "body_morpher.json") -> None:
    content = json.loads((folder / name).read_text())
    edit(content)
    (folder / name).write_text(json.dumps(content))


def entry(content: dict[str, Any], **values: object) -> None:
    content["weightsManifest"][0]["weights"][0].update(values)


def paths(content: dict[str, Any], *names: object) -> None:
    content["weightsManifest"][0]["paths"] = [*names]


def swap_sizes(content: dict[str, Any]) -> None:
    """As many values, but the second layer's inputs are not the first one's outputs."""
    shape = content["weightsManifest"][0]["weights"][2]["shape"]
    shape[2], shape[3] = shape[2] // 2, shape[3] * 2


def all_levels(content: dict[str, Any], level: str) -> None:
    for one in content["weightsManifest"][0]["weights"]:
        one["name"] = one["name"].replace("siren_layers.2", f"siren_layers.{level}")


REFUSED: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda c: c.update(format="graph-model"), "has the format 'graph-model'; expected a TF.js layers-model"),
    (lambda c: c.pop("format"), "has the format None"),
    (lambda c: c.update(weightsManifest={}), "has no list of weightsManifest"),
    (lambda c: c.update(weightsManifest=[7]), "has no list of weights"),
    (lambda c: c["weightsManifest"][0].pop("paths"), "has no list of paths"),
    (lambda c: entry(c, quantization={"dtype": "uint8", "min": 0, "scale": 1}), "quantised"),
    (lambda c: entry(c, dtype="float16"), "not in float32"),
    (lambda c: entry(c, name="kernel"), "an array named 'kernel'"),
    (lambda c: entry(c, name="siren_layers.0.0.linear/gamma"), "expected <layer>/kernel"),
    (lambda c: entry(c, name=5), "an array named 5"),
    (lambda c: entry(c, name=c["weightsManifest"][0]["weights"][2]["name"]), "twice"),
    (lambda c: entry(c, shape=[1, 1, 2**40, 2**40]), "bytes; expected"),
    (lambda c: entry(c, shape=[1, 1, 47, 2**40]), "bytes; expected"),
    (lambda c: entry(c, shape=[1, 1, -47, -16]), "of shape"),
    (lambda c: entry(c, shape=[1, 1, 47.0, 16]), "of shape"),
    (lambda c: entry(c, shape=[1, 1, True, 752]), "of shape"),
    (lambda c: entry(c, shape=[47, 16]), "of shape"),
    (lambda c: entry(c, shape=[47, 16, 1, 1]), "of shape"),
    (lambda c: entry(c, shape="many"), "of shape 'many'"),
    (lambda c: entry(c, shape=[1, 1, 16, 47]), "not a body rotator"),
    (swap_sizes, "not this network's"),
    (lambda c: all_levels(c, "9999"), "expected as many in each"),
    (lambda c: all_levels(c, "x"), "not a body rotator"),
    (lambda c: paths(c, "../toy/body_morpher.weights.bin"), "expected a file in its own folder"),
    (lambda c: paths(c, "a/../../body_morpher.weights.bin"), "expected a file in its own folder"),
    (lambda c: paths(c, "/etc/passwd"), "expected a file in its own folder"),
    (lambda c: paths(c, "..\\body_morpher.weights.bin"), "expected a file in its own folder"),
    (lambda c: paths(c, "C:body_morpher.weights.bin"), "expected a file in its own folder"),
    (lambda c: paths(c, "body\0"), "expected a file in its own folder"),
    (lambda c: paths(c, 7), "expected a file in its own folder"),
    (lambda c: paths(c, "elsewhere.bin"), "does not exist"),
    (lambda c: paths(c, "."), "does not exist"),
]


@pytest.mark.parametrize(("edit", "match"), REFUSED)
def test_refused_in_one_line(toy: Path, edit: Callable[[dict[str, Any]], object], match: str) -> None:
    change(toy, edit)
    with pytest.raises(UserError, match=match) as caught:
        CharacterModel.load(toy)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["{", "[]", "7", "[" * 100_000, "\xff\xfe"])
def test_broken_json(toy: Path, text: str) -> None:
    (toy / "face_morpher.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"a TF\.js layers") as caught:
        CharacterModel.load(toy)
    assert "\n" not in str(caught.value)


def test_weights_of_another_length_or_not_finite(toy: Path) -> None:
    weights = toy / "body_morpher.weights.bin"
    data = weights.read_bytes()
    for wrong in (data[:-4], data + b"\0", b""):
        weights.write_bytes(wrong)
        with pytest.raises(UserError, match=f"has {len(wrong)} bytes; expected {len(data)}"):
            CharacterModel.load(toy)
    for value in (np.nan, np.inf):
        weights.write_bytes(data[:-4] + np.float32(value).tobytes())
        with pytest.raises(UserError, match="not finite"):
            CharacterModel.load(toy)
    (toy / "body_morpher.json").unlink()
    with pytest.raises(UserError, match="does not exist"):
        CharacterModel.load(toy)


def test_no_memory_is_taken_for_layers_that_are_not_there(toy: Path) -> None:
    """A small file whose first layer is very wide: seven hidden layers of that width would be 112 GB."""
    width = 63_000
    tensors = {f"siren.sine_layers.{i}.linear.weight": torch.zeros(1, 1, 1, 1) for i in range(8)}
    tensors["siren.sine_layers.0.linear.weight"] = torch.zeros(width, 41, 1, 1)
    write_layers_model(tensors, toy / "face_morpher.json")
    with pytest.raises(UserError, match="not this network's"):
        CharacterModel.load(toy)

"""ONNX export: parity with PyTorch and with the authors' outputs, what the file holds, what is refused."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import thadistill
from tests.students import toy_student
from thadistill.data.poses import sample_poses
from thadistill.errors import UserError
from thadistill.export.character_file import unpack_character
from thadistill.export.onnx import LEAST_DB, export_onnx
from thadistill.images import IMAGE_SIZE, encode_rgba, to_rgba8
from thadistill.runtime.onnx_graph import OUTPUTS
from thadistill.student import BodyRotator, CharacterModel

PICTURE_MB = 4 * IMAGE_SIZE**2 / 1e6
# of opset 17, in ONNX Runtime's CPU, CUDA, DirectML, CoreML and web builds (there by falling back to their CPU, at worst)
COMMON = {
    "Add",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Conv",
    "Div",
    "Gather",
    "Gemm",
    "GridSample",
    "Identity",
    "Max",
    "Min",
}
COMMON |= {"Mul", "Pow", "Reshape", "Resize", "Round", "Sin", "Slice", "Sub", "Transpose"}


@pytest.fixture(scope="module")
def toy() -> CharacterModel:
    model = toy_student()
    # as a PNG holds it, which the graph does too
    model.image.copy_(encode_rgba(to_rgba8(model.image)))
    return model


def frames(path: Path, pose: torch.Tensor) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, {"pose": pose.numpy()}), strict=True))


def test_a_file_and_its_parity(toy: CharacterModel, tmp_path: Path) -> None:
    path = tmp_path / "new" / "toy.onnx"
    parity = export_onnx(toy, path, poses=sample_poses(2, seed=4))
    assert json.loads((tmp_path / "new" / "parity.json").read_text()) == parity
    assert {file.name for file in path.parent.iterdir()} == {"toy.onnx", "parity.json"}
    assert parity["dtype"] == "float32"
    assert parity["outputs"] == ["rgba"]
    assert {"torch", "onnx", "onnxruntime", "thadistill"} <= {*parity["versions"]}
    assert [len(row["pose"]) for row in parity["poses"]] == [45, 45]
    assert parity["psnr_min"] == min(row["outputs"]["rgba"]["psnr"] for row in parity["poses"])
    model = onnx.load(path)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert {node.op_type for node in model.graph.node} <= COMMON
    pose = sample_poses(1, seed=9)
    found = frames(path, pose)["rgba"]
    assert found.dtype == np.uint8
    assert found.shape == (512, 512, 4)
    with torch.inference_mode():
        expected = to_rgba8(toy(pose).posed[0])
    assert expected[..., 3].max() > 0
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1  # float32 rounding at the middle between two levels
    assert (difference > 0).mean() < 0.01


def test_named_outputs(toy: CharacterModel, tmp_path: Path) -> None:
    pose = sample_poses(1, seed=5)
    order = [*reversed(OUTPUTS)]
    export_onnx(toy, tmp_path / "all.onnx", outputs=order, poses=pose)
    found = frames(tmp_path / "all.onnx", pose)
    assert [*found] == order
    with torch.inference_mode():
        for name, plane in toy(pose)._asdict().items():
            assert found[name].dtype == np.float32
            # float32 rounding of phases of some tens of radians; the warp multiplies it at edges
            assert np.quantile(np.abs(found[name] - plane.numpy()), 0.999) < 5e-4, name
    export_onnx(toy, tmp_path / "alpha.onnx", outputs=("alpha",), poses=pose)
    needed = onnx.load(tmp_path / "alpha.onnx").graph
    assert not {"GridSample", "Gather"} & {node.op_type for node in needed.node}  # neither warp nor picture nor face


@pytest.mark.parametrize("sizes", [(512,), (512, 512), (256, 512), (64, 128, 256, 512)])
def test_other_levels(toy: CharacterModel, sizes: tuple[int, ...], tmp_path: Path) -> None:
    torch.manual_seed(1)
    body = BodyRotator(sizes, [12, 10, 9, 8][: len(sizes)], depth=2)
    with torch.no_grad():
        body.last_linear.weight[:2] *= 0.05
    model = CharacterModel(toy.image, toy.face_morpher, body).eval()
    parity = export_onnx(model, tmp_path / "student.onnx", outputs=("rgba", "posed"), poses=sample_poses(1, seed=1))
    assert parity["psnr_min"] >= 60


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [*LEAST_DB])
def test_the_reference_student(dtype: str, reference: Path, tmp_path: Path) -> None:
    model = CharacterModel.load(reference / "students" / "lambda_00")
    with np.load(reference / "golden" / "student_lambda_00.npz") as file:
        golden = dict(file)
    poses = torch.from_numpy(golden["pose"][[0, 3]])
    path = tmp_path / "student.onnx"
    parity = export_onnx(model, path, dtype, outputs=("rgba", "posed", "face"), poses=poses)
    assert parity["psnr_min"] >= LEAST_DB[dtype]
    assert path.stat().st_size / 1e6 <= PICTURE_MB + (3 if dtype == "float32" else 1.2)
    # the authors' own outputs, which this project's PyTorch has no part in
    found = frames(path, poses[1:])
    whole = golden["blended_full_3"].astype(np.float32)
    error = found["posed"][0].clip(-1, 1) - whole.clip(-1, 1)
    assert 10 * np.log10(4 / np.square(error).mean()) >= LEAST_DB[dtype]
    assert np.abs(found["face"][0, :, 1::2, 1::2] - golden["face_s2"][3]).max() < (1e-4 if dtype == "float32" else 0.05)
    expected = to_rgba8(torch.from_numpy(whole))
    assert (np.abs(found["rgba"].astype(int) - expected)[..., 3] <= (1 if dtype == "float32" else 8)).mean() > 0.999


@pytest.mark.slow
def test_recorded_poses(reference: Path, tmp_path: Path) -> None:
    """The student that comes with the package, on a performer's poses."""
    model, _ = unpack_character((Path(thadistill.__file__).parent / "serve" / "puppet.safetensors").read_bytes())
    track = np.load(reference / "pose_tracks" / "pose_20fps.npy")[::2500].astype(np.float32)
    for dtype, least in LEAST_DB.items():
        assert export_onnx(model, tmp_path / "puppet.onnx", dtype, poses=torch.from_numpy(track))["psnr_min"] >= least


def test_mistakes_leave_nothing(toy: CharacterModel, tmp_path: Path) -> None:
    path = tmp_path / "out" / "student.onnx"
    pose = sample_poses(1, seed=1)
    for match, arguments in {
        "dtype=int8; expected one of float32, float16": {"dtype": "int8"},
        r"outputs=\['depth'\]; expected one or more of rgba": {"outputs": ("depth",)},
        "each once": {"outputs": ("rgba", "rgba")},
        r"outputs=\[\]": {"outputs": ()},
    }.items():
        with pytest.raises(UserError, match=match) as caught:
            export_onnx(toy, path, poses=pose, **arguments)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    assert not path.parent.exists()
    with pytest.raises(UserError, match="is a folder; expected a file"):
        export_onnx(toy, tmp_path, poses=pose)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        export_onnx(toy, tmp_path / "file" / "student.onnx", poses=pose)


def test_a_graph_that_is_not_near_enough_is_not_written(
    toy: CharacterModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pose, path = sample_poses(1, seed=1), tmp_path / "student.onnx"
    export_onnx(toy, path, poses=pose)
    earlier = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setitem(LEAST_DB, "float16", 100.5)
    with pytest.raises(
        UserError, match=r"dB from its student; expected 100\.5 or more: nothing was written, try"
    ) as caught:
        export_onnx(toy, path, "float16", poses=pose)
    assert "\n" not in str(caught.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == earlier


def test_a_student_that_is_not_finite(tmp_path: Path) -> None:
    model = toy_student()
    with torch.no_grad():
        model.body_rotator.last_linear.bias[0] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        export_onnx(model, tmp_path / "out" / "student.onnx", poses=sample_poses(1, seed=1))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(
    package: str, toy: CharacterModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: object, **options: object) -> object:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
        return real(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "thadistill.runtime.onnx_graph")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'thadistill\[export\]'"):
        export_onnx(toy, tmp_path / "student.onnx")
    monkeypatch.undo()
    assert not [*tmp_path.iterdir()]

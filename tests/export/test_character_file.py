"""The character file: what comes back, what is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load, save

from tests.students import toy_student
from thadistill.data.poses import sample_poses
from thadistill.errors import UserError
from thadistill.export.character_file import file_name, pack_character, unpack_character
from thadistill.export.students import open_students

VISIBLE = np.zeros((512, 512), bool)
VISIBLE[100:300, 64:200] = True


@pytest.mark.parametrize("omega", [30.0, 20.0])
def test_the_same_student_comes_back(omega: float) -> None:
    model = toy_student(omega=omega)
    again, visible = unpack_character(pack_character(model, "名前", VISIBLE))
    np.testing.assert_array_equal(visible, VISIBLE)
    pose = sample_poses(1, seed=2)
    with torch.inference_mode():
        for name, plane in model(pose)._asdict().items():
            # the picture went through 8 bits, as a character_model folder's does
            tolerance = 0 if name in ("grid_change", "alpha", "color_change", "face") else 0.02
            torch.testing.assert_close(getattr(again(pose), name), plane, atol=tolerance, rtol=0)


def damaged() -> list[bytes]:
    packed = pack_character(toy_student(), "toy", VISIBLE)
    length = int.from_bytes(packed[:8], "little")
    header = json.loads(packed[8 : 8 + length])

    def with_header(**changes: object) -> bytes:
        text = json.dumps({**header, **changes}).encode()
        return len(text).to_bytes(8, "little") + text + packed[8 + length :]

    def with_picture(picture: bytes) -> bytes:
        return save({**load(packed), "picture": torch.frombuffer(bytearray(picture), dtype=torch.uint8)}, metadata)

    def drawn(size: int, form: str) -> bytes:
        written = io.BytesIO()
        Image.new("RGB", (size, size)).save(written, format=form)
        return written.getvalue()

    metadata = header["__metadata__"]
    return [
        with_picture(b"no picture"),
        with_picture(drawn(512, "PNG")[:200]),
        with_picture(drawn(256, "PNG")),
        with_picture(drawn(512, "JPEG")),
        b"",
        packed[:4],
        packed[: len(packed) // 2],
        b"\xff" * 100,
        (2**62).to_bytes(8, "little") + packed[8:],
        with_header(__metadata__={**metadata, "version": "9"}),
        with_header(__metadata__={**metadata, "architecture": "{}"}),
        with_header(__metadata__={**metadata, "architecture": "[1"}),
        with_header(__metadata__={}),
        with_header(picture={"dtype": "U8", "shape": [7], "data_offsets": [0, 7]}),
    ]


@pytest.mark.parametrize("packed", damaged())
def test_damaged_files_are_one_line(packed: bytes) -> None:
    with pytest.raises(UserError, match="expected") as caught:
        unpack_character(packed, "mine.safetensors")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("mine.safetensors")


def test_names_become_file_names() -> None:
    assert file_name("lambda_00") == "lambda_00.safetensors"
    assert file_name("../a b/ü") == "a_b.safetensors"
    assert file_name("初音") == "character.safetensors"


def test_students_by_pattern_list_and_file(tmp_path: Path) -> None:
    toy_student().save(tmp_path / "a")
    toy_student().save(tmp_path / "run" / "character_model")
    (tmp_path / "b.safetensors").write_bytes(pack_character(toy_student(), "b", VISIBLE))
    assert [student.name for student in open_students([str(tmp_path / "a"), str(tmp_path / "a")])] == ["a", "a-2"]
    assert [student.name for student in open_students([str(tmp_path / "**")])] == ["a", "b", "run"]
    with pytest.raises(UserError, match="matches no character model"):
        open_students([str(tmp_path / "absent*")])
    with pytest.raises(UserError, match=r"absent has no character_model\.yaml"):
        open_students([str(tmp_path / "absent")])

"""Starts: a written start comes back, and what cannot be started from is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from thadistill.errors import UserError
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher
from thadistill.student.start import save_start, start


def networks(seed: int, width: int = 16) -> tuple[FaceMorpher, BodyRotator]:
    torch.manual_seed(seed)
    return FaceMorpher(width=width, depth=3), BodyRotator(width_scale=0.05)


def test_a_start_file_comes_back_within_half_precision(tmp_path: Path) -> None:
    (face, body), (other_face, other_body) = networks(0), networks(1)
    path = tmp_path / "start.safetensors"
    save_start(path, face, body)
    start(other_face, "face_morpher", str(path))
    start(other_body, "body_rotator", str(path))
    for given, found in ((face, other_face), (body, other_body)):
        for name, value in found.state_dict().items():
            torch.testing.assert_close(value, given.state_dict()[name].half().float(), rtol=0, atol=0)
    values = sum(p.numel() for net in (face, body) for p in net.parameters())
    assert path.stat().st_size < 2 * values + 8192  # and a header


def test_a_students_folder_is_a_start(tmp_path: Path) -> None:
    (face, body), (_, other) = networks(0), networks(1)
    image = torch.full((4, 512, 512), -1.0)
    image[:, 100:400, 150:350] = 0.5
    folder = CharacterModel(image, face, body).save(tmp_path / "model")
    start(other, "body_rotator", str(folder))
    assert torch.equal(other.last_linear.weight, body.last_linear.weight)


def test_none_leaves_the_network_as_it_is() -> None:
    face, _ = networks(0)
    before = face.siren.sine_layers[0].linear.weight.clone()  # type: ignore[union-attr, operator]
    start(face, "face_morpher", None)
    assert torch.equal(face.siren.sine_layers[0].linear.weight, before)  # type: ignore[union-attr, arg-type]


def test_what_cannot_be_started_from_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    save_start(path, *networks(0))
    with pytest.raises(UserError, match="other sizes"):
        start(networks(0, width=8)[0], "face_morpher", str(path))
    with pytest.raises(UserError, match="does not exist"):
        start(networks(0)[0], "face_morpher", str(tmp_path / "none.safetensors"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        start(networks(0)[0], "face_morpher", str(path))

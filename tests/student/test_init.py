"""Starts: a written start comes back, and what cannot be started from is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from thadistill.config import compose
from thadistill.errors import UserError
from thadistill.pipeline.fit import student_module
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher
from thadistill.student.init import INITS, apply_init, save_init

ROOT = Path(__file__).parents[2]


def networks(seed: int, width: int = 16) -> tuple[FaceMorpher, BodyRotator]:
    torch.manual_seed(seed)
    return FaceMorpher(width=width, depth=3), BodyRotator(width_scale=0.05)


def test_a_start_file_comes_back_within_half_precision(tmp_path: Path) -> None:
    (face, body), (other_face, other_body) = networks(0), networks(1)
    path = tmp_path / "init.safetensors"
    save_init(path, face, body)
    apply_init(other_face, "face_morpher", str(path))
    apply_init(other_body, "body_rotator", str(path))
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
    apply_init(other, "body_rotator", str(folder))
    assert torch.equal(other.last_linear.weight, body.last_linear.weight)


def test_none_leaves_the_network_as_it_is() -> None:
    face, _ = networks(0)
    before = face.siren.sine_layers[0].linear.weight.clone()  # type: ignore[union-attr, operator]
    apply_init(face, "face_morpher", None)
    assert torch.equal(face.siren.sine_layers[0].linear.weight, before)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("student", ["paper", "slim"])
def test_the_shipped_starts_are_what_their_records_say(student: str) -> None:
    record = json.loads((ROOT / "experiments" / "warm_init" / student / "record.json").read_text())
    assert (INITS / f"{student}.safetensors").stat().st_size == record["bytes"] < 1_000_000
    for part in ("face_morpher", "body_rotator"):
        assert record[part]["student"] == student
        assert not {"lambda_00", "crypko_00", "crypko_03"} & {*record[part]["characters"]}  # which it is judged on
    config = compose("distill", [f"student={student}"])
    for part in ("face_morpher", "body_rotator"):
        network = instantiate(config.student[part])
        apply_init(network, part, "warm")  # type: ignore[arg-type]
        found = network.state_dict()
        assert all(bool(value.isfinite().all()) for value in found.values())
        assert all(value.dtype == torch.float32 for value in found.values())


def test_a_recipe_leaves_a_start_as_it_is() -> None:
    config = compose("distill", ["recipe=warm"])
    assert config.init == "warm"
    body = BodyRotator()
    apply_init(body, "body_rotator", "warm")
    module = student_module(config, "body_rotator", image=torch.zeros(4, 512, 512))
    torch.testing.assert_close(module.student().last_linear.weight, body.last_linear.weight)
    face = FaceMorpher()
    apply_init(face, "face_morpher", "warm")
    found = student_module(config, "face_morpher").network.state_dict()
    for name, value in face.state_dict().items():
        assert torch.equal(found[name], value)


@pytest.mark.parametrize("recipe", ["warm", "fast", "paper"])
def test_any_recipe_leaves_a_students_own_weights_as_they_are(recipe: str, tmp_path: Path) -> None:
    face, body = networks(0)
    image = torch.full((4, 512, 512), -1.0)
    image[:, 100:400, 150:350] = 0.5
    folder = CharacterModel(image, face, body).save(tmp_path / "model")
    sizes = ["student.body_rotator.width_scale=0.05", "student.face_morpher={width: 16, depth: 3}"]
    config = compose("distill", [f"recipe={recipe}", f"init={folder}", *sizes])
    module = student_module(config, "body_rotator", image=image)
    for name, value in body.state_dict().items():
        assert torch.equal(module.student().state_dict()[name], value), name  # those on the facial pose too
    found = student_module(config, "face_morpher").network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in face.state_dict().items())


def test_what_is_given_is_taken_with_an_init_too() -> None:
    given = ["recipe.body_rotator.position_gain=3.0", "recipe.body_rotator.near_identity_init=true"]
    config = compose("distill", ["recipe=warm", *given, "recipe.face_morpher.position_gain=2.0"])
    body, face = BodyRotator(), FaceMorpher()
    apply_init(body, "body_rotator", "warm")
    apply_init(face, "face_morpher", "warm")
    trained = student_module(config, "body_rotator", image=torch.zeros(4, 512, 512)).student()
    torch.testing.assert_close(trained.last_linear.weight[:2], 0.01 * body.last_linear.weight[:2])
    first, expected = (net.siren_layers[0][0].linear.weight[:, :2] for net in (trained, body))  # type: ignore[index]
    torch.testing.assert_close(first, 3 * expected)
    first, expected = (
        net.siren.sine_layers[0].linear.weight[:, :2] for net in (student_module(config, "face_morpher").network, face)
    )
    torch.testing.assert_close(first, 2 * expected)


def test_what_cannot_be_started_from_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "init.safetensors"
    save_init(path, *networks(0))
    with pytest.raises(UserError, match="other sizes"):
        apply_init(networks(0, width=8)[0], "face_morpher", str(path))
    with pytest.raises(UserError, match="does not exist"):
        apply_init(networks(0)[0], "face_morpher", str(tmp_path / "none.safetensors"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        apply_init(networks(0)[0], "face_morpher", str(path))


def test_omega_belongs_to_a_start(tmp_path: Path) -> None:
    torch.manual_seed(0)
    face, body = FaceMorpher(width=16, depth=3, omega=20.0), BodyRotator(width_scale=0.05, omega=10.0)
    image = torch.full((4, 512, 512), -1.0)
    image[:, 100:400, 150:350] = 0.5
    save_init(tmp_path / "init.safetensors", face, body)
    sources = (tmp_path / "init.safetensors", CharacterModel(image, face, body).save(tmp_path / "model"))
    for source in sources:
        apply_init(FaceMorpher(width=16, depth=3, omega=20.0), "face_morpher", str(source))
        apply_init(BodyRotator(width_scale=0.05, omega=10.0), "body_rotator", str(source))
        with pytest.raises(UserError, match="omega 20; expected the student's, 30"):
            apply_init(FaceMorpher(width=16, depth=3), "face_morpher", str(source))
    with pytest.raises(UserError, match="warm has a face_morpher of omega 30; expected the student's, 20"):
        apply_init(FaceMorpher(omega=20.0), "face_morpher", "warm")

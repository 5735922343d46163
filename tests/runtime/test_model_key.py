"""What is kept on disk for a model is kept under all that made it."""

from __future__ import annotations

import torch

from thadistill.runtime.visible import model_key
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher


def model(
    face_omega: float = 30.0, body_omega: float = 30.0, sizes: tuple[int, ...] = (128, 256, 512)
) -> CharacterModel:
    torch.manual_seed(0)
    face = FaceMorpher(width=16, depth=2)
    body = BodyRotator(sizes, width_scale=0.05)
    made = FaceMorpher(width=16, depth=2, omega=face_omega), BodyRotator(sizes, width_scale=0.05, omega=body_omega)
    for network, same in zip(made, (face, body), strict=True):
        network.load_state_dict(same.state_dict())
    return CharacterModel(torch.full((4, 512, 512), -1.0), *made)


def test_a_key_tells_models_of_the_same_tensors_apart() -> None:
    models = (model(), model(face_omega=20.0), model(body_omega=20.0), model(sizes=(512, 512, 512)))
    assert len({model_key(m) for m in models}) == len(models)
    assert model_key(model()) == model_key(model())

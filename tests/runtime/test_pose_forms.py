"""What counts as a pose: students, runtimes and teachers take the same forms, and refuse the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.students import toy_student
from thadistill.data.poses import sample_poses
from thadistill.errors import UserError
from thadistill.runtime import Runtime, compile_model
from thadistill.student import CharacterModel
from thadistill.teacher import load_teacher

POSE = sample_poses(1, seed=4)
FORMS = {
    "single": POSE[0],
    "double": POSE.double(),
    "numpy": POSE.numpy(),
    "numpy double": POSE[0].double().numpy(),
    "list": POSE[0].tolist(),
    "rows": POSE.tolist(),
}


@pytest.fixture(scope="module")
def model() -> CharacterModel:
    return toy_student()


@pytest.fixture(scope="module", params=["eager", "folded", "exact", "reduced"])
def fast(request: pytest.FixtureRequest, model: CharacterModel) -> Runtime:
    made = compile_model(model, request.param, reuse=False)
    assert isinstance(made, Runtime)
    return made


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_frame(form: str, fast: Runtime, model: CharacterModel) -> None:
    assert torch.equal(fast(FORMS[form]).posed, fast(POSE).posed)
    assert np.array_equal(fast.rgba8(FORMS[form]), fast.rgba8(POSE))
    assert torch.equal(model(FORMS[form]).posed, model(POSE).posed)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda pose: pose[:, :44], "shape (1, 44); expected [45] or [n, 45]"),
        (lambda pose: pose[None], "shape (1, 1, 45)"),
        (lambda pose: pose.index_fill(1, torch.tensor([39]), float("nan")), "head_x of pose 0 is nan"),
        (lambda pose: pose.index_fill(1, torch.tensor([0]), float("inf")), "eyebrow_troubled_left of pose 0 is inf"),
        (lambda pose: ["left"] * 45, "holds no numbers"),
    ],
)
def test_what_is_no_pose_is_refused(spoil: Callable[[torch.Tensor], Any], message: str, fast: Runtime) -> None:
    for take in (fast, fast.rgba8, fast.bgra8):
        with pytest.raises(UserError) as caught:
            take(spoil(POSE))
        assert message in str(caught.value)


def test_frames_of_pixels_are_of_one_pose(fast: Runtime) -> None:
    with pytest.raises(UserError, match="2 poses; expected one"):
        fast.rgba8(sample_poses(2, seed=1).numpy())


def test_teachers_take_the_same_forms() -> None:
    teacher = load_teacher("puppet")
    image = teacher.rest[None]
    expected = teacher(image, POSE).posed
    for form in FORMS.values():
        assert torch.equal(teacher(image, form).posed, expected)
    assert torch.equal(teacher(image=image, pose=POSE[0].numpy()).posed, expected)
    with pytest.raises(UserError, match=r"shape \(44,\); expected"):
        teacher(image, POSE[0, :44])

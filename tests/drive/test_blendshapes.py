"""Blendshapes to pose, against what the authors' converter gave, and by hand."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.vowels import STOPPED_SHORT, authors_vowels, cost
from thadistill.drive import BLENDSHAPES, BlendshapeMapper, breathing
from thadistill.drive.blendshapes import _vowels
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS

MOUTH = [POSE_PARAMETERS.index(f"mouth_{vowel}") for vowel in ("aaa", "iii", "uuu", "ooo")]


def named(pose: torch.Tensor) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(POSE_PARAMETERS, pose, strict=True) if value != 0}


def test_as_the_authors_converter_has_it(reference: Path) -> None:
    cases = json.loads((reference / "golden" / "blendshapes_to_pose.json").read_text())
    assert len(cases) == 240
    others = [index for index in range(len(POSE_PARAMETERS)) if index not in MOUTH]
    apart = []
    for index, case in enumerate(cases):
        mapper = BlendshapeMapper(case["eyebrow_down_mode"], case["wink_mode"])
        difference = np.abs(mapper(case["blendshapes"], np.array(case["matrix"])).numpy() - case["pose"])
        assert difference[others].max() < 1e-4  # the recording has five digits
        if difference[MOUTH].max() > 0.05:  # a minimiser's, which stops where the cost is nearly flat
            apart.append(index)
    assert apart == STOPPED_SHORT


def test_the_mouth_is_the_best_fit() -> None:
    generator = np.random.default_rng(3)
    better = 0
    for shape in generator.uniform(0, 1, (60, 4)):
        found, authors = cost(np.array(_vowels(shape)), shape), cost(authors_vowels(shape), shape)
        assert found < authors + 1e-6
        better += found < authors - 1e-3
    assert better < 30  # most of the time they agree


def test_two_hundred_faces_a_second() -> None:
    generator = np.random.default_rng(4)
    head = Rotation.from_euler("xyz", [4, 5, 6], degrees=True).as_matrix()
    faces = [dict(zip(BLENDSHAPES, map(float, generator.uniform(0, 1, 52)), strict=True)) for _ in range(50)]
    mapper = BlendshapeMapper()
    mapper(faces[0], head)
    started = time.process_time()
    for face in faces:
        mapper(face, head)
    assert time.process_time() - started < 50 / 200


@pytest.mark.parametrize(
    "spell",
    [
        lambda name: name[0].upper() + name[1:],  # Live Link
        lambda name: name.replace("Left", "_L").replace("Right", "_R"),  # Maya
        lambda name: "head_blend." + name,
        str.upper,
    ],
)
def test_names_of_other_trackers(spell: Callable[[str], str]) -> None:
    face = {name: (7 * i % 11) / 11 for i, name in enumerate(BLENDSHAPES)}
    given = {spell(name): value for name, value in face.items()} | {"headYaw": 3.0}
    assert len(given) == 53
    mapper = BlendshapeMapper()
    assert torch.equal(mapper(given), mapper(face))
    percent = {name: round(100 * value) for name, value in given.items() if name != "headYaw"}
    torch.testing.assert_close(mapper(percent), mapper(face), atol=0.09, rtol=0)  # steps of 0.01, stretched by mapping


def test_a_head_matrix_of_any_common_form() -> None:
    turned = Rotation.from_euler("xyz", [7.5, -5, 15], degrees=True).as_matrix()
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = 2.5 * turned, (1, 2, 30)
    mapper = BlendshapeMapper()
    for head in (turned, whole, whole.tolist(), torch.from_numpy(whole), [7.5, -5, 15]):
        torch.testing.assert_close(mapper({}, head), mapper({}, turned), atol=1e-6, rtol=0)


def test_calibration_is_the_mean_direction() -> None:
    heads = [Rotation.from_euler("xyz", [a, -3, 2 * a], degrees=True).as_matrix() for a in (2, 4)]
    mapper = BlendshapeMapper(wink="relaxed").calibrated(heads)
    assert mapper.wink == "relaxed"
    assert np.allclose(mapper.neutral, (3, -3, 6))
    with pytest.raises(UserError, match="no head"):
        mapper.calibrated([])


@pytest.mark.parametrize(
    ("blendshapes", "head", "message"),
    [
        ({"eyeblinkle": 1.0, "x": 0.3}, None, "none of 2 names is a blendshape's, 'eyeblinkle' the first"),
        ({"jawOpen": None}, None, "jawOpen is None; expected a number"),
        ({"jawOpen": "wide"}, None, "jawOpen is wide; expected a number"),
        (None, None, "blendshapes=None; expected"),
        ({}, np.full((3, 3), np.nan), "not finite"),
        ({}, np.zeros((4, 4)), "singular or mirrored"),
        ({}, np.diag([1.0, 1.0, 0.0]), "singular or mirrored"),
        ({}, np.diag([1.0, 1.0, -1.0]), "singular or mirrored"),
        ({}, np.zeros((2, 2)), "shape"),
        ({}, "left", "expected a 3x3"),
    ],
)
def test_what_cannot_be_mapped_is_reported(blendshapes: Any, head: Any, message: str) -> None:
    with pytest.raises(UserError, match="expected") as caught:
        BlendshapeMapper()(blendshapes, head)
    assert message in str(caught.value)


def test_the_names_are_arkits() -> None:
    assert len(BLENDSHAPES) == len({*BLENDSHAPES}) == 52
    assert {"eyeBlinkLeft", "jawOpen", "mouthShrugUpper", "tongueOut", "cheekPuff", "noseSneerRight"} <= {*BLENDSHAPES}


def test_nothing_is_the_rest_pose() -> None:
    assert named(BlendshapeMapper()({})) == {}
    assert named(BlendshapeMapper()({"_neutral": 1.0}, np.eye(3))) == {}


def test_sides_stay_sides() -> None:
    assert named(BlendshapeMapper()({"eyeBlinkLeft": 0.4, "browDownRight": 0.2})) == {
        "eyebrow_angry_right": 0.5,
        "eye_wink_left": 0.5,
    }
    relaxed = BlendshapeMapper("serious", "relaxed")
    assert named(relaxed({"eyeBlinkLeft": 0.8, "browDownRight": 0.4})) == {
        "eyebrow_serious_right": 1,
        "eye_relaxed_left": 1,
    }


def test_a_smile_turns_winks_and_brows_happy() -> None:
    pose = named(BlendshapeMapper()({"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "eyeBlinkLeft": 0.8}))
    assert pose["eye_happy_wink_left"] == 1
    assert "eye_wink_left" not in pose
    assert pose["eyebrow_happy_left"] == pose["mouth_raised_corner_right"] == 0.8


@pytest.mark.parametrize(
    ("blendshapes", "vowel"),
    [
        ({"jawOpen": 1.0, "mouthLowerDownLeft": 0.5, "mouthLowerDownRight": 0.5}, "mouth_aaa"),
        ({"jawOpen": 0.25, "mouthLowerDownLeft": 0.15, "mouthLowerDownRight": 0.15, "mouthPucker": 0.75}, "mouth_uuu"),
    ],
)
def test_an_open_mouth_says_the_nearest_vowel(blendshapes: dict[str, float], vowel: str) -> None:
    mouth = {name: value for name, value in named(BlendshapeMapper()(blendshapes)).items() if "mouth" in name}
    assert max(mouth, key=lambda name: mouth[name]) == vowel
    assert mouth[vowel] > 0.8


def test_the_head_turns_head_and_body() -> None:
    turned = Rotation.from_euler("xyz", [7.5, -5, 15], degrees=True).as_matrix()
    pose = named(BlendshapeMapper()({}, turned))
    assert pose == {"head_x": -0.5, "head_y": 0.5, "neck_z": 1, "body_y": 0.5, "body_z": 1}
    assert named(BlendshapeMapper(neutral=BlendshapeMapper.angles(turned))({}, turned)) == {}


def test_poses_keep_to_their_ranges() -> None:
    wild = BlendshapeMapper()(dict.fromkeys(BLENDSHAPES, 1.0), Rotation.from_euler("x", 80, degrees=True).as_matrix())
    assert torch.equal(wild, POSE_PARAMETERS.clamp(wild))


def test_breath_comes_and_goes() -> None:
    assert [round(breathing(seconds), 6) for seconds in (0.0, 0.75, 1.5, 3.0)] == [0, 0.5, 1, 0]


def test_mistakes_are_reported() -> None:
    with pytest.raises(UserError, match="jawOpen is nan"):
        BlendshapeMapper()({"jawOpen": math.nan})
    with pytest.raises(UserError, match="expected one of angry"):
        BlendshapeMapper("furious")

"""Blendshapes to pose, against what the authors' converter gave, and by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from thadistill.drive import BLENDSHAPES, BlendshapeMapper, breathing
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS

MOUTH = [POSE_PARAMETERS.index(f"mouth_{vowel}") for vowel in ("aaa", "iii", "uuu", "ooo")]


def named(pose: torch.Tensor) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(POSE_PARAMETERS, pose, strict=True) if value != 0}


def test_as_the_authors_converter_has_it(reference: Path) -> None:
    cases = json.loads((reference / "golden" / "blendshapes_to_pose.json").read_text())
    assert len(cases) == 240
    others = [index for index in range(len(POSE_PARAMETERS)) if index not in MOUTH]
    for case in cases:
        mapper = BlendshapeMapper(case["eyebrow_down_mode"], case["wink_mode"])
        difference = np.abs(mapper(case["blendshapes"], np.array(case["matrix"])[:3, :3]).numpy() - case["pose"])
        assert difference[others].max() < 1e-4  # the recording has five digits
        assert difference[MOUTH].max() < 0.05  # a minimiser's, which stops where the cost is nearly flat


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


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="jawOpen is nan"):
        BlendshapeMapper()({"jawOpen": math.nan})
    with pytest.raises(UserError, match="expected one of angry"):
        BlendshapeMapper("furious")

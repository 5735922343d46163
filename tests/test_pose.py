"""Pose parameters: names, order, ranges, as the published systems have them."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from thadistill.pose import POSE_PARAMETERS


def test_there_are_45_distinct_names_in_the_published_order() -> None:
    assert len(POSE_PARAMETERS) == len(set(POSE_PARAMETERS)) == 45
    places = {
        "eyebrow_troubled_left": 0,
        "eye_wink_left": 12,
        "iris_small_left": 24,
        "mouth_aaa": 26,
        "mouth_smirk": 36,
    }
    places |= {"iris_rotation_x": 37, "iris_rotation_y": 38, "head_x": 39, "neck_z": 41, "body_z": 43, "breathing": 44}
    assert {name: POSE_PARAMETERS.index(name) for name in places} == places


def test_left_precedes_right() -> None:
    for i, name in enumerate(POSE_PARAMETERS):
        if name.endswith("_left"):
            assert POSE_PARAMETERS[i + 1] == name.removesuffix("left") + "right"


def test_groups_cover_all_in_order() -> None:
    groups = POSE_PARAMETERS.eyebrow, POSE_PARAMETERS.face, POSE_PARAMETERS.rotation
    assert [i for group in groups for i in range(45)[group]] == list(range(45))
    assert POSE_PARAMETERS.facial == slice(0, 39)


def test_only_irises_and_rotations_are_signed() -> None:
    signed = {name for name, low in zip(POSE_PARAMETERS, POSE_PARAMETERS.low, strict=True) if low == -1}
    assert signed == {"iris_rotation_x", "iris_rotation_y", "head_x", "head_y", "neck_z", "body_y", "body_z"}
    assert set(POSE_PARAMETERS.high) == {1.0}


def test_clamp_brings_values_into_range() -> None:
    clamped = POSE_PARAMETERS.clamp(torch.full((2, 45), -3.0))
    assert torch.equal(clamped, torch.tensor(POSE_PARAMETERS.low).expand(2, -1))


def test_recorded_conversions_stay_in_range(reference: Path) -> None:
    cases = json.loads((reference / "golden" / "blendshapes_to_pose.json").read_text())
    cases = cases["cases"] if isinstance(cases, dict) else cases
    key = next(key for key, value in cases[0].items() if isinstance(value, list) and len(value) == 45)
    poses = torch.tensor([case[key] for case in cases])
    torch.testing.assert_close(POSE_PARAMETERS.clamp(poses), poses, atol=1e-6, rtol=0)

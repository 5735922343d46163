"""The page's blendshapes to pose: what the authors' converter gave, and the same as the Python mapper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.vowels import STOPPED_SHORT, authors_vowels, cost
from thadistill.drive import BLENDSHAPES, BlendshapeMapper, breathing
from thadistill.drive.blendshapes import _SPARSITY, _VOWELS, EYEBROW_DOWN, WINK, _ramp, _vowels
from thadistill.pose import POSE_PARAMETERS

from .javascript import run

POSES = """import { poseOf } from './drive/blendshapes.js';
const answer = (cases) => cases.map(({ blendshapes, matrix, ...mapping }) => [...poseOf(blendshapes, matrix, mapping)]);"""
VOWELS = [POSE_PARAMETERS.index(f"mouth_{vowel}") for vowel in ("aaa", "iii", "uuu", "ooo")]
OTHERS = [index for index in range(len(POSE_PARAMETERS)) if index not in VOWELS]


def column_major(matrix: np.ndarray) -> list[float]:
    """A rotation or a 4x4 matrix as MediaPipe hands it over."""
    whole = np.eye(4)
    whole[: len(matrix), : len(matrix)] = matrix
    return [float(value) for value in whole.T.ravel()]


def mouth_shape(b: dict[str, float]) -> np.ndarray:
    lips = _ramp(b["mouthLowerDownLeft"] + b["mouthLowerDownRight"], 0.0, 1.0)
    return np.array([_ramp(b["jawOpen"], 0.1, 0.4), lips, b["mouthFunnel"], b["mouthPucker"]])


def test_as_the_authors_converter_has_it(reference: Path, tmp_path: Path) -> None:
    cases = json.loads((reference / "golden" / "blendshapes_to_pose.json").read_text())
    given = [
        {
            "blendshapes": case["blendshapes"],
            "matrix": column_major(np.array(case["matrix"])),
            "eyebrowDown": case["eyebrow_down_mode"],
            "wink": case["wink_mode"],
        }
        for case in cases
    ]
    difference = np.abs(np.array(run(POSES, tmp_path, given)) - [case["pose"] for case in cases])
    assert difference.shape == (240, 45)
    assert difference[:, OTHERS].max() < 1e-4  # the recording has five digits
    apart = np.flatnonzero(difference[:, VOWELS].max(axis=1) > 0.05)  # a minimiser's, where the cost is nearly flat
    assert apart.tolist() == STOPPED_SHORT


def test_where_the_recording_is_not_followed_it_is_not_the_minimum(reference: Path, tmp_path: Path) -> None:
    cases = json.loads((reference / "golden" / "blendshapes_to_pose.json").read_text())
    shapes = [mouth_shape(cases[index]["blendshapes"]) for index in STOPPED_SHORT]
    for shape, found in zip(shapes, vowels(shapes, tmp_path), strict=True):
        assert cost(np.array(found), shape) < cost(authors_vowels(shape), shape) - 0.04


def random_faces(n: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(22)
    return [
        {
            "blendshapes": {name: float(generator.beta(0.5, 1.0)) for name in BLENDSHAPES},
            "matrix": column_major(Rotation.from_euler("xyz", generator.normal(0, 12, 3), degrees=True).as_matrix()),
            "eyebrowDown": str(generator.choice(EYEBROW_DOWN)),
            "wink": str(generator.choice(WINK)),
            "neutral": [float(angle) for angle in generator.normal(0, 3, 3)],
        }
        for _ in range(n)
    ]


def test_as_the_python_mapper_has_it(tmp_path: Path) -> None:
    faces = random_faces(60)
    found = np.array(run(POSES, tmp_path, faces))
    for face, pose in zip(faces, found, strict=True):
        mapper = BlendshapeMapper(face["eyebrowDown"], face["wink"], tuple(face["neutral"]))
        head = np.array(face["matrix"]).reshape(4, 4).T[:3, :3]
        expected = mapper(face["blendshapes"], head).numpy()
        np.testing.assert_allclose(pose, expected, atol=1e-5)  # float32


def vowels(shapes: list[np.ndarray], folder: Path) -> list[list[float]]:
    script = "import { vowelsOf } from './drive/blendshapes.js';\nconst answer = (shapes) => shapes.map(vowelsOf);"
    found = run(script, folder, [shape.tolist() for shape in shapes])
    assert isinstance(found, list)
    return found


def test_vowels_are_the_minimum(tmp_path: Path) -> None:
    generator = np.random.default_rng(7)
    shapes = [*generator.uniform(0, 1, (40, 4)), *generator.choice([0.0, 1.0], (10, 4)), *_VOWELS]
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 9)] * 4), axis=-1).reshape(-1, 4)
    for shape, found in zip(shapes, vowels(shapes, tmp_path), strict=True):
        weights = np.array(found)
        assert weights.min() >= 0
        assert weights.max() <= 1
        best = cost(weights, shape)
        assert best <= cost(np.array(_vowels(shape)), shape) + 1e-9
        assert best <= (np.linalg.norm(grid @ _VOWELS - shape, axis=1) + _SPARSITY * grid.sum(axis=1)).min() + 1e-9
        near = np.clip(weights + generator.normal(0, 1e-3, (100, 4)), 0, 1)
        assert best <= min(cost(other, shape) for other in near) + 1e-9


def test_a_pure_vowel_is_itself(tmp_path: Path) -> None:
    np.testing.assert_allclose(vowels(list(_VOWELS), tmp_path), np.eye(4), atol=1e-6)


MORE = """import { anglesOf, breathing, mirrored, poseOf } from './drive/blendshapes.js';
import { toNames } from './pose.js';
const face = { eyeBlinkLeft: 0.8, browDownRight: 0.4, eyeLookOutRight: 0.3, _neutral: 1, invented: 3 };
const answer = ({ matrix }) => ({
  nothing: toNames(poseOf({}, null)),
  straight: toNames(poseOf({}, matrix, { neutral: anglesOf(matrix) })),
  scaled: anglesOf(matrix.map((value) => 3 * value)),
  face: toNames(poseOf(face, matrix, { eyebrowDown: 'serious', wink: 'relaxed' })),
  mirror: toNames(mirrored(poseOf(face, matrix))),
  twice: toNames(mirrored(mirrored(poseOf(face, matrix)))),
  plain: toNames(poseOf(face, matrix)),
  breaths: [0, 0.75, 1.5, 3].map((seconds) => breathing(seconds)),
  still: breathing(7, 0),
});"""


@pytest.mark.parametrize("angles", [(7.5, -5.0, 12.0)])
def test_sides_calibration_mirror_and_breath(tmp_path: Path, angles: tuple[float, float, float]) -> None:
    matrix = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    found = run(MORE, tmp_path, {"matrix": column_major(matrix)})
    assert found["nothing"] == found["straight"] == {}
    assert found["scaled"] == pytest.approx(angles)
    turned = {"head_x": -0.5, "head_y": 0.5, "neck_z": 0.8, "body_y": 0.5, "body_z": 0.8}
    assert found["face"] == {"eyebrow_serious_right": 1, "eye_relaxed_left": 1, "iris_rotation_y": 0.2, **turned}
    assert found["plain"] == {"eyebrow_angry_right": 1, "eye_wink_left": 1, "iris_rotation_y": 0.2, **turned}
    other_way = {"head_x": -0.5, "head_y": -0.5, "neck_z": -0.8, "body_y": -0.5, "body_z": -0.8}
    assert found["mirror"] == {"eyebrow_angry_left": 1, "eye_wink_right": 1, "iris_rotation_y": -0.2, **other_way}
    assert found["twice"] == found["plain"]
    assert found["breaths"] == pytest.approx([breathing(seconds) for seconds in (0.0, 0.75, 1.5, 3.0)])
    assert found["still"] == 0

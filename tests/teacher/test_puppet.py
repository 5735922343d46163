"""The puppet: its identities, what each pose value moves and where, its characters, its errors."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from thadistill.errors import UserError
from thadistill.images import IMAGE_SIZE, STUDENT_FACE_REGION, load_character, to_pil
from thadistill.metrics.image import psnr
from thadistill.outputs import TeacherOutput
from thadistill.pose import POSE_PARAMETERS
from thadistill.puppet import design
from thadistill.teacher import load_teacher
from thadistill.teacher.puppet import PuppetTeacher, load_puppet
from thadistill.warp import blend, warp

SIDED = [name.removesuffix("_left") for name in POSE_PARAMETERS if name.endswith("_left")]


@pytest.fixture(scope="module")
def puppet() -> PuppetTeacher:
    return load_puppet(seed=3)


def poses_of(*values: dict[str, float]) -> torch.Tensor:
    poses = POSE_PARAMETERS.rest(len(values))
    for pose, named in zip(poses, values, strict=True):
        for name, value in named.items():
            pose[POSE_PARAMETERS.index(name)] = value
    return poses


def random_poses(n: int, seed: int = 0) -> torch.Tensor:
    low, high = torch.tensor(POSE_PARAMETERS.low), torch.tensor(POSE_PARAMETERS.high)
    return torch.rand(n, len(low), generator=torch.Generator().manual_seed(seed)) * (high - low) + low


@pytest.fixture(scope="module")
def random_output(puppet: PuppetTeacher) -> TeacherOutput:
    return puppet(puppet.character()[None], random_poses(6))


@pytest.fixture(scope="module")
def one_by_one(puppet: PuppetTeacher) -> dict[tuple[str, float], torch.Tensor]:
    """The face-morphed image of every facial value alone at each of its ends."""
    wanted = [
        (name, end)
        for name, low, high in zip(POSE_PARAMETERS, POSE_PARAMETERS.low, POSE_PARAMETERS.high, strict=True)
        for end in {low, high} - {0.0}
    ][: POSE_PARAMETERS.facial.stop + 2]  # two irises have two ends
    faces = puppet.face_morphed(puppet.character()[None], poses_of(*({name: end} for name, end in wanted)))
    return dict(zip(wanted, faces, strict=True))


def test_it_is_a_teacher_by_name(puppet: PuppetTeacher) -> None:
    other = load_teacher("puppet", seed=3)
    assert other.name == puppet.name == "puppet/3"
    assert other.alpha_channels == 1
    assert torch.equal(
        other(puppet.character()[None], random_poses(2)).posed, puppet(puppet.character()[None], random_poses(2)).posed
    )


def test_outputs_obey_their_definitions(random_output: TeacherOutput) -> None:
    out = random_output
    torch.testing.assert_close(out.warped, warp(out.face_morphed, out.grid_change), atol=1e-5, rtol=0)  # float32 order
    torch.testing.assert_close(out.posed, blend(out.alpha, out.color_change, out.warped), atol=1e-6, rtol=0)


def test_ranges(random_output: TeacherOutput) -> None:
    out = random_output
    for image in (out.posed, out.warped, out.color_change, out.face_morphed):
        assert image.min() >= -1 - 1e-5
        assert image.max() <= 1 + 1e-5
        # premultiplied: no colour is brighter than its alpha
        assert (image[:, :3] - image[:, 3:]).max() < 1e-4
    assert out.alpha.min() >= 0
    assert out.alpha.max() <= 1
    assert out.alpha.shape[1] == 1


def test_the_grid_change_is_smooth(random_output: TeacherOutput) -> None:
    pixels = random_output.grid_change * (IMAGE_SIZE / 2)
    for axis in (2, 3):
        assert torch.diff(pixels, dim=axis).abs().max() < 3  # pixels a pixel: layers part by up to about 15 over 8


def test_alpha_paints_little_and_the_warp_does_the_rest(random_output: TeacherOutput) -> None:
    """The painted picture and the result agree; the warp alone is right over most of the character."""
    out = random_output
    assert psnr(out.posed, out.color_change).min() > 40
    seen = (out.color_change[:, 3:] > -1).float()
    assert (out.alpha * seen).sum() / seen.sum() < 0.25
    calm = out.alpha == 0
    assert ((out.posed - out.color_change).abs() * calm).max() < 0.065  # twice the tolerance of [0, 1]


def test_the_rest_pose_is_the_character(puppet: PuppetTeacher) -> None:
    character = puppet.character()
    out = puppet(character[None], POSE_PARAMETERS.rest())
    assert (out.posed[0] - character).abs().max() < 0.01  # 8-bit rounding in linear light: 2.28 / 255
    assert torch.equal(out.alpha, torch.zeros_like(out.alpha))
    assert torch.equal(out.grid_change, torch.zeros_like(out.grid_change))
    outside = STUDENT_FACE_REGION.paste(torch.ones(1, 1, 512, 512), torch.zeros(1, 1, 128, 128)).bool()
    assert torch.equal((out.face_morphed * outside), character[None] * outside)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_character_obeys_the_input_rules(seed: int, tmp_path: Path) -> None:
    teacher = load_puppet(seed)
    to_pil(teacher.character()).save(tmp_path / "character.png")
    image = load_character(tmp_path / "character.png")
    assert torch.equal(image, teacher.character())
    empty = image[3] == -1
    assert torch.equal(image[:, empty], torch.full_like(image[:, empty], -1))
    for corner in (image[3, :40, :40], image[3, :40, -40:], image[3, -40:, :40], image[3, -40:, -40:]):
        assert corner.max() == -1
    # the head fills the box of the input rules: opaque in its middle, and little above it
    assert image[3, 100:180, 230:282].min() == 1
    assert image[3, :44].max() == -1


def test_facial_values_change_only_inside_the_mask(puppet: PuppetTeacher) -> None:
    mask = puppet.face_mask()
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    inside = torch.zeros_like(mask)
    STUDENT_FACE_REGION.crop(inside)[:] = 1
    assert (mask * (1 - inside)).max() == 0
    assert 0.02 * 512 * 512 > mask.sum() > 1000  # a face is small: not the whole crop, not a few pixels
    character = puppet.character()[None]
    rest = puppet.face_morphed(character, POSE_PARAMETERS.rest())
    changed = (puppet.face_morphed(character, random_poses(48, seed=5)) - rest).abs().amax((0, 1))
    assert (changed * (1 - mask[0])).max() < 2e-3
    assert changed[100:200].max() > 0.5


def test_rotation_does_not_change_the_face_morphed_image(puppet: PuppetTeacher) -> None:
    pose = random_poses(1)
    turned = pose.clone()
    turned[:, POSE_PARAMETERS.rotation] *= -1
    character = puppet.character()[None]
    assert torch.equal(puppet.face_morphed(character, pose), puppet.face_morphed(character, turned))


def test_every_facial_value_changes_the_face(
    puppet: PuppetTeacher, one_by_one: dict[tuple[str, float], torch.Tensor]
) -> None:
    rest = puppet.face_morphed(puppet.character()[None], POSE_PARAMETERS.rest())[0]
    assert len(one_by_one) == 41
    for key, face in one_by_one.items():
        moved = ((face - rest).abs().amax(0) > 0.05).sum()
        assert moved >= 8, key


@pytest.mark.parametrize("stem", SIDED)
def test_left_is_the_viewers_right(
    puppet: PuppetTeacher, one_by_one: dict[tuple[str, float], torch.Tensor], stem: str
) -> None:
    rest = puppet.face_morphed(puppet.character()[None], POSE_PARAMETERS.rest())[0]
    for side, half in (("left", slice(256, None)), ("right", slice(None, 256))):
        change = (one_by_one[f"{stem}_{side}", 1.0] - rest).abs().sum(0)
        assert change[:, half].sum() > 0.98 * change.sum() > 0, side


def test_eyes_close(puppet: PuppetTeacher, one_by_one: dict[tuple[str, float], torch.Tensor]) -> None:
    """A closed eye shows neither the white nor the iris: what is left around its middle is mostly skin."""
    x, y = 256 + puppet.design.eye_x, puppet.design.eye_y
    rows, columns = slice(int(y) - 6, int(y) - 1), slice(int(x) - 5, int(x) + 6)
    skin = STUDENT_FACE_REGION.crop(puppet.character())[:3, 85, 64]  # between mouth and nose
    rest = puppet.character()[:3, rows, columns]
    closed = one_by_one["eye_wink_left", 1.0][:3, rows, columns]
    assert (closed - skin[:, None, None]).abs().mean() < 0.12 < (rest - skin[:, None, None]).abs().mean()


def test_irises_look_where_the_pose_says(
    puppet: PuppetTeacher, one_by_one: dict[tuple[str, float], torch.Tensor]
) -> None:
    """Rotation x = 1 is up and y = 1 is the viewer's left, as in the published teachers: dark pixels move there."""
    top, left = int(puppet.design.eye_y) - 9, int(256 + puppet.design.eye_x) - 10

    def darkness(face: torch.Tensor) -> tuple[float, float]:
        weight = (1 - face[:3, top : top + 17, left : left + 21].mean(0)).clamp_min(0) ** 2
        weight = weight / weight.sum()
        return float((weight.sum(1) * torch.arange(17)).sum()), float((weight.sum(0) * torch.arange(21)).sum())

    assert darkness(one_by_one["iris_rotation_x", 1.0])[0] < darkness(one_by_one["iris_rotation_x", -1.0])[0] - 0.5
    assert darkness(one_by_one["iris_rotation_y", 1.0])[1] < darkness(one_by_one["iris_rotation_y", -1.0])[1] - 2


@pytest.mark.parametrize(
    ("name", "at", "axis", "low", "high"),
    # pixels from which the warp takes the content at value 1; the directions are those of lambda_00's trained student
    [
        ("head_x", (150, 256), 1, 8, 15),
        ("head_y", (150, 256), 0, 8, 15),
        ("neck_z", (72, 256), 0, 25, 40),
        ("body_y", (300, 256), 0, 4, 12),
        ("body_z", (120, 256), 0, 15, 30),
        ("breathing", (262, 256), 1, 1.2, 4),
    ],
)
def test_rotations_move_as_the_published_teachers_do(
    puppet: PuppetTeacher, name: str, at: tuple[int, int], axis: int, low: float, high: float
) -> None:
    ends = (1.0, -1.0) if name != "breathing" else (1.0,)
    out = puppet(puppet.character()[None], poses_of(*({name: end} for end in ends)))
    for end, grid_change in zip(ends, out.grid_change, strict=True):
        pixels = float(grid_change[axis, at[0], at[1]]) * IMAGE_SIZE / 2
        assert low < end * pixels < high
    assert (out.posed - puppet.character()).abs().max() > 0.3


def test_the_head_leaves_the_legs_alone(puppet: PuppetTeacher) -> None:
    out = puppet(puppet.character()[None], poses_of({"head_x": 1, "head_y": 1, "neck_z": 1}))
    assert (out.grid_change[0, :, 400:, 200:312].abs() * IMAGE_SIZE / 2).max() < 0.5


def test_a_batch_equals_single_poses(puppet: PuppetTeacher) -> None:
    character, poses = puppet.character()[None], random_poses(3, seed=2)
    together = puppet(character.expand(3, -1, -1, -1), poses)
    for i in range(3):
        alone = puppet(character, poses[i : i + 1])
        for name, field in together._asdict().items():
            torch.testing.assert_close(field[i : i + 1], getattr(alone, name), atol=1e-6, rtol=0)


def test_stages_name_the_outputs(puppet: PuppetTeacher) -> None:
    character, pose = puppet.character()[None], random_poses(2, seed=3)
    stages, out = puppet.stages(character, pose), puppet(character, pose)
    assert torch.equal(stages["posed"], out.posed)
    assert torch.equal(stages["face_crop"], STUDENT_FACE_REGION.crop(out.face_morphed))


def test_seeds_give_different_characters() -> None:
    images = [load_puppet(seed).character() for seed in range(8)]
    for i, a in enumerate(images):
        for b in images[:i]:
            assert (a - b).abs().mean() > 0.01
    designs = [design.Design.from_seed(seed) for seed in range(60)]
    for styles, field in ((design.BANGS, "bangs"), (design.BACKS, "back"), (design.OUTFITS, "outfit")):
        assert {getattr(d, field) for d in designs} == set(styles)


@pytest.mark.parametrize("sign", [-1, 1])
def test_tousled_hair_has_no_holes(sign: int) -> None:
    designs = (design.Design.from_seed(seed) for seed in range(100))
    chosen = next(d for d in designs if d.back == "tousled" and d.parting * sign > 0 and not d.ahoge)
    head = load_puppet(chosen.seed).character()[3, :150].numpy() > 0
    assert np.array_equal(ndimage.binary_fill_holes(head), head)


@pytest.mark.parametrize("seed", [4, 7, 11, 15, 24, 27])
def test_every_seed_shows_every_eyebrow(seed: int) -> None:
    """Bangs may lie over the eyebrows, but hide no expression."""
    teacher = load_puppet(seed)
    names = [*POSE_PARAMETERS[POSE_PARAMETERS.eyebrow]]
    faces = teacher.face_morphed(teacher.character()[None], poses_of({}, *({name: 1.0} for name in names)))
    for name, face in zip(names, faces[1:], strict=True):
        assert ((face - faces[0]).abs().amax(0) > 0.02).sum() >= 8, name


def test_the_same_seed_is_drawn_alike(puppet: PuppetTeacher) -> None:
    again = PuppetTeacher(3)
    assert torch.equal(again.layers, puppet.layers)
    assert torch.equal(again.rest, puppet.rest)
    assert again.fingerprint() == puppet.fingerprint()


def test_the_fingerprint_knows_seed_drawing_and_motion(puppet: PuppetTeacher, monkeypatch: pytest.MonkeyPatch) -> None:
    known = puppet.fingerprint()
    assert load_puppet(4).fingerprint() != known
    redrawn = PuppetTeacher(3)
    redrawn.features.design = replace(redrawn.design, eye_height=redrawn.design.eye_height + 0.5)
    assert redrawn.fingerprint() != known
    monkeypatch.setattr("thadistill.puppet.motion.BODY_TURN", 8.5)
    assert puppet.fingerprint() != known


def test_another_character_is_refused_in_one_line(puppet: PuppetTeacher) -> None:
    with pytest.raises(UserError, match="another character's image") as caught:
        puppet(load_puppet(4).character()[None], POSE_PARAMETERS.rest())
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="2 images came with 3 poses"):
        puppet(puppet.character()[None].expand(2, -1, -1, -1), POSE_PARAMETERS.rest(3))


@pytest.mark.parametrize("seed", [-1, 1.5, "red"])
def test_a_bad_seed_is_refused(seed: object) -> None:
    with pytest.raises(UserError, match="whole number"):
        load_puppet(seed)  # type: ignore[arg-type]


def test_it_is_quick(puppet: PuppetTeacher) -> None:
    """Processor time, so that a busy machine does not decide; an order above what a quiet one measures."""
    character, poses = puppet.character()[None], random_poses(4)
    puppet(character, poses)
    started = time.thread_time()
    with torch.inference_mode():
        puppet(character, poses)
    assert (time.thread_time() - started) / 4 < 0.5
    started = time.thread_time()
    PuppetTeacher(9)
    assert time.thread_time() - started < 3

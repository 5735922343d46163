"""Preparing: what a user gives, head= in pixels and fractions, hints, and what is left in the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from thadistill import assets
from thadistill.config import character_folder, character_name
from thadistill.config.overrides import read_overrides
from thadistill.data.character import from_folder
from thadistill.data.framing import Answer
from thadistill.data.prepare import _fineness, _skin_beside, prepare
from thadistill.data.prepare_sheet import sheet
from thadistill.errors import UserError
from thadistill.images import load_character
from thadistill.pipeline.prepare import prepare_folder
from thadistill.teacher import load_teacher


def figure(path: Path, size: tuple[int, int] = (800, 1200), **options: object) -> Path:
    picture = Image.new("RGBA", size)
    picture.paste("orange", (300, 100, 500, 1100))
    picture.save(path, **options)
    return path


def bounds(character: Image.Image) -> tuple[int, int, int, int] | None:
    return character.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox()


@pytest.mark.parametrize("head", [[300, 100, 500, 300], [0.375, 100 / 1200, 0.625, 0.25]])
def test_the_heads_box_in_pixels_or_fractions(head: list[float], tmp_path: Path) -> None:
    made = prepare(figure(tmp_path / "a.png"), head)
    assert bounds(made.character) == (192, 64, 320, 512)
    assert made.placement.scale == pytest.approx(0.64)


def test_the_box_counts_in_the_upright_picture_and_in_its_own_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right: the file lies on its side
    with Image.open(figure(tmp_path / "a.png")) as upright:
        upright.rotate(90, expand=True).save(tmp_path / "lying.png", exif=exif)
        upright.resize((3200, 4800), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    lying = prepare(tmp_path / "lying.png", [300, 100, 500, 300])
    assert bounds(lying.character) == (192, 64, 320, 512)
    assert any("turned upright" in note for note in lying.notes)
    large = prepare(tmp_path / "large.png", [1200, 400, 2000, 1200])  # which is worked on at half its size
    assert bounds(large.character) == (192, 64, 320, 512)
    assert large.placement.scale == pytest.approx(0.16)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ([300, 100, 500], "expected [left,top,right,bottom]"),
        ([300, 100, 9000, 300], "right <= 800"),
        ([500, 100, 300, 300], "left < right"),
        ([0, 0, 0, 0], "left < right"),
        ([300, 100, 301, 101], "expected the whole head"),
        ([0.5, 0.5, 0.501, 0.501], "expected the whole head"),
        ([float("nan"), 0, 1, 1], "expected [left,top,right,bottom]"),
        ([-1, 0, 100, 100], "left < right"),
    ],
)
def test_boxes_that_are_none(head: list[float], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        prepare(figure(tmp_path / "a.png"), head)
    assert message in str(caught.value)


def test_small_pictures_and_empty_boxes_are_refused(tmp_path: Path) -> None:
    Image.new("RGBA", (63, 400)).save(tmp_path / "small.png")
    with pytest.raises(UserError, match="expected at least 64 pixels"):
        prepare(tmp_path / "small.png")
    picture = Image.new("RGBA", (4000, 400))
    picture.paste("red", (3800, 100, 3900, 300))
    picture.save(tmp_path / "a.png")
    with pytest.raises(UserError, match="nothing of the character"):
        prepare(tmp_path / "a.png", [0, 0, 100, 100])


def test_hints_say_what_to_mend(tmp_path: Path) -> None:
    two = Image.new("RGBA", (600, 600))
    two.paste("red", (50, 0, 250, 500))
    two.paste("blue", (350, 100, 550, 600))
    two.save(tmp_path / "two.png")
    hints = " ".join(prepare(tmp_path / "two.png", [50, 0, 250, 200]).hints)
    assert "two figures" in hints
    assert "cut off at the upper edge" in hints
    assert prepare(figure(tmp_path / "one.png"), [300, 100, 500, 300]).hints == ()


@pytest.mark.parametrize("hand", [False, True])
def test_skin_beside_the_head_is_seen(hand: bool) -> None:
    page = Image.new("RGBA", (512, 512))
    page.paste((90, 60, 40, 255), (190, 60, 322, 512))  # hair and clothes
    page.paste((250, 222, 205, 255), (220, 100, 292, 190))
    if hand:
        page.paste((250, 222, 205, 255), (340, 110, 370, 150))
    eyes = (np.array([276.0, 144.0]), np.array([236.0, 144.0]))
    answer = Answer(*eyes, np.array([256.0, 179.0]), 0.2, np.full(3, 500.0))
    assert (_skin_beside(np.array(page), answer) > 150) is hand


def test_the_sheet_has_room_for_its_lines(tmp_path: Path) -> None:
    made = prepare(figure(tmp_path / "a.png"), [300, 100, 500, 300])
    page = sheet(made.character, None, ["a"], ["mend キャ"])
    assert page.size == (1024, 512 + 22 + 2 * 22 + 12)
    legend = np.array(page.crop((0, 512, 1024, 534)))
    for color in ((255, 0, 0), (0, 0, 255)):  # of the boxes, which it explains
        assert (legend == color).all(-1).any()


def puppet() -> object:
    return load_teacher("puppet")


def test_a_mask_of_another_picture_is_not_left_in_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "mine"

    def again(picture: Path, face_mask: bool = False) -> None:
        prepare_folder(picture, out, puppet, head=[300, 100, 500, 300], face_mask=face_mask)  # type: ignore[arg-type]

    again(figure(tmp_path / "a.png"))
    assert load_character(out / "character.png").shape == (4, 512, 512)
    mask = np.zeros((512, 512), np.uint8)
    mask[100:140, 230:280] = 255
    Image.fromarray(mask).save(out / "face_mask.png")
    again(tmp_path / "a.png", face_mask=True)  # the same picture keeps the mask painted for it
    with Image.open(out / "face_mask.png") as kept:
        assert np.array_equal(np.asarray(kept), mask)
    with Image.open(tmp_path / "a.png") as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(3).save(tmp_path / "b.png")
    again(tmp_path / "b.png")
    assert not (out / "face_mask.png").exists()
    assert sorted(path.name for path in out.iterdir()) == ["character.png", "face_mask.before.png", "prepare.png"]


def test_a_picture_is_a_character_once_it_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture = figure(tmp_path / "my girl.png")
    assert read_overrides([f"character={picture.name}"], []) == [
        "character=folder",
        f"character.folder='{picture}'",
    ]
    folder = character_folder(picture)
    assert folder.parent == tmp_path / "outputs" / "prepare"
    assert character_name(picture) == "my_girl"
    prepare_folder(picture, folder, puppet, head=[300, 100, 500, 300], face_mask=False)  # type: ignore[arg-type]
    character = from_folder(picture)
    assert character.name == "my_girl"
    assert torch.equal(character.image, load_character(folder / "character.png"))
    figure(picture, (800, 1201))  # another picture under the same name is another character
    assert character_folder(picture) != folder


@pytest.mark.slow
def test_a_photo_of_a_person_is_no_character(tmp_path: Path) -> None:
    data = pytest.importorskip("skimage.data")
    teacher = load_teacher("tha3")
    photo = Image.fromarray(data.astronaut())
    outline = Image.new("L", photo.size)
    draw = ImageDraw.Draw(outline)
    draw.ellipse((155, -20, 305, 190), fill=255)
    draw.polygon([(60, 511), (120, 250), (200, 180), (250, 180), (340, 230), (400, 511)], fill=255)
    photo.putalpha(outline)
    photo.crop((0, 0, 512, 400)).save(tmp_path / "me.png")
    with pytest.raises(UserError, match="looks like a photo of a person"):
        prepare(tmp_path / "me.png", make_teacher=lambda: teacher)
    assert prepare(tmp_path / "me.png", make_teacher=lambda: teacher, force=True).character.size == (512, 512)
    for name in assets.SAMPLE_CHARACTERS:
        drawn = Image.open(assets.sample_character(name)).convert("RGBA")
        for side in (512, 410):  # as large as it is drawn, and enlarged by as much as is judged
            page = drawn.resize((side, side)).resize((512, 512)).crop((206, 125, 306, 205))
            assert _fineness(np.array(page)) > 0.65, f"{name} at {side}"

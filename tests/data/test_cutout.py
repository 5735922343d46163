"""Cut-out: drawn figures on backgrounds that are known, so that alpha and colours are known too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from thadistill.data.cutout import CutOut, clean, cut_out, flat_background, srgb_to_lab
from thadistill.errors import UserError

SIZE = (300, 400)


def figure() -> np.ndarray:
    """A head on a body with soft edges: straight RGBA."""
    large = Image.new("RGBA", (SIZE[0] * 4, SIZE[1] * 4))
    drawing = ImageDraw.Draw(large)
    drawing.ellipse((400, 200, 800, 640), fill=(250, 220, 200, 255), outline=(60, 30, 20, 255), width=12)
    drawing.polygon([(450, 600), (750, 600), (900, 1600), (300, 1600)], fill=(40, 60, 160, 255))
    small = large.convert("RGBa").resize(SIZE, Image.Resampling.BOX).convert("RGBA")
    return np.asarray(small)


def before(background: np.ndarray) -> np.ndarray:
    """The figure composited in sRGB, opaque."""
    rgba = figure().astype(np.float64)
    alpha = rgba[..., 3:] / 255
    rgb = rgba[..., :3] * alpha + background * (1 - alpha)
    return np.dstack([rgb.round(), np.full(rgb.shape[:2], 255)]).astype(np.uint8)


def backgrounds() -> dict[str, np.ndarray]:
    y, x = np.mgrid[: SIZE[1], : SIZE[0]] / 400
    flat = np.ones((SIZE[1], SIZE[0], 3))
    return {
        "white": flat * 255,
        "green": flat * (60, 200, 90),
        "black": flat * 8,
        "graded": np.stack([180 + 60 * y, 200 + 30 * x, 250 - 60 * y], -1),
        "noisy": flat * 230 + np.random.default_rng(0).normal(0, 2, flat.shape),
    }


@pytest.mark.parametrize("name", ["white", "green", "black", "graded", "noisy"])
def test_a_flat_background_is_taken_away_without_a_fringe(name: str) -> None:
    made = cut_out(before(backgrounds()[name].clip(0, 255)), "x")
    alpha, expected = made.rgba[..., 3].astype(int), figure()[..., 3].astype(int)
    error = np.abs(alpha - expected)
    assert float(error.mean()) < (1.0 if name == "black" else 0.5)
    # a dark outline before black could be a shade of the skin behind it
    assert int(((alpha > 127) != (expected > 127)).sum()) < (80 if name == "black" else 20)
    # where both show a pixel, its colour is the figure's own: no background is left in it
    both = (alpha > 100) & (expected > 100)
    colors = np.abs(made.rgba[..., :3].astype(int) - figure()[..., :3])[both]
    assert float(np.percentile(colors, 99.5)) < 45
    assert (made.rgba[alpha == 0] == 0).all()


def test_a_white_shirt_on_white_keeps_what_its_outline_encloses() -> None:
    page = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(page).rectangle((60, 60, 140, 199), fill="white", outline="black", width=3)
    ImageDraw.Draw(page).ellipse((70, 10, 130, 70), fill="tan")
    made = cut_out(np.asarray(page.convert("RGBA")), "x").rgba
    assert (made[100:190, 70:130, 3] == 255).all()
    assert (made[:5, :, 3] == 0).all()


def test_a_white_shirt_that_the_picture_cuts_off_is_kept_and_a_gap_beside_an_arm_is_not() -> None:
    page = Image.new("RGB", (400, 400), "white")
    draw = ImageDraw.Draw(page)
    draw.ellipse((150, 40, 250, 160), fill="tan", outline="black", width=4)
    draw.line([(80, 399), (110, 180), (290, 180), (320, 399)], fill="black", width=4)  # no line along the lower edge
    draw.line([(60, 399), (40, 300), (94, 300)], fill="black", width=4)  # encloses a gap with the body
    draw.line([(60, 399), (60, 330), (86, 330)], fill="black", width=3)
    made = cut_out(np.asarray(page.convert("RGBA")), "x").rgba
    assert (made[200:399, 130:270, 3] == 255).all()
    assert (made[396:, 66:76, 3] == 0).all()
    assert (made[:20, :, 3] == 0).all()


def test_rounded_corners_are_no_part_of_the_figure() -> None:
    page = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    draw = ImageDraw.Draw(page)
    draw.rounded_rectangle((0, 0, 399, 399), radius=32, fill="white")
    draw.ellipse((120, 80, 280, 360), fill="tan", outline="black", width=4)
    made = cut_out(np.asarray(page), "x").rgba
    assert (made[:60, :60, 3] == 0).all()
    assert made[200, 200, 3] == 255


def test_a_segmenter_is_asked_of_a_transparent_picture_too(tmp_path: Path) -> None:
    given = figure()
    with pytest.raises(UserError):
        cut_out(given, "x", segmenter=tmp_path / "absent.onnx")


def test_cut_out_pictures_are_left_alone_but_for_dirt() -> None:
    given = figure().copy()
    given[5:8, 5:8] = (9, 9, 9, 255)  # a speck
    given[100:110, 20:30] = (200, 200, 200, 5)  # haze
    given[20:30, 250:260] = (255, 255, 255, 0)  # a hidden colour
    given[150:170, 20:40] = (255, 255, 255, 30)  # a halo far from anything
    made = cut_out(given, "x")
    assert isinstance(made, CutOut)
    kept = figure()[..., 3] >= 8
    assert np.array_equal(made.rgba[kept], figure()[kept])
    assert (made.rgba[~kept] == 0).all()
    assert any("specks" in note for note in made.notes)
    again, notes = clean(made.rgba)
    assert np.array_equal(again, made.rgba)
    assert notes == []


def refused(rgba: np.ndarray) -> str:
    with pytest.raises(UserError) as caught:
        cut_out(rgba, "x.png")
    return str(caught.value)


def test_what_cannot_be_cut_out_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 4), dtype=np.uint8)
    noise[..., 3] = 255
    assert "neither transparent nor flat" in refused(noise)
    assert "segmenter=FILE" in refused(noise)
    assert "next to nothing" in refused(np.full((200, 200, 4), 255, np.uint8))
    assert "transparent everywhere" in refused(np.zeros((200, 200, 4), np.uint8))
    assert flat_background(noise[..., :3]) is None


def test_lab_agrees_with_scikit_image() -> None:
    color = pytest.importorskip("skimage.color")
    rgb = np.random.default_rng(1).integers(0, 256, (50, 3))
    np.testing.assert_allclose(
        srgb_to_lab(rgb), color.rgb2lab(rgb / 255.0), atol=0.05
    )  # white points differ by rounding

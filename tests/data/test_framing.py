"""Framing: geometry by hand; the real teacher on a character that was moved, and on what is no face."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from thadistill import assets
from thadistill.data.framing import FACE_REGION, Placement, answer_at, fits, frame, outline_guess, placed
from thadistill.teacher import load_teacher
from thadistill.teacher.chain import ChainTeacher


def spots() -> Image.Image:
    picture = Image.new("RGBa", (300, 200))
    picture.paste((255, 0, 0, 255), (100, 50, 140, 90))
    return picture


def test_a_placement_puts_pixels_where_it_says() -> None:
    for placement in (Placement(2.0, 30.0, -20.0), Placement(0.5, 100.25, 200.5), Placement(1.0, -60.0, 0.0)):
        page = np.asarray(placed(spots(), placement))[..., 3]
        rows, columns = np.nonzero(page > 127)
        scale, left, top = placement
        expected = (100 * scale + left, 140 * scale + left, 50 * scale + top, 90 * scale + top)
        found = (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)
        np.testing.assert_allclose(found, expected, atol=1)
        region = np.asarray(placed(spots(), placement, FACE_REGION))[..., 3]
        part = page[FACE_REGION.top : FACE_REGION.bottom, FACE_REGION.left : FACE_REGION.right]
        assert np.abs(region.astype(int) - part).max() <= 64  # a filter's support ends at the region's edge
        assert float(np.abs(region.astype(int) - part).mean()) < 0.5
    assert not np.asarray(placed(spots(), Placement(1.0, 5000.0, 0.0))).any()


def test_placements_follow_one_another() -> None:
    both = Placement(2.0, 3.0, 4.0).then(0.5, 10.0, 20.0)
    assert both == Placement(1.0, 11.5, 22.0)


def test_the_outline_puts_a_tall_figures_top_at_the_hair() -> None:
    picture = Image.new("RGBa", (400, 1000))
    picture.paste((9, 9, 9, 255), (150, 100, 250, 1000))
    scale, left, top = outline_guess(picture)
    assert 100 * scale + top == pytest.approx(63, abs=1)
    assert 200 * scale + left == pytest.approx(256, abs=1)


@pytest.fixture(scope="module")
def teacher() -> ChainTeacher:
    made = load_teacher("tha3")
    assert isinstance(made, ChainTeacher)
    return made


@pytest.mark.slow
def test_a_moved_character_is_found_again(teacher: ChainTeacher) -> None:
    picture = Image.open(assets.sample_character("crypko_03")).convert("RGBa")
    assert fits(answer_at(teacher, picture, Placement(1.0, 0.0, 0.0)))
    small = picture.resize((256, 256), Image.Resampling.LANCZOS)
    page = Image.new("RGBa", (420, 380))
    page.paste(small, (130, 90))
    found = frame(teacher, page)
    assert found.face
    scale, left, top = Placement(0.5, 130.0, 90.0).then(*found.placement)
    assert scale == pytest.approx(1, abs=0.08)
    assert (256 * scale + left, 160 * scale + top) == pytest.approx((256, 160), abs=10)


@pytest.mark.slow
def test_no_face_is_found_where_there_is_none(teacher: ChainTeacher) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.nn.functional.interpolate(torch.rand(1, 3, 24, 24, generator=generator), 480, mode="bicubic")[0]
    rgba = np.zeros((500, 500, 4), np.uint8)
    rgba[10:490, 10:490, :3] = (noise.clamp(0, 1) * 255).permute(1, 2, 0).byte().numpy()
    rgba[10:490, 10:490, 3] = 255
    assert not frame(teacher, Image.fromarray(rgba).convert("RGBa")).face

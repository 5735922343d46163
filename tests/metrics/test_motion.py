"""Flow error by closed form, flicker against a direct computation, in pieces and in one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thadistill.errors import UserError
from thadistill.images import over_white
from thadistill.metrics.flicker import TemporalFlicker, temporal_flicker
from thadistill.metrics.flow import grid_change_epe_px, visible_pixels
from thadistill.warp import warp

from .pictures import pictures


def test_epe_of_a_constant_offset():
    teacher = torch.randn(2, 2, 512, 512) * 0.01
    offset = torch.tensor([3.0, -4.0]).view(1, 2, 1, 1) / 256  # 3 and 4 pixels at 512
    scale = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    torch.testing.assert_close(
        grid_change_epe_px(teacher + offset * scale, teacher), torch.tensor([5.0, 10.0]), atol=1e-4, rtol=0
    )


def test_epe_uses_each_axis_own_size():
    teacher = torch.zeros(1, 2, 10, 40)
    student = torch.zeros(1, 2, 10, 40)
    student[:, 0], student[:, 1] = 0.1, 0.2  # 0.1 * 20 pixels, 0.2 * 5 pixels
    assert float(grid_change_epe_px(student, teacher)) == pytest.approx(np.hypot(2, 1), abs=1e-6)


def test_an_epe_of_one_pixel_moves_the_picture_by_one_pixel():
    image = torch.rand(1, 4, 16, 16)
    shift = torch.zeros(1, 2, 16, 16)
    shift[:, 0] = 2 / 16
    assert float(grid_change_epe_px(shift, torch.zeros_like(shift))) == 1
    torch.testing.assert_close(warp(image, shift)[..., :-1], image[..., 1:], atol=1e-5, rtol=0)


def test_epe_within_a_mask():
    student, teacher = torch.zeros(2, 2, 8, 8), torch.zeros(2, 2, 8, 8)
    student[:, 0, :4] = 0.25  # a pixel in the upper half
    student[1, 0, :4, :4] = 0.75
    mask = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    mask[0, :, 2:6] = True  # half of it off by one pixel
    mask[1, :, 0, 0] = True
    assert grid_change_epe_px(student, teacher, mask).tolist() == [0.5, 3.0]
    assert grid_change_epe_px(student, teacher).tolist() == [0.5, 1.0]
    with pytest.raises(UserError, match="without a pixel"):
        grid_change_epe_px(student, teacher, torch.zeros_like(mask))


def test_visible_pixels_are_those_an_8_bit_picture_keeps():
    image = torch.full((1, 4, 1, 3), -1.0)
    image[0, 3, 0] = torch.tensor([0.0, 0.4, 0.6]) / 255 * 2 - 1
    assert visible_pixels(image).flatten().tolist() == [False, False, True]


def flickering() -> tuple[torch.Tensor, torch.Tensor]:
    return pictures(7, 24, 0.1, seed=3)


def test_flicker_is_the_difference_of_the_changes():
    student, teacher = flickering()
    s, t = (over_white(x).double().numpy() for x in (student, teacher))
    expected = np.abs(np.diff(s, axis=0) - np.diff(t, axis=0)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(temporal_flicker(student, teacher), expected, rtol=1e-5)  # float32


def test_a_constant_error_does_not_flicker():
    teacher = pictures(5, 24, 0)[1]
    opaque = torch.cat([torch.zeros(5, 3, 24, 24), torch.ones(5, 1, 24, 24)], dim=1)
    assert temporal_flicker(opaque, opaque - 0.0).max() == 0
    still = teacher[:1].expand(5, -1, -1, -1)
    assert temporal_flicker(opaque, still).max() == 0  # wrong everywhere, but still
    blinking = opaque.clone()
    blinking[::2, :3] = 1
    assert temporal_flicker(blinking, opaque).min() > 0.1


@pytest.mark.parametrize("pieces", [[7], [1, 1, 5], [3, 4], [2, 1, 1, 3]])
def test_flicker_of_a_track_in_pieces(pieces):
    student, teacher = flickering()
    metric = TemporalFlicker()
    for _ in range(2):  # and again after a reset
        for s, t in zip(student.split(pieces), teacher.split(pieces), strict=True):
            metric(s, t) if len(s) > 1 else metric.update(s, t)  # forward() keeps the track whole too
        torch.testing.assert_close(metric.compute(), temporal_flicker(student, teacher).mean())
        metric.reset()
    with pytest.raises(UserError, match="two poses"):
        metric.compute()


def test_the_cut_between_two_tracks_is_no_flicker():
    student, teacher = flickering()
    metric = TemporalFlicker()
    metric.update(student[:3], teacher[:3])
    metric.start_track()
    metric.update(student[3:], teacher[3:])
    steps = temporal_flicker(student, teacher)
    torch.testing.assert_close(metric.compute(), steps[[0, 1, 3, 4, 5]].mean())

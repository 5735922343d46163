"""Warping against torch's own grids and closed forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from thadistill.warp import blend, position_grid, resize, warp


def test_positions_are_affine_grids_identity() -> None:
    expected = F.affine_grid(torch.eye(2, 3)[None], [1, 1, 7, 12], align_corners=False)[0]
    torch.testing.assert_close(position_grid(7, 12).permute(1, 2, 0), expected, atol=1e-6, rtol=0)


def test_no_change_is_the_image() -> None:
    image = torch.rand(2, 4, 16, 16)
    torch.testing.assert_close(warp(image, torch.zeros(2, 2, 16, 16)), image, atol=1e-5, rtol=0)


def test_whole_pixels_shift_and_the_border_repeats() -> None:
    image = torch.rand(1, 4, 16, 16)
    change = torch.zeros(1, 2, 16, 16)
    change[:, 0] = 3 * 2 / 16  # three pixels to the right: each pixel shows what is three to its right
    moved = warp(image, change)
    torch.testing.assert_close(moved[..., :13], image[..., 3:], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[..., 13:], image[..., 15:].expand(-1, -1, -1, 3), atol=1e-5, rtol=0)


def test_half_a_pixel_is_the_mean_of_two() -> None:
    image = torch.rand(1, 1, 8, 8)
    change = torch.zeros(1, 2, 8, 8)
    change[:, 1] = 0.5 * 2 / 8
    expected = (image[..., :-1, :] + image[..., 1:, :]) / 2
    torch.testing.assert_close(warp(image, change)[..., :-1, :], expected, atol=1e-5, rtol=0)


def test_blend_and_resize() -> None:
    painted, kept = torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    assert torch.equal(blend(torch.full((1, 1, 2, 2), 0.25), painted, kept), torch.full((1, 4, 2, 2), 0.25))
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    torch.testing.assert_close(resize(ramp, 4, 4)[0, 0, 0], torch.tensor([0.5, 2.5, 4.5, 6.5]))


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(Exception, match=r"(?i)type-check"):
        warp(torch.rand(1, 4, 8, 8), torch.zeros(1, 3, 8, 8))

"""Images: network space against colour science, files against Pillow, mistakes against one-line errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from thadistill.errors import UserError
from thadistill.images import (
    EYEBROW_IN_FACE,
    EYEBROW_REGION,
    FACE_REGION,
    decode_rgba,
    encode_rgba,
    linear_to_srgb,
    load_character,
    load_face_mask,
    over_white,
    srgb_to_linear,
    to_pil,
    to_rgba8,
)


def character(seed: int = 0) -> np.ndarray:
    rgba = np.random.default_rng(seed).integers(0, 256, (512, 512, 4), dtype=np.uint8)
    rgba[:32] = 0
    return rgba


def test_srgb_curves_are_inverse_and_pass_known_points() -> None:
    x = torch.linspace(0, 1, 1001, dtype=torch.float64)
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(x)), x, atol=1e-6, rtol=0)
    known = srgb_to_linear(torch.tensor([0.0, 0.04045, 0.5, 1.0], dtype=torch.float64))
    expected = torch.tensor([0.0, 0.04045 / 12.92, 0.21404114048223255, 1.0], dtype=torch.float64)
    torch.testing.assert_close(known, expected, atol=1e-9, rtol=0)


def test_linear_light_agrees_with_scikit_image() -> None:
    color = pytest.importorskip("skimage.color")
    rgb = np.random.default_rng(1).random((5, 7, 3))
    # XYZ and back with this matrix is the identity, so what remains of rgb2xyz is the decoding
    linear = color.rgb2xyz(rgb) @ np.linalg.inv(color.colorconv.xyz_from_rgb).T
    np.testing.assert_allclose(srgb_to_linear(torch.from_numpy(rgb)).numpy(), linear, atol=1e-7)


def test_network_space_by_hand() -> None:
    rgba = np.zeros((1, 2, 4), np.uint8)
    rgba[0, 0] = (255, 128, 0, 51)
    image = encode_rgba(rgba)
    alpha, green = 51 / 255, ((128 / 255 + 0.055) / 1.055) ** 2.4
    expected = torch.tensor([2 * alpha - 1, 2 * green * alpha - 1, -1.0, 2 * alpha - 1])
    torch.testing.assert_close(image[:, 0, 0], expected, atol=1e-6, rtol=0)
    assert torch.equal(image[:, 0, 1], torch.full((4,), -1.0))


def test_eight_bits_survive_the_round_trip() -> None:
    rgba = character()
    seen = rgba[..., 3] > 0
    back = to_rgba8(encode_rgba(rgba))
    assert np.array_equal(back[..., 3], rgba[..., 3])
    assert np.array_equal(back[seen & (rgba[..., 3] > 8)], rgba[seen & (rgba[..., 3] > 8)])
    assert to_pil(encode_rgba(rgba)).mode == "RGBA"


def test_over_white_agrees_with_pillow() -> None:
    rgba = character(2)
    rgba[rgba[..., 3] == 0] = 0
    page = Image.new("RGBA", (512, 512), "white")
    page.alpha_composite(Image.fromarray(rgba))
    ours = over_white(encode_rgba(rgba)).permute(1, 2, 0).numpy() * 255
    # Pillow rounds to eight bits on the way
    np.testing.assert_allclose(ours, np.asarray(page.convert("RGB")), atol=1.01)


def test_decode_leaves_transparent_pixels_black() -> None:
    assert torch.equal(decode_rgba(torch.full((4, 3, 3), -1.0)), torch.zeros(4, 3, 3))


def test_regions_nest_and_paste_back() -> None:
    image = torch.rand(4, 512, 512)
    assert torch.equal(EYEBROW_IN_FACE.crop(FACE_REGION.crop(image)), EYEBROW_REGION.crop(image))
    pasted = FACE_REGION.paste(image, torch.zeros(2, 4, 192, 192))
    assert pasted.shape == (2, 4, 512, 512)
    assert float(FACE_REGION.crop(pasted).abs().max()) == 0
    assert torch.equal(pasted[1, :, :32], image[:, :32])


def test_the_sample_character_loads(reference: Path) -> None:
    image = load_character(reference / "students" / "lambda_00" / "character.png")
    assert image.shape == (4, 512, 512)
    assert image.dtype == torch.float32
    assert float(image.min()) == -1
    assert float(image.max()) <= 1
    mask = load_face_mask(reference / "students" / "lambda_00" / "face_mask.png")
    assert mask.shape == (1, 512, 512)
    assert set(mask.unique().tolist()) == {0.0, 1.0}


def refused(path: Path, picture: Image.Image | bytes, load: object = load_character) -> str:
    path.write_bytes(picture) if isinstance(picture, bytes) else picture.save(path)
    with pytest.raises(UserError) as caught:
        load(path)  # type: ignore[operator]
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_mistakes_are_reported_in_one_line(tmp_path: Path) -> None:
    good = Image.fromarray(character())
    path = tmp_path / "character.png"
    small = refused(path, good.convert("RGB").resize((500, 512)))
    assert "500x512 PNG RGB" in small
    assert f"run 'thadistill prepare image={path}'" in small
    assert "without a transparent pixel" in refused(path, Image.new("RGBA", (512, 512), "red"))
    assert "transparent everywhere" in refused(path, Image.new("RGBA", (512, 512)))
    assert "not a picture" in refused(path, b"hello")
    jpeg = tmp_path / "picture.jpg"
    good.convert("RGB").save(jpeg)
    assert "JPEG" in refused(path, jpeg.read_bytes())
    good.save(path)
    assert "whole picture" in refused(path, path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="does not exist"):
        load_character(tmp_path / "absent.png")
    assert "expected a face mask of 512x512" in refused(path, Image.new("L", (128, 128), 255), load_face_mask)
    assert "black in the face crop" in refused(path, Image.new("L", (512, 512)), load_face_mask)

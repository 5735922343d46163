"""Pictures: files in every form people have them, read as Pillow and colour science say, or refused in one line."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, features

from thadistill.errors import UserError
from thadistill.images import load_face_mask
from thadistill.images.picture import LARGEST_SIDE, read_picture


def gradient(width: int = 96, height: int = 64) -> np.ndarray:
    """Smooth enough that lossy formats keep it."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 2, y * 3, 128 + x - y, np.full_like(x, 255)], -1).clip(0, 255).astype(np.uint8)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    return png[:33] + b"".join(chunks) + png[33:]  # behind IHDR


def png_bytes(rgba: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgba).save(file, format="PNG")
    return file.getvalue()


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "avif", "gif", "tiff", "bmp", "tga", "jp2"])
def test_formats(ending: str, tmp_path: Path) -> None:
    if not features.check({"avif": "avif", "webp": "webp", "jp2": "jpg_2000"}.get(ending, "pil")):
        pytest.skip(f"this Pillow has no {ending}")
    path = tmp_path / f"picture.{ending}"
    Image.fromarray(gradient()).convert("RGB").save(path)
    picture = read_picture(path)
    assert picture.size == picture.image.size == (96, 64)
    assert picture.image.mode == "RGBA"
    error = np.abs(np.asarray(picture.image).astype(int) - gradient())
    assert float(error.mean()) < 6  # GIF has 256 colours, the lossy ones some levels


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_modes(mode: str, tmp_path: Path) -> None:
    grey = gradient()[..., 0]
    if mode in ("I;16", "I"):
        given = Image.fromarray(grey.astype(np.uint16) * 257)
        given = given.convert("I") if mode == "I" else given
    elif mode == "F":
        given = Image.fromarray(grey.astype(np.float32) / 255)
    else:
        given = Image.fromarray(gradient()).convert("RGB").convert("L" if mode in ("1", "L", "LA") else "RGB")
        given = given.convert("P").convert("PA") if mode == "PA" else given.convert(mode)
    path = tmp_path / "picture.tiff"
    given.save(path)
    image = np.asarray(read_picture(path).image)
    expected = grey if mode in ("I;16", "I", "F") else np.asarray(given.convert("RGBA"))[..., 0]
    assert np.abs(image[..., 0].astype(int) - expected).max() <= 1
    assert (image[..., 3] == 255).all()


def test_transparency_of_palettes_and_of_one_colour(tmp_path: Path) -> None:
    rgba = gradient()
    rgba[:20, :, 3] = 0
    Image.fromarray(rgba).quantize(64).save(tmp_path / "palette.png")
    seen = np.asarray(read_picture(tmp_path / "palette.png").image)
    assert (seen[:20, :, 3] == 0).all()
    assert (seen[20:, :, 3] == 255).all()
    white = Image.new("RGB", (80, 80), "white")
    white.paste("red", (20, 20, 60, 60))
    white.save(tmp_path / "key.png", transparency=(255, 255, 255))
    assert np.asarray(read_picture(tmp_path / "key.png").image)[..., 3].sum() == 40 * 40 * 255


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, ending: str, tmp_path: Path) -> None:
    """Against the definition: where row 0 and column 0 of the file lie in the picture."""
    upright = gradient()
    turned = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"picture.{ending}"
    given = Image.fromarray(np.ascontiguousarray(turned)).convert("RGB")
    given.save(path, exif=exif, **({"quality": 95} if ending == "jpg" else {}))
    picture = read_picture(path)
    assert picture.size == (96, 64)
    assert float(np.abs(np.asarray(picture.image).astype(int) - upright).mean()) < 4


def test_profiles_go_to_srgb(tmp_path: Path) -> None:
    lab = ImageCms.createProfile("LAB")
    profile = ImageCms.ImageCmsProfile(lab)
    given = ImageCms.profileToProfile(
        Image.fromarray(gradient()).convert("RGB"), ImageCms.createProfile("sRGB"), lab, outputMode="LAB"
    )
    assert given is not None
    given.save(tmp_path / "lab.tiff", icc_profile=profile.tobytes())
    seen = np.asarray(read_picture(tmp_path / "lab.tiff").image).astype(int)
    assert float(np.abs(seen - gradient()).mean()) < 3  # eight-bit Lab is coarse
    Image.fromarray(gradient()).save(tmp_path / "broken.png", icc_profile=b"no profile")
    broken = read_picture(tmp_path / "broken.png")
    assert np.array_equal(np.asarray(broken.image), gradient())
    assert any("cannot be read" in note for note in broken.notes)
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    linear = bytearray(own)  # the same name, and a curve of gamma 1, as Krita's default profile of 16 bits
    curve = linear.index(b"para") if b"para" in linear else linear.index(b"curv")
    linear[curve : curve + 16] = b"curv" + bytes(4) + (0).to_bytes(4, "big") + bytes(4)
    Image.fromarray(gradient()).save(tmp_path / "linear.png", icc_profile=bytes(linear))
    seen = np.asarray(read_picture(tmp_path / "linear.png").image).astype(int)
    assert (seen - gradient())[..., :3].max() > 40
    Image.fromarray(gradient()).save(tmp_path / "srgb.png", icc_profile=own)
    assert np.array_equal(np.asarray(read_picture(tmp_path / "srgb.png").image), gradient())


def test_wide_gamut_is_converted(tmp_path: Path) -> None:
    """A profile with red and green exchanged shows whether it is used, with its alpha left alone."""
    own = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    places = [132 + 12 * i for i in range(int.from_bytes(own[128:132], "big"))]
    keys = {bytes(own[place : place + 4]): place for place in places}
    red, green = keys[b"rXYZ"], keys[b"gXYZ"]
    own[red : red + 4], own[green : green + 4] = b"gXYZ", b"rXYZ"
    description = own.find("sRGB".encode("utf-16-be"))
    own[description : description + 8] = "swap".encode("utf-16-be")
    rgba = gradient()
    rgba[..., 3] = 77
    Image.fromarray(rgba).save(tmp_path / "swapped.png", icc_profile=bytes(own))
    seen = np.asarray(read_picture(tmp_path / "swapped.png").image).astype(int)
    assert np.abs(seen[..., :3] - rgba[..., [1, 0, 2]]).max() <= 2
    assert (seen[..., 3] == 77).all()


def test_large_and_damaged_metadata_is_ignored(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    path = tmp_path / "text.png"
    text.add_text("parameters", "x" * 3_000_000, zip=True)
    Image.fromarray(gradient()).save(path, pnginfo=text)
    assert np.array_equal(np.asarray(read_picture(path).image), gradient())
    odd = with_chunks(
        png_bytes(gradient()),
        chunk(b"gAMA", b"\1"),
        chunk(b"pHYs", b"\0\0"),
        chunk(b"iCCP", b"big\0\0" + zlib.compress(bytes(80_000_000))),
        chunk(b"eXIf", b"MM\0"),
        chunk(b"tEXt", b""),
    )
    path.write_bytes(odd)
    assert np.array_equal(np.asarray(read_picture(path).image), gradient())


def test_large_pictures_are_scaled_while_they_are_read(tmp_path: Path) -> None:
    large = np.tile(gradient(), (20, 20, 1))
    for ending in ("png", "jpg"):
        Image.fromarray(large[..., :3]).save(tmp_path / f"large.{ending}")
        picture = read_picture(tmp_path / f"large.{ending}", most=600)
        assert picture.size == (1920, 1280)
        assert 300 <= max(picture.image.size) <= 600
    whole = np.asarray(Image.fromarray(large).reduce(4)).astype(int)
    assert np.abs(np.asarray(read_picture(tmp_path / "large.png", most=500).image) - whole).max() <= 1


def refused(path: Path, content: bytes | None = None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.png", png_bytes(gradient())
    assert "does not exist" in refused(tmp_path / "absent.png")
    assert "is no file" in refused(tmp_path)
    for content in (b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", b"<svg/>"):
        assert "not a picture" in refused(path, content)
    assert "whole picture" in refused(path, whole[: len(whole) // 2])
    size = struct.pack(">IIBBBBB", LARGEST_SIDE + 1, 5, 8, 6, 0, 0, 0)
    bomb = whole[:8] + chunk(b"IHDR", size) + whole[33:]
    assert f"expected at most {LARGEST_SIDE} pixels" in refused(path, bomb)
    assert Image.MAX_IMAGE_PIXELS is not None  # Pillow's own limit is as it was
    assert Image.MAX_IMAGE_PIXELS < LARGEST_SIDE**2


def test_masks_as_people_paint_them(tmp_path: Path) -> None:
    spot = np.zeros((512, 512), np.uint8)
    spot[100:140, 230:280] = 255
    halves = np.arange(512)[None] < 250
    full, white, black = np.full_like(spot, 255), np.dstack([spot] * 3), np.zeros((512, 512, 3), np.uint8)
    forms = {
        "grey": Image.fromarray(spot),
        "rgb": Image.fromarray(white),
        "16 bit": Image.fromarray(spot.astype(np.uint16) * 257),
        "LA": Image.merge("LA", [Image.fromarray(full), Image.fromarray(spot)]),
        "white under transparency": Image.fromarray(np.dstack([full, full, full, spot])),
        "black on transparency": Image.fromarray(np.dstack([black, spot])),
        "two colours on transparency": Image.fromarray(np.dstack([spot * halves, spot * ~halves, spot * 0, spot])),
        "red on transparency": Image.fromarray(np.dstack([spot, spot * 0, spot * 0, spot])),
        "opaque": Image.fromarray(np.dstack([white, full])),
        "palette": Image.fromarray(spot).convert("P"),
        "1 bit": Image.fromarray(spot).convert("1"),
    }
    path = tmp_path / "face_mask.png"
    for name, form in forms.items():
        form.save(path)
        assert np.array_equal(load_face_mask(path)[0].numpy() * 255, spot), name
    for dark in (spot // 3, spot * 0):
        Image.fromarray(dark).save(path)
        with pytest.raises(UserError, match="expected white where the face moves"):
            load_face_mask(path)
    Image.fromarray(np.dstack([black, full])).save(path)
    with pytest.raises(UserError, match="black in the face crop"):
        load_face_mask(path)

"""Pictures: files of any format that Pillow reads, brought to upright 8-bit sRGB RGBA; the one place that opens them."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from thadistill.errors import UserError

LARGEST_SIDE: Final = 20_000  # pixels; what is larger is refused before it is decoded
LARGEST_FILE: Final = 2**30  # bytes
_UNREAD = ("EPS", "PDF")  # EPS runs a PostScript interpreter on the file
_HEADER_BYTES = 16 << 20  # of a PNG's colour profile, as far as it is read
# what of a PNG shows its picture; the rest (text, resolution, gamma) is left out, damaged or not
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iCCP", b"eXIf")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_limit = threading.RLock()


@dataclass(frozen=True)
class Picture:
    """A picture as it is seen: upright, sRGB.

    Args:
        image: RGBA, 8 bits, straight alpha; of a large file, scaled down.
        size: width and height of the file's picture, upright, in pixels.
        kind: format and mode of the file, to name it in messages: "JPEG CMYK".
        notes: what was done to it, a line each.
    """

    image: Image.Image
    size: tuple[int, int]
    kind: str
    notes: tuple[str, ...] = ()


class Needed(NamedTuple):
    """A square that a picture must be, or it is refused before it is decoded; ``expected`` says what it should have been."""

    side: int
    expected: str


def read_picture(path: str | Path, most: int | None = None, needed: Needed | None = None) -> Picture:
    """Reads a picture file: its first frame, turned as EXIF says, its colours taken from their profile to sRGB.

    Args:
        path: any format that Pillow reads, but PostScript.
        most: pixels of the longer side from which on the picture is scaled down by a whole number, to between half of them
            and all; None: never.
        needed: the size that it must have; None: any.

    Raises: UserError when the file is missing, is no whole picture, has more than 20,000 pixels a side, or another size
        than it must have.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise UserError(f"{path} does not exist; expected a picture: check the path")
        if not path.is_file():
            raise UserError(f"{path} is no file; expected a picture: name the file in it")
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path} has {path.stat().st_size / 1e6:.0f} MB; expected a picture of 1 GB at most")
        with path.open("rb") as file:
            return decode_picture(file, str(path), most, needed)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); expected a picture") from None


def decode_picture(
    file: io.BufferedReader | io.BytesIO, name: str, most: int | None = None, needed: Needed | None = None
) -> Picture:
    """:func:`read_picture` of an open file, which messages call ``name``.

    Raises: UserError; see there.
    """
    try:
        with _pixels_up_to(LARGEST_SIDE**2), Image.open(_without_extras(file), formats=_formats()) as opened:
            width, height = opened.size
            if max(width, height) > LARGEST_SIDE:
                raise UserError(
                    f"{name} is {width}x{height}; expected at most {LARGEST_SIDE} pixels a side: scale it down"
                )
            if needed is not None and opened.size != (needed.side, needed.side):
                raise UserError(f"{name} is {width}x{height} {opened.format} {opened.mode}; expected {needed.expected}")
            return _decoded(opened, most)
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"{name} is too large; expected at most {LARGEST_SIDE} pixels a side: scale it down") from None
    except UnidentifiedImageError:
        raise UserError(f"{name} is not a picture that can be read; expected one: save it as PNG or JPEG") from None
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes them stumble over
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{name} cannot be read ({reason}); expected a whole picture: save or copy it again") from None


def _decoded(opened: Image.Image, most: int | None) -> Picture:
    size = opened.size
    notes = []
    if getattr(opened, "n_frames", 1) > 1:
        notes.append(f"took the first of {opened.n_frames} frames")  # type: ignore[attr-defined]
    kind = f"{opened.format} {opened.mode}"
    if most is not None and opened.format in ("JPEG", "MPO"):
        opened.draft(None, (most, most))  # the decoder scales it down, which takes less memory
    opened.load()
    if opened.size == size[::-1] != size:  # TIFF is turned while it is loaded
        size = opened.size
    orientation = _orientation(opened)
    profile = opened.info.get("icc_profile")
    factor = 1 if most is None else -(-max(opened.size) // most)
    image = _reduced(opened, factor, notes, profile if isinstance(profile, bytes) else None)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
        size = size[::-1] if orientation >= 5 else size
        notes.append("turned upright, as EXIF says")
    return Picture(image, size, kind, tuple(dict.fromkeys(notes)))


def _orientation(opened: Image.Image) -> int:
    try:
        found = opened.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF block says nothing, and the picture is whole without it
        return 1
    return found if isinstance(found, int) else 1


def _reduced(opened: Image.Image, factor: int, notes: list[str], profile: bytes | None) -> Image.Image:
    """The picture in sRGB RGBA, 1/``factor`` of its size; a large one in bands, whose copies take little memory."""
    if factor == 1:
        return _srgb(opened, profile, notes)
    width, height = -(-opened.width // factor), -(-opened.height // factor)
    page = Image.new("RGBA", (width, height))
    band = 256 * factor
    for top in range(0, opened.height, band):
        part = opened.crop((0, top, opened.width, min(opened.height, top + band)))
        page.paste(_srgb(part, profile, notes).reduce(factor), (0, top // factor))
    return page


def _srgb(picture: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """RGBA of 8 bits; alpha stays, colours come from ``profile`` where there is one."""
    eight = _eight_bits(picture)
    transparent = eight.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
    if eight.mode == "P" or transparent:
        rgba = eight.convert("RGBA")
    elif profile is not None and eight.mode in ("L", "RGB", "CMYK", "LAB"):
        rgba = eight  # which the profile takes to RGB
    else:
        return eight.convert("RGB").convert("RGBA")
    if profile is None:
        return rgba
    alpha = rgba.getchannel("A") if rgba.mode == "RGBA" else None
    colors = rgba.convert("RGB") if rgba.mode == "RGBA" else rgba
    converted = _from_profile(colors, profile, notes).convert("RGBA")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _from_profile(colors: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip()
        space = source.profile.xcolor_space.strip()
        if space == "GRAY":
            colors = colors.convert("L")
        elif space == "RGB":
            colors = colors.convert("RGB")
        srgb = ImageCms.createProfile("sRGB")
        if space == "RGB" and _changes_nothing(source, srgb):  # but the rounding
            return colors
        converted = ImageCms.profileToProfile(colors, source, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append("left out a colour profile that cannot be read")
        return colors.convert("RGB")
    assert converted is not None
    notes.append(f"took the colours from {name or 'their profile'} to sRGB")
    return converted


def _changes_nothing(source: ImageCms.ImageCmsProfile, target: Any) -> bool:
    """Whether colours of one profile are those of the other, by a grid of them: names are no guide."""
    levels = np.linspace(0, 255, 6).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(36, 6, 3)
    found = ImageCms.profileToProfile(Image.fromarray(grid), source, target, outputMode="RGB")
    return found is not None and int(np.abs(np.asarray(found).astype(int) - grid).max()) <= 2


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A picture of 16 or 32 bits as an 8-bit grey one; others as they are."""
    if not (picture.mode.startswith("I") or picture.mode == "F"):
        return picture
    values = np.nan_to_num(np.asarray(picture).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(values.max(initial=0.0))
    if picture.mode == "F":
        full = 1.0 if largest <= 1 else 255.0 if largest <= 255 else largest
    elif picture.mode == "I" and largest > 65535:
        full = largest
    else:
        full = 65535.0
    return Image.fromarray((values / full * 255).round().clip(0, 255).astype(np.uint8))


def _without_extras(file: io.BufferedReader | io.BytesIO) -> io.BufferedReader | io.BytesIO:
    """A PNG without the parts that do not show, which Pillow refuses where they are large or damaged; others as they are.

    Raises: ValueError where the checksum of a part that shows differs, which Pillow does not look at.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(8) != _PNG_SIGNATURE:
        file.seek(0)
        return file
    kept = io.BytesIO()
    kept.write(_PNG_SIGNATURE)
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name not in _PNG_CHUNKS or (name in (b"iCCP", b"eXIf") and length > _HEADER_BYTES):
            file.seek(length + 4, io.SEEK_CUR)
            continue
        body = file.read(min(length + 4, end - file.tell()))
        whole = zlib.crc32(name + body[:length]).to_bytes(4, "big") == body[length:]
        if name in (b"iCCP", b"eXIf"):
            if not whole or (name == b"iCCP" and not _can_inflate(body[:length])):
                continue
        elif not whole and name != b"IEND":
            what = "is cut short" if len(body) < length + 4 else "has another checksum"
            raise ValueError(f"its {name.decode()} {what}")
        kept.write(head + body)
        if name == b"IEND":
            break
    kept.seek(0)
    return kept


def _can_inflate(chunk: bytes) -> bool:
    """Whether the profile in an iCCP chunk is whole, and of a size that Pillow takes."""
    from PIL.PngImagePlugin import MAX_TEXT_CHUNK

    inflate = zlib.decompressobj()
    try:
        inflate.decompress(chunk[chunk.index(b"\0") + 2 :], MAX_TEXT_CHUNK)
    except (ValueError, zlib.error):
        return False
    return not inflate.unconsumed_tail


def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.OPEN if name not in _UNREAD]


@contextmanager
def _pixels_up_to(most: int) -> Iterator[None]:
    """Pillow's own limit, which is lower and asks for pixels in all, set so high while a file is read."""
    with _limit:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = most
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before

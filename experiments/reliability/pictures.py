"""Random pictures: generated in every size, mode, format, rotation and profile, some damaged; none may be read wrongly.

    python experiments/reliability/pictures.py n=1000 seed=0

A figure on a transparent, flat, graded or noisy background is saved and read again. A whole file has to give the picture
that was saved, upright and in sRGB, as closely as its format allows; a damaged one that, or one line that says so. What is
read is then cut out, which gives a figure or one line. ``pictures.csv`` counts by format; all else is printed, and fails.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageDraw, PngImagePlugin, features
from record import record

from thadistill.data.cutout import cut_out
from thadistill.errors import UserError
from thadistill.images.picture import read_picture

_BECAME = ("read", "cut out", "refused", "wrong")
# modes that Pillow writes into each format, and whether it keeps numbers exactly
FORMATS: dict[str, tuple[tuple[str, ...], bool]] = {
    "png": (("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), True),
    "jpg": (("L", "RGB", "CMYK"), False),
    "webp": (("RGB", "RGBA"), False),
    "avif": (("RGB", "RGBA"), False),
    "gif": (("L", "P"), True),
    "tiff": (("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"), True),
    "bmp": (("1", "L", "RGB"), True),
    "tga": (("L", "RGB", "RGBA"), True),
    "jp2": (("L", "RGB", "RGBA"), False),
    "ppm": (("L", "RGB"), True),
    "ico": (("RGBA",), True),
}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


class Case(NamedTuple):
    """A file, what it shows, and how far what is read may be from that: a mean over pixels, or over 8x8 of them."""

    path: Path
    expected: Image.Image
    lossy: bool
    damaged: bool


def drawn(generator: np.random.Generator) -> Image.Image:
    """A figure on one of four backgrounds, RGBA."""
    longest = int(np.exp(generator.uniform(np.log(64), np.log(900))))
    width, height = longest, max(64, int(longest * generator.uniform(0.3, 1)))
    width, height = (width, height) if generator.random() < 0.5 else (height, width)
    kind = generator.choice(["transparent", "flat", "graded", "noisy"])
    rgba = np.zeros((height, width, 4), np.uint8)
    if kind != "transparent":
        y, x = np.mgrid[:height, :width] / max(height, width)
        rgb = np.ones((height, width, 3)) * generator.uniform(0, 255, 3)
        if kind == "graded":
            rgb = rgb + generator.uniform(-60, 60, 3) * x[..., None] + generator.uniform(-60, 60, 3) * y[..., None]
        if kind == "noisy":
            rgb = rgb + generator.normal(0, 40, rgb.shape)
        rgba = np.dstack([rgb.clip(0, 255), np.full((height, width), 255)]).astype(np.uint8)
    picture = Image.fromarray(rgba)
    drawing = ImageDraw.Draw(picture)
    color, other = ((*(int(v) for v in generator.integers(0, 256, 3)), 255) for _ in range(2))
    drawing.ellipse((width * 0.3, height * 0.1, width * 0.7, height * 0.5), fill=color, outline=other)
    drawing.rectangle((width * 0.25, height * 0.5, width * 0.75, height), fill=other)
    return picture


def in_mode(picture: Image.Image, mode: str) -> tuple[Image.Image, Image.Image]:
    """The picture in a mode, and what a reader has to see of it, RGBA."""
    if mode in ("I;16", "F"):
        grey = np.asarray(picture.convert("RGB").convert("L"))
        given = Image.fromarray(grey.astype(np.uint16) * 257 if mode == "I;16" else grey.astype(np.float32) / 255)
        return given, Image.fromarray(grey).convert("RGBA")
    flat = picture if mode in ("RGBA", "LA") else picture.convert("RGB")
    given = flat.convert("L").convert(mode) if mode in ("1", "L") else flat.convert(mode)
    return given, given.convert("RGBA")


def make(folder: Path, number: int, seed: int) -> Case:
    """Case ``number``."""
    generator = np.random.default_rng([seed, number])
    needs = {"avif": "avif", "webp": "webp", "jp2": "jpg_2000"}
    ending = str(generator.choice([name for name in FORMATS if features.check(needs.get(name, "pil"))]))
    modes, exact = FORMATS[ending]
    mode = str(generator.choice(modes))
    picture = drawn(generator)
    if ending == "ico":
        picture = picture.resize((64, 64))
    given, expected = in_mode(picture, mode)
    options: dict[str, Any] = {}
    if ending in ("jpg", "png", "webp", "tiff") and generator.random() < 0.4:
        orientation = int(generator.integers(1, 9))
        given = given.transpose(_TURNS[orientation]) if orientation in _TURNS else given
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    if ending in ("jpg", "png", "webp", "tiff", "avif") and mode in ("RGB", "RGBA") and generator.random() < 0.4:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        options["icc_profile"] = profile if generator.random() < 0.7 else profile[: int(generator.integers(1, 200))]
    if ending == "png" and generator.random() < 0.3:
        text = PngImagePlugin.PngInfo()
        text.add_text("parameters", "x" * int(generator.integers(1, 2_500_000)), zip=bool(generator.random() < 0.5))
        options["pnginfo"] = text
    if ending == "jpg":
        options["quality"] = int(generator.integers(70, 96))
    file = io.BytesIO()
    given.save(file, format={"jpg": "JPEG", "tga": "TGA", "jp2": "JPEG2000"}.get(ending, ending.upper()), **options)
    content = bytearray(file.getvalue())
    damaged = bool(generator.random() < 0.25)
    if damaged and generator.random() < 0.5:
        content = content[: int(generator.integers(0, len(content)))]
    elif damaged:
        for place in generator.integers(0, len(content), int(generator.integers(1, 30))):
            content[place] = int(generator.integers(0, 256))
    path = folder / f"{number}.{ending}"
    path.write_bytes(content)
    return Case(path, expected, not exact, damaged)


def judge(case: Case) -> str:
    """What became of a case: "read", "cut out", "refused", or else what is wrong."""
    try:
        picture = read_picture(case.path, most=2560)
    except UserError as error:
        if not case.damaged:
            return f"refused though whole: {error}"
        return "refused" if "\n" not in str(error) else f"more than one line: {error}"
    if not case.damaged:
        if picture.image.size != case.expected.size:
            return f"size {picture.image.size}; expected {case.expected.size}"
        pair = (picture.image, case.expected)
        if case.lossy:  # noise does not survive, colours do
            pair = (picture.image.reduce(8), case.expected.reduce(8))
        seen, meant = (np.asarray(one).astype(float) for one in pair)
        # as far as they show: a lossy format may give a colour to what is all but transparent
        error = float(np.abs(seen * seen[..., 3:] - meant * meant[..., 3:])[..., :3].mean()) / 255
        if error > (4.0 if case.lossy else 0.6) or np.abs(seen[..., 3] - meant[..., 3]).mean() > 2:
            return f"{picture.kind}: {error:.1f} levels off"
    try:
        made = cut_out(np.asarray(picture.image), case.path.name)
    except UserError as error:
        return "read" if "\n" not in str(error) else f"more than one line: {error}"
    return "cut out" if not made.rgba[made.rgba[..., 3] == 0].any() else "hidden colours"


def run(n: int, seed: int) -> list[str]:
    """Makes and judges n cases, writes the counts; returns what went wrong."""
    counts: Counter[tuple[str, str]] = Counter()
    wrong, started = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(n):
            case = make(Path(folder), number, seed)
            try:
                became = judge(case)
            except Exception as error:
                became = f"{type(error).__name__}: {error}"
            if became not in ("read", "cut out", "refused"):
                wrong.append(f"{case.path.name} damaged={case.damaged}: {became}")
                became = "wrong"
            counts[case.path.suffix[1:], became] += 1
            case.path.unlink()
    rows = [
        {
            "format": ending,
            "pictures": sum(counts[ending, key] for key in _BECAME),
            **{key: counts[ending, key] for key in _BECAME},
        }
        for ending in FORMATS
    ]
    if n >= 1000:
        record("pictures", rows, seed)
    print(f"{n} pictures in {time.monotonic() - started:.0f} s, {len(wrong)} wrong")
    return wrong


if __name__ == "__main__":
    given = dict(argument.split("=") for argument in sys.argv[1:])
    found = run(int(given.get("n", 1000)), int(given.get("seed", 0)))
    print("\n".join(found))
    sys.exit(bool(found))

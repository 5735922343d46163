"""Cut-out: a picture's character on a transparent background, by its own alpha, by a flat background, or by a network.

The step of ``prepare`` between reading a picture and framing it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy import ndimage

from thadistill.errors import UserError

FAINT = 8  # of 255: alpha below this is the haze that cut-out tools leave, and is cleared
TRANSPARENT_SHARE = 0.03  # of a picture, from which on it counts as cut out already
HAZE = 40  # of 255: alpha up to this is cleared where nothing solid is near
NEAR = 4  # pixels from solid ones within which alpha may be faint
EDGE = 3  # pixels around an edge pixel among which the figure's colour is looked for
DUST_SHARE = 5e-4  # of the figure's area: smaller pieces that lie apart are cleared
FLAT = 7.0  # Lab distance (CIE76) within which a pixel is background
MOST_NOISE = 6.0  # Lab distance of a background from its smooth model, beyond which it is no flat one
CLOTHES_SHARE = 0.15  # of the picture's width: what is wider at its lower edge and like the background is clothes
BORDER_SHARE = 0.6  # of the picture's top and sides that the background has to cover

_XYZ_OF_RGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    np.float32,
)  # sRGB, IEC 61966-2-1

WITHOUT_SEGMENTER = (
    "expected a transparent, flat or gently graded one: cut the character out first, or give segmenter=FILE, an ONNX model "
    "such as isnet-anime.onnx of github.com/danielgatis/rembg/releases (tag v0.0.0)"
)


@dataclass(frozen=True)
class CutOut:
    """A character on alpha 0, colours hidden under it cleared, and what was done, a line each."""

    rgba: UInt8[np.ndarray, "h w 4"]
    notes: tuple[str, ...]


def cut_out(rgba: UInt8[np.ndarray, "h w 4"], name: str, segmenter: str | Path | None = None) -> CutOut:
    """Takes a picture's background away where it has one, and cleans what is left.

    Args:
        rgba: straight sRGB.
        name: what messages call the picture.
        segmenter: an ONNX model that finds the character, for backgrounds that are neither transparent nor flat.

    Raises: UserError when the background cannot be told from the character, or nothing is left of it.
    """
    alpha = rgba[..., 3]
    if not (alpha >= FAINT).any():
        raise UserError(f"{name} is transparent everywhere; expected a character: check the file")
    notes = []
    is_cut_out = segmenter is None and float((alpha < FAINT).mean()) >= TRANSPARENT_SHARE
    if is_cut_out:
        made = rgba.copy()
    else:
        rgb = _filled(rgba)
        if segmenter is not None:
            from thadistill.data.segmenter import segment  # onnxruntime is not on every machine

            made = un_mixed_by_neighbours(np.dstack([rgb, alpha]), segment(rgb, Path(segmenter)))
            notes.append(f"background taken away by {Path(segmenter).name}")
        else:
            background = flat_background(rgb)
            if background is None:
                raise UserError(f"{name} has a background that is neither transparent nor flat; {WITHOUT_SEGMENTER}")
            made = without_flat_background(rgb, background)
            notes.append("background taken away: flat, flooded from the border")
        made[..., 3] = np.minimum(made[..., 3], alpha)  # what was transparent stays so
    made, cleaned = clean(made)
    share = float((made[..., 3] >= 128).mean())
    if share < 0.005 and is_cut_out:
        raise UserError(f"{name} is a character on {share:.1%} of its picture; expected more: crop the picture to it")
    if share < 0.005:
        raise UserError(f"{name} has next to nothing before its background; {WITHOUT_SEGMENTER}")
    if share > 0.97:
        raise UserError(f"{name} is opaque almost everywhere; {WITHOUT_SEGMENTER}")
    return CutOut(made, (*notes, *cleaned))


def _filled(rgba: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """The colours, where they are transparent (as at rounded corners) those of the nearest pixels that are not."""
    clear = rgba[..., 3] < FAINT
    if not clear.any():
        return rgba[..., :3]
    nearest = ndimage.distance_transform_edt(clear, return_distances=False, return_indices=True)
    return rgba[..., :3][nearest[0], nearest[1]]


def flat_background(rgb: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"] | None:
    """The background in sRGB, [0, 255], as a quadratic function of the place fitted to the border; None: it is not flat.

    A figure may stand on the lower edge and touch the others: what does not fit is left out of the fit.
    """
    height, width = rgb.shape[:2]
    wide = max(1, min(height, width) // 100)
    ring = np.zeros((height, width), bool)
    ring[:wide] = ring[:, :wide] = ring[:, -wide:] = True  # not the lower edge, where figures are cut off
    rows, columns = np.nonzero(ring)
    if len(rows) > 20_000:
        chosen = np.linspace(0, len(rows) - 1, 20_000).astype(int)
        rows, columns = rows[chosen], columns[chosen]
    colors = rgb[rows, columns].astype(np.float64)
    lab = srgb_to_lab(colors)
    terms = _terms(rows / height, columns / width)
    middle = _most_common(lab)
    for limit in (25.0, 15.0, FLAT):  # from what looks like the commonest colour to what the model explains
        fits = np.linalg.norm(lab - middle, axis=1) < limit
        if fits.mean() < BORDER_SHARE:
            return None
        # a plane or a parabola of few pixels would follow the figure
        fitted = np.linalg.lstsq(terms[fits], lab[fits], rcond=None)[0]
        middle = terms @ fitted
    if float(np.sqrt(((lab[fits] - middle[fits]) ** 2).sum(1).mean())) > MOST_NOISE:
        return None
    coefficients = np.linalg.lstsq(terms[fits], colors[fits], rcond=None)[0]
    y, x = np.mgrid[:height, :width]
    model = _terms((y / height).ravel(), (x / width).ravel()) @ coefficients
    return model.reshape(height, width, 3).clip(0, 255)


def srgb_to_lab(rgb: np.ndarray) -> Float[np.ndarray, "*n 3"]:
    """CIE L*a*b* (D65) of sRGB colours in [0, 255]."""
    unit = np.asarray(rgb, np.float32) / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    xyz = linear @ (_XYZ_OF_RGB / _XYZ_OF_RGB.sum(1, keepdims=True)).T
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _terms(y: Float[np.ndarray, " n"], x: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 6"]:
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], 1)


def _most_common(lab: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "3"]:
    """The mean of the fullest cell of a coarse grid and its neighbours: a mode that a figure at the border cannot move."""
    cells, counts = np.unique((lab // 8).astype(int), axis=0, return_counts=True)
    fullest = (cells[counts.argmax()] + 0.5) * 8
    return lab[np.linalg.norm(lab - fullest, axis=1) < 20].mean(0)


def without_flat_background(
    rgb: UInt8[np.ndarray, "h w 3"], background: Float[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 4"]:
    """Floods the background from the border, and un-mixes it from the pixels along the figure's edge.

    An edge pixel is taken as a mixture C = a F + (1 - a) B of the background B and the figure's colour F next to it, in
    sRGB, as pictures are drawn and scaled; its alpha is a and its colour F, so that no fringe of B is left.
    """
    distance = np.linalg.norm(srgb_to_lab(rgb) - srgb_to_lab(background), axis=-1)
    like = distance < FLAT
    # narrower gaps than this in an outline let nothing through
    open_ = ndimage.binary_erosion(like, iterations=1, border_value=1)
    labels, _ = ndimage.label(open_)
    edge = np.concatenate([labels[0], labels[:, 0], labels[:, -1]])
    seeds = np.unique(edge[edge > 0])
    # what touches the lower edge alone: gaps between arm and body are narrow, clothes that the picture cuts off are wide
    lower, widths = np.unique(labels[-1][labels[-1] > 0], return_counts=True)
    narrow = lower[widths < CLOTHES_SHARE * labels.shape[1]]
    flooded = np.isin(labels, np.union1d(seeds, narrow))
    flooded = ndimage.binary_dilation(flooded, iterations=2) & like
    return un_mixed(rgb, flooded, background)


def un_mixed(
    rgb: UInt8[np.ndarray, "h w 3"], background: Bool[np.ndarray, "h w"], colour: Float[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 4"]:
    """The figure, with alpha and colour of its edge solved for; see :func:`without_flat_background`."""
    inside = ndimage.distance_transform_edt(~background)
    rows, columns = np.nonzero((inside > 0) & (inside < 2.9))  # two pixels all around
    own, behind = rgb[rows, columns].astype(np.float32), colour[rows, columns].astype(np.float32)
    # the figure's colour there: of those within reach of which, with the background, the pixel can be a mixture, the one
    # that differs most from the background
    reach = np.arange(-EDGE, EDGE + 1)
    y = (rows[:, None, None] + reach[:, None]).clip(0, rgb.shape[0] - 1)
    x = (columns[:, None, None] + reach).clip(0, rgb.shape[1] - 1)
    spans = (rgb[y, x] - behind[:, None, None]).reshape(len(rows), len(reach) ** 2, 3)
    squares, mixed = (spans**2).sum(-1), own - behind
    shares = ((spans * mixed[:, None]).sum(-1) / squares.clip(1e-3)).clip(0, 1)
    rest = np.linalg.norm(mixed[:, None] - shares[..., None] * spans, axis=-1)
    can_be = rest <= np.maximum(14, 0.12 * np.linalg.norm(mixed, axis=1))[:, None]
    can_be &= ~background[y, x].reshape(can_be.shape)
    most = np.where(can_be, squares, 0).argmax(1)
    each = np.arange(len(rows))
    span, share = spans[each, most], np.where(can_be.any(1), shares[each, most], 1.0)
    share = ((share - 0.04) / 0.92).clip(0, 1)  # what lossy formats leave on either side
    share = np.where((span**2).sum(1) < 20**2, 1.0, share)  # alike: nothing to tell apart
    alpha = np.where(background, 0, 1).astype(np.float32)
    alpha[rows, columns] = share
    # behind an outline lies the figure, however much like the background
    outer = ndimage.maximum_filter(np.where(inside < 1.5, alpha, 0), 3)
    alpha = np.where((inside >= 1.5) & (inside < 2.9), np.maximum(alpha, outer), alpha)
    share = alpha[rows, columns, None]
    solved = np.where(share < 0.3, behind + span, (own - (1 - share) * behind) / share.clip(0.3))
    made = np.dstack([rgb, (alpha * 255).round().astype(np.uint8)])
    made[rows, columns, :3] = solved.clip(0, 255).round()
    return made


def un_mixed_by_neighbours(
    rgba: UInt8[np.ndarray, "h w 4"], alpha: Float[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 4"]:
    """The figure under a network's alpha; soft pixels get the colour of the nearest solid one: the background is unknown."""
    made = rgba.copy()
    made[..., 3] = (alpha * 255).round()
    solid = alpha > 0.95
    if solid.any():
        nearest = ndimage.distance_transform_edt(~solid, return_distances=False, return_indices=True)
        soft = (alpha > 0) & ~solid
        made[soft, :3] = rgba[nearest[0][soft], nearest[1][soft], :3]
    return made


def clean(rgba: UInt8[np.ndarray, "h w 4"]) -> tuple[UInt8[np.ndarray, "h w 4"], list[str]]:
    """Clears haze, specks that lie apart, and colours hidden under alpha 0."""
    made, notes = rgba.copy(), list[str]()
    alpha = made[..., 3]
    solid = alpha >= 128
    if not solid.any():
        return made, notes
    far = ndimage.distance_transform_edt(~solid) > NEAR
    haze = (alpha > 0) & ((alpha < FAINT) | ((alpha <= HAZE) & far))
    labels, count = ndimage.label((alpha >= FAINT) & ~haze, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    dust = (sizes < max(4, DUST_SHARE * sizes.max()))[labels] & (labels > 0)
    for what, where in (("almost transparent pixels", haze), ("pixels of specks", dust)):
        if where.any():
            notes.append(f"cleared {int(where.sum())} {what}")
    made[haze | dust, 3] = 0
    made[made[..., 3] == 0] = 0
    return made, notes


def checkerboard(rgba: Image.Image, size: int = 16) -> Image.Image:
    """The picture before a grey checkerboard, on which holes, halos and fringes show."""
    y, x = np.mgrid[: rgba.height, : rgba.width]
    page = Image.fromarray(np.where((y // size + x // size) % 2, 205, 255).astype(np.uint8)).convert("RGBA")
    page.alpha_composite(rgba)
    return page.convert("RGB")

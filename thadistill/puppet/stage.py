"""Stage: the puppet's layers moved and laid over one another, and expressed as grid change, alpha and colour change."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from thadistill.images import IMAGE_SIZE, STUDENT_FACE_REGION, Region
from thadistill.outputs import TeacherOutput
from thadistill.puppet.motion import CELL, MATERIALS, around_head, lattice, sources
from thadistill.warp import axis_positions, blend, resize

_AGREE, _DIFFER = 0.03, 0.12  # differences (of [0, 1]) that are not painted over at all, and wholly


def flatten(layers: list[Float[Tensor, "4 h w"]]) -> Float[Tensor, "4 h w"]:
    """Layers (premultiplied, [0, 1]) from back to front, as one picture."""
    picture = layers[0]
    for layer in layers[1:]:
        picture = picture * (1 - layer[3:]) + layer
    return picture


def painted_region(layer: Float[Tensor, "4 512 512"], margin: int = 2) -> Region:
    """The rectangle that holds the face crop and everything painted, with a transparent rim where there is room."""
    seen = layer[3] > 0
    face = STUDENT_FACE_REGION
    seen[face.top : face.bottom, face.left : face.right] = True
    rows, columns = (torch.nonzero(seen.any(dim)).flatten() for dim in (1, 0))
    low = [max(int(axis[0]) - margin, 0) // CELL * CELL for axis in (rows, columns)]
    high = [min(-(-(int(axis[-1]) + 1 + margin) // CELL) * CELL, IMAGE_SIZE) for axis in (rows, columns)]
    return Region(low[0], high[0], low[1], high[1])


def rotate(
    layers: list[Float[Tensor, "4 _h _w"]],
    regions: list[Region],
    face_morphed: Float[Tensor, "4 512 512"],
    rotation: Float[Tensor, "6"],
    out: TeacherOutput,
) -> None:
    """Moves the layers, each given as its ``regions`` rectangle, by pose[39:45], into ``out`` (of one pose).

    The layers, each moved by its own flow, make the picture that is painted (``color_change``). One smooth flow, that of
    whatever is seen in each place, warps the face-morphed image (``warped``). Where the two differ, at what warping
    cannot uncover, ``alpha`` paints. Only the rectangle that the character can reach is computed.
    """
    places = sources(rotation)
    targets = [_target(place, region) for place, region in zip(places, regions, strict=True)]
    picture, seen = _compose(layers, regions, targets, places)
    home = torch.stack([axis.expand(places.shape[2:]) for axis in lattice(rotation.device)])
    change = _blend_flows(places - home, seen)
    reach = _union([*targets, _target(home + change, _union(regions))])
    out.grid_change[0] = _upsample(change * (2 / IMAGE_SIZE))

    painted = reach.crop(picture).mul(2).sub_(1)
    warped = _warp_region(face_morphed, out.grid_change[0], reach)
    alpha = _difference(painted, warped)
    for field, inside, empty in (
        (out.posed, blend(alpha[None], painted[None], warped[None])[0], -1),
        (out.warped, warped, -1),
        (out.color_change, painted, -1),
        (out.alpha, alpha, 0),
    ):
        field.fill_(empty)
        reach.crop(field)[0] = inside


def _union(regions: Sequence[Region | None]) -> Region:
    present = [region for region in regions if region is not None]
    top, bottom, left, right = zip(*present, strict=True)
    return Region(min(top), max(bottom), min(left), max(right))


def _warp_region(
    image: Float[Tensor, "4 512 512"], grid_change: Float[Tensor, "2 512 512"], region: Region
) -> Float[Tensor, "4 _h _w"]:
    """The rectangle of ``warp(image, grid_change)``."""
    at = axis_positions(IMAGE_SIZE, image.device)
    change = region.crop(grid_change)
    grid = torch.stack([change[0] + at[region.left : region.right], change[1] + at[region.top : region.bottom, None]])
    grid = grid.permute(1, 2, 0)[None]
    return F.grid_sample(image[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0]


def _upsample(field: Float[Tensor, "c lh lw"]) -> Float[Tensor, "c h w"]:
    """From the lattice (or a rectangle of it) to pixels, without the lattice's outermost points."""
    fine = F.interpolate(field[None], scale_factor=CELL, mode="bilinear", align_corners=False)[0]
    return fine[:, CELL:-CELL, CELL:-CELL]


def _compose(
    layers: list[Float[Tensor, "4 _h _w"]],
    regions: list[Region],
    targets: list[Region | None],
    places: Float[Tensor, "layers 2 side side"],
) -> tuple[Float[Tensor, "4 512 512"], list[Float[Tensor, "1 side side"]]]:
    """The moved layers as one picture, and how much each layer fills every cell of the lattice."""
    picture = places.new_zeros(4, IMAGE_SIZE, IMAGE_SIZE)
    filled = []
    for layer, region, target, place in zip(layers, regions, targets, places, strict=True):
        cover = place.new_zeros(1, *place.shape[1:])
        if target is not None:
            top, bottom, left, right = target
            near = place[:, top // CELL : bottom // CELL + 2, left // CELL : right // CELL + 2]
            moved = _sample(layer, region, _upsample(near))
            under = picture[:, top:bottom, left:right]
            under.mul_(1 - moved[3:]).add_(moved)
            cells = slice(top // CELL + 1, bottom // CELL + 1), slice(left // CELL + 1, right // CELL + 1)
            cover[:, cells[0], cells[1]] = F.avg_pool2d(moved[3:], CELL)
        filled.append(cover)
    return picture, filled


def _target(place: Float[Tensor, "2 side side"], region: Region) -> Region | None:
    """The rectangle of the image where a layer can appear: where its flow leads into its own rectangle."""
    top, bottom, left, right = region
    rim = 2 * CELL
    inside = (place[0] > left - rim) & (place[0] < right + rim) & (place[1] > top - rim) & (place[1] < bottom + rim)
    inside = inside[1:-1, 1:-1]
    rows, columns = (torch.nonzero(inside.any(dim)).flatten() for dim in (1, 0))
    if len(rows) == 0:
        return None
    ends = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return Region(*(end * CELL for end in ends))


def _sample(layer: Float[Tensor, "4 _h _w"], region: Region, place: Float[Tensor, "2 h w"]) -> Float[Tensor, "4 h w"]:
    """The layer at the given places (pixels); its rim repeats, which matters only where the image cuts it off."""
    corner = place.new_tensor([region.left, region.top])[:, None, None]
    size = place.new_tensor([region.right - region.left, region.bottom - region.top])[:, None, None]
    grid = ((place - corner) * (2 / size) - 1).permute(1, 2, 0)
    return F.grid_sample(layer[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)[0]


def _blend_flows(
    flows: Float[Tensor, "layers 2 side side"], filled: list[Float[Tensor, "1 side side"]]
) -> Float[Tensor, "2 side side"]:
    """One smooth flow: each layer's where it is seen, mixed softly at the borders, empty space following the head."""
    names = list(MATERIALS)
    shown = torch.ones_like(filled[0])
    weights: list[Tensor] = []
    for cover in reversed(filled):
        weights.insert(0, cover * shown)
        shown = shown * (1 - cover)
    stack = torch.cat(weights)[:, None]
    for _ in range(2):
        stack = F.avg_pool2d(stack, 3, stride=1, padding=1, count_include_pad=False)
    empty = (1 - stack.sum(0)).clamp_min(0) * 0.15 + 1e-4  # the character pulls the space around it along
    space = around_head(flows[names.index("front_hair")], flows[names.index("body")])
    return ((flows * stack).sum(0) + space * empty) / (stack.sum(0) + empty)


def _difference(painted: Float[Tensor, "4 h w"], warped: Float[Tensor, "4 h w"]) -> Float[Tensor, "1 h w"]:
    """1 where the warped image misses the painted one, 0 where they agree, soft in between."""
    apart = (painted - warped).abs().amax(0, keepdim=True)[None] / 2
    need = ((F.max_pool2d(apart, 2) - _AGREE) / (_DIFFER - _AGREE)).clamp(0, 1)
    # widened at half size first, so that the softening leaves every pixel at least what it needs
    return resize(F.max_pool2d(need, 3, 1, 1), *painted.shape[1:])[0]

"""Sampling: endless streams of training batches drawn from target caches, for each student and recipe."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import IterableDataset

from thadistill.data.error_map import REFRESH, ErrorMap
from thadistill.data.low_variance import shuffled_epochs, systematic_sample_by_pose, z_order
from thadistill.data.target_cache import Targets
from thadistill.errors import UserError
from thadistill.images import FACE_REGION, IMAGE_SIZE, STUDENT_FACE_REGION
from thadistill.outputs import VISIBLE
from thadistill.pose import POSE_PARAMETERS
from thadistill.student.face_morpher import FACE_SIZE
from thadistill.warp import position_grid

_SEEN_IN = 256  # poses that tell where a character is ever seen


class FaceBatch(NamedTuple):
    """p pixels of the face crop for each of n poses."""

    pose: Float[Tensor, "n 39"]
    position: Float[Tensor, "n p 2"]
    target: Float[Tensor, "n p 4"]
    mask: Float[Tensor, "n p"]


class BodyBatch(NamedTuple):
    """n patches of the image, n/b in a row for each of b poses; a whole image is the patch of side 512 at (0, 0).

    The faces are all m of the targets, and the same tensor in every batch: copying those of a batch's poses would take a
    fifth of its step.
    """

    corner: Int[Tensor, "n 2"]  # top, left; first, since patches are what budgets count
    pose: Float[Tensor, "b 45"]
    posed: Float[Tensor, "n 4 p p"]
    grid_change: Float[Tensor, "n 2 p p"]
    faces: Float[Tensor, "m 4 192 192"]  # float16
    face_index: Int[Tensor, " n"]  # which of them each patch has


class FacePixels(IterableDataset[FaceBatch]):
    """Random pixels of random poses.

    Args:
        targets: face targets.
        mask: the face mask on the crop.
        batch_size: poses per batch. pixels: pixels per pose; None takes all 16,384, as the paper does.
        mask_weight: of the loss. Pixels are drawn in proportion to 1 + mask_weight * mask and then all weigh the same:
            importance sampling, by which the expected loss is the paper's, with less noise, where ``error_share`` is 0.
        error_share: of the pixels, drawn in proportion to the above times the error that ``error_map`` has there; 0
            ignores it, as the paper does. Nothing is weighed back, so the expected loss is then another: it counts a pixel
            the more the worse the student is there.
        seed, start: of the random numbers; another ``start`` gives other batches, one for each rank and continued step.
        also: posed targets, whose faces are drawn from as well; one that poses share counts once.
        error_map: where the student errs; the module that trains on the pixels fills it.
    """

    def __init__(
        self,
        targets: Targets,
        mask: Float[Tensor, "1 128 128"],
        batch_size: int = 16,
        pixels: int | None = 2048,
        mask_weight: float = 20.0,
        error_share: float = 0.0,
        seed: int = 0,
        start: int = 0,
        also: Targets | None = None,
        error_map: ErrorMap | None = None,
    ) -> None:
        self.batch_size, self.pixels = batch_size, pixels
        self.mask = mask.flatten()
        self.probability = 1 + mask_weight * self.mask if pixels is not None else None
        self.order = z_order(FACE_SIZE)
        self.position = position_grid(FACE_SIZE, FACE_SIZE).flatten(1).T.contiguous()
        self.error_share, self.error_map = error_share, error_map
        self.seed, self.start = seed, start
        poses = targets.pose if also is None else torch.cat([targets.pose, also.pose[also.first_of]])
        self.pose = poses[:, POSE_PARAMETERS.facial].contiguous()
        # 131 KB a pose, read in random order
        self.faces = torch.empty(len(poses), FACE_SIZE**2, 4, dtype=torch.float16, device=poses.device)
        for index in range(len(targets)):
            self.faces[index] = targets.get("face", index).flatten(1).T
        if also is not None:
            for number, index in enumerate(also.first_of, len(targets)):
                self.faces[number] = _student_face(also.get("face_region", index)).flatten(1).T

    def __iter__(self) -> Iterator[FaceBatch]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.start)
        probability = self.probability
        drawn = shuffled_epochs(lambda: len(self.pose), self.batch_size, generator)
        for number, index in enumerate(drawn):
            pose = self.pose[index]
            if self.pixels is None or probability is None or self.probability is None:
                n = self.batch_size
                yield FaceBatch(
                    pose, self.position.expand(n, -1, -1), self.faces[index].float(), self.mask.expand(n, -1)
                )
                continue
            if self.error_map is not None and number % REFRESH == 0:
                probability = self.error_map.weigh(self.probability, self.error_share)
            pixel = systematic_sample_by_pose(probability, self.order, self.batch_size, self.pixels, generator)
            pixel = pixel.view(-1, self.pixels)
            target = self.faces[index[:, None], pixel].float()
            # drawn by the weights already: equal weights from here on
            yield FaceBatch(pose, self.position[pixel], target, torch.zeros_like(pixel, dtype=torch.float32))


def _student_face(region: Float[Tensor, "4 192 192"]) -> Float[Tensor, "4 128 128"]:
    """The student's crop out of the face-morphed region that posed targets hold."""
    top, left = STUDENT_FACE_REGION.top - FACE_REGION.top, STUDENT_FACE_REGION.left - FACE_REGION.left
    return region[:, top : top + FACE_SIZE, left : left + FACE_SIZE]


class BodyPatches(IterableDataset[BodyBatch]):
    """Random patches of random poses.

    Args:
        targets: posed targets.
        batch_size: poses a batch. patches: patches of each pose.
        size: side in pixels; 512 gives whole images, as the paper trains on. Small patches cost more a pixel, for the
            borders of the coarse levels, but show many more poses and places a step: neighbours err alike.
        overhang: corners are multiples of 4 less this many pixels, and the outermost patches reach over the edges by as
            many, where the border pixel repeats. Patches of 6 at 1 ask for as few coarse pixels as patches of 4 at 0, 9 and
            16 of the two levels; patches of 2 at 1 for 4 of either.
        visible_share: the share of patches drawn where the character is ever seen, in proportion to how much of the patch
            that is; the others fall anywhere, so that the background is learned as well.
        error_share: of the patches, drawn in proportion to the above times the error that ``error_map`` has there; 0 ignores
            it, as the paper does. Nothing is weighed back, neither this nor ``visible_share``: the expected loss counts a
            place the more the worse the student is there, the paper's counts all pixels alike.
        seed, start: as for :class:`FacePixels`.
        error_map: where the student errs; the module that trains on the patches fills it.
        most: poses to grow to, where another process adds to the targets meanwhile; 0: none does.

    Raises: UserError when ``overhang`` is not 0 or more, and less than a stride and than the patch.
    """

    STRIDE = 4  # corners are multiples of it less the overhang: every level's pixels line up

    def __init__(
        self,
        targets: Targets,
        batch_size: int = 8,
        patches: int = 1,
        size: int = 64,
        overhang: int = 0,
        visible_share: float = 0.9,
        error_share: float = 0.0,
        seed: int = 0,
        start: int = 0,
        error_map: ErrorMap | None = None,
        most: int = 0,
    ) -> None:
        self.targets, self.batch_size, self.patches, self.size = targets, batch_size, patches, size
        self.overhang, self.visible_share, self.most = overhang, visible_share, most
        self.error_share, self.error_map = error_share, error_map
        self.seed, self.start = seed, start
        if not 0 <= overhang < min(self.STRIDE, size):
            raise UserError(
                f"BodyPatches: overhang={overhang}, size={size}; expected 0 to {min(self.STRIDE, size) - 1}"
            )
        # one for each block of the error map
        self.places = min((IMAGE_SIZE + 2 * overhang - size) // self.STRIDE + 1, IMAGE_SIZE // self.STRIDE)
        self.order = z_order(self.places)
        self.seen = torch.zeros(IMAGE_SIZE // self.STRIDE, IMAGE_SIZE // self.STRIDE, dtype=torch.bool)
        self.probability = self._place_probability(range(len(targets)))

    def _place_probability(self, new: range) -> Tensor:
        if self.places == 1:
            return torch.ones(1)
        self.seen |= visible_map(self.targets, [index for index in new if index < _SEEN_IN])
        pixels = F.interpolate(self.seen[None, None].float(), size=IMAGE_SIZE)
        pixels = F.pad(pixels, [self.overhang] * 4, mode="replicate")
        cover = F.avg_pool2d(pixels, self.size, stride=self.STRIDE)[0, 0, : self.places, : self.places].flatten()
        return self.visible_share * cover / cover.sum() + (1 - self.visible_share) / len(cover)

    def _grow(self) -> None:
        before = len(self.targets)
        if self.targets.grow(self.most):
            self.probability = self._place_probability(range(before, len(self.targets)))

    def __iter__(self) -> Iterator[BodyBatch]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.start)
        probability = self.probability
        drawn = shuffled_epochs(lambda: len(self.targets), self.batch_size, generator)
        for number in itertools.count():
            if number % REFRESH == 0:
                self._grow()
                probability = self.probability
                if self.error_map is not None and self.places > 1:
                    probability = self.error_map.weigh(self.probability, self.error_share)
            index = next(drawn)
            place = systematic_sample_by_pose(probability, self.order, self.batch_size, self.patches, generator)
            corner = torch.stack([place // self.places, place % self.places], dim=1) * self.STRIDE
            corner -= self.overhang
            yield body_batch(self.targets, index, corner, self.size)


def body_batch(targets: Targets, index: Int[Tensor, " m"], corner: Int[Tensor, "n 2"], size: int) -> BodyBatch:
    """Cuts the patches at ``corner`` out of the targets of the poses ``index``, n/m in a row for each."""
    each = index.repeat_interleave(len(corner) // len(index))
    return BodyBatch(
        corner,
        targets.pose[index],
        targets.patches("posed", each, corner, size),
        targets.patches("grid_change", each, corner, size),
        targets.faces,
        targets.face_of[each],
    )


def visible_map(targets: Targets, poses: Iterable[int]) -> Bool[Tensor, "128 128"]:
    """Which 4x4 blocks of the image are not transparent in at least one of the ``poses``, by number."""
    stride = BodyPatches.STRIDE
    seen = torch.zeros(IMAGE_SIZE // stride, IMAGE_SIZE // stride, dtype=torch.bool)
    for index in poses:
        alpha = targets.get("posed", index)[3:]
        seen |= (F.max_pool2d(alpha[None], stride)[0, 0] > VISIBLE).cpu()
    return seen

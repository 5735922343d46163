"""Runtime: what every fast form of a character model shares: the call, 8-bit frames, the crop, what is not redone."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from thadistill.errors import UserError
from thadistill.images import IMAGE_SIZE, Region, to_rgba8
from thadistill.outputs import StudentOutput
from thadistill.pose import PoseLike, as_poses, check_finite
from thadistill.runtime.pixels import to_pixels
from thadistill.student import CharacterModel

Value = TypeVar("Value")
WHOLE = Region(0, IMAGE_SIZE, 0, IMAGE_SIZE)


def check_crop(crop: Region | tuple[int, int, int, int] | None) -> Region:
    """The crop as a region (top, bottom, left, right); None is the whole image.

    Raises: UserError when it is empty or leaves the image.
    """
    region = WHOLE if crop is None else Region(*crop)
    if not (0 <= region.top < region.bottom <= IMAGE_SIZE and 0 <= region.left < region.right <= IMAGE_SIZE):
        raise UserError(f"crop {tuple(region)} is empty or outside; expected top bottom left right in 0..{IMAGE_SIZE}")
    return region


class Runtime(nn.Module):
    """One character model in a form for frames: ``fast(pose)`` -> StudentOutput, ``fast.rgba8(pose)`` -> pixels.

    Args:
        model: the character model; the runtime keeps a copy of its weights as they are now.
        crop: compute and show only this rectangle; None is the whole image.
        reuse: answer a pose equal to the last one with the last frame, and keep the face while its 39 values stand.

    Poses are tensors, arrays or lists of any precision, one [45] or several [n, 45]; another width, and values that are not
    finite, are refused (UserError). Frames carry no gradients. A frame's tensors are shared with the next equal one: don't
    write into them.
    """

    name = "runtime"

    def __init__(self, model: CharacterModel, crop: Region | tuple[int, ...] | None = None, reuse: bool = True) -> None:
        super().__init__()
        self.crop = check_crop(crop)  # type: ignore[arg-type]
        self.reuse = reuse
        self.device = model.image.device
        self._last: dict[str, tuple[Tensor, object]] = {}
        self._given = torch.zeros(0, device=self.device)  # poses are taken to its precision and place

    @torch.no_grad()
    def forward(self, pose: PoseLike) -> StudentOutput:
        """The poses' frames, every plane 512x512; what the crop or the visible region leaves out is transparent."""
        poses = self._checked(pose)
        kept = self._kept("planes", poses)
        return kept if isinstance(kept, StudentOutput) else self._keep("planes", poses, self._planes(poses))

    def rgba8(self, pose: PoseLike) -> UInt8[np.ndarray, "h w 4"]:
        """One pose's frame (the crop) as straight 8-bit sRGB RGBA."""
        return self._eight_bit(pose, bgra=False)

    def bgra8(self, pose: PoseLike) -> UInt8[np.ndarray, "h w 4"]:
        """One pose's frame (the crop) as straight 8-bit sRGB BGRA."""
        return self._eight_bit(pose, bgra=True)

    @torch.no_grad()
    def _eight_bit(self, pose: PoseLike, bgra: bool) -> np.ndarray:
        one = self._checked(pose)
        if len(one) != 1:
            raise UserError(f"{len(one)} poses; expected one: call it once per pose")
        kind = "bgra" if bgra else "rgba"
        kept = self._kept(kind, one)
        pixels = kept if isinstance(kept, np.ndarray) else self._keep(kind, one, self._pixels(one, bgra))
        return pixels.copy() if self.reuse else pixels  # a caller may draw into its frame

    def _checked(self, pose: PoseLike) -> Float[Tensor, "n 45"]:
        return check_finite(as_poses(pose, self._given))

    def _kept(self, kind: str, pose: Tensor) -> object:
        if self.reuse and kind in self._last and torch.equal(self._last[kind][0], pose):
            return self._last[kind][1]
        return None

    def _keep(self, kind: str, pose: Tensor, value: Value) -> Value:
        if self.reuse:
            self._last[kind] = (pose.clone(), value)
        return value

    def _planes(self, pose: Tensor) -> StudentOutput:
        raise NotImplementedError

    def _pixels(self, pose: Tensor, bgra: bool) -> np.ndarray:
        return to_pixels(self.crop.crop(self._planes(pose).posed[0]), bgra)


class Eager(Runtime):
    """The reference: the published network layer by layer, and the plain conversion; speeds are measured against it."""

    name = "eager"

    def __init__(self, model: CharacterModel, crop: Region | tuple[int, ...] | None = None, reuse: bool = True) -> None:
        super().__init__(model, crop, reuse)
        self.model = model

    def _planes(self, pose: Tensor) -> StudentOutput:
        return self.model(pose)

    def _pixels(self, pose: Tensor, bgra: bool) -> np.ndarray:
        rgba = to_rgba8(self.crop.crop(self._planes(pose).posed[0]))
        return np.ascontiguousarray(rgba[..., [2, 1, 0, 3]]) if bgra else rgba

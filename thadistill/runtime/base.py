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
from thadistill.pose import POSE_SIZE
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

    Frames carry no gradients. A frame's tensors are shared with the next equal one: don't write into them.
    """

    name = "runtime"

    def __init__(self, model: CharacterModel, crop: Region | tuple[int, ...] | None = None, reuse: bool = True) -> None:
        super().__init__()
        self.crop = check_crop(crop)  # type: ignore[arg-type]
        self.reuse = reuse
        self.device = model.image.device
        self._last: dict[str, tuple[Tensor, object]] = {}

    @torch.no_grad()
    def forward(self, pose: Float[Tensor, "n 45"]) -> StudentOutput:
        """The poses' frames, every plane 512x512; what the crop or the visible region leaves out is transparent."""
        kept = self._kept("planes", pose)
        return kept if isinstance(kept, StudentOutput) else self._keep("planes", pose, self._planes(pose))

    def rgba8(self, pose: Float[Tensor, "*n 45"]) -> UInt8[np.ndarray, "h w 4"]:
        """One pose's frame (the crop) as straight 8-bit sRGB RGBA."""
        return self._eight_bit(pose, bgra=False)

    def bgra8(self, pose: Float[Tensor, "*n 45"]) -> UInt8[np.ndarray, "h w 4"]:
        """One pose's frame (the crop) as straight 8-bit sRGB BGRA."""
        return self._eight_bit(pose, bgra=True)

    @torch.no_grad()
    def _eight_bit(self, pose: Tensor, bgra: bool) -> np.ndarray:
        if pose.numel() != POSE_SIZE:
            raise UserError(f"{pose.numel() // POSE_SIZE} poses; expected one: call it once per pose")
        one = pose.reshape(1, POSE_SIZE)
        kind = "bgra" if bgra else "rgba"
        kept = self._kept(kind, one)
        pixels = kept if isinstance(kept, np.ndarray) else self._keep(kind, one, self._pixels(one, bgra))
        return pixels.copy() if self.reuse else pixels  # a caller may draw into its frame

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

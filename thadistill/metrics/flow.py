"""Flow metric: a student's grid change against its teacher's, in pixels."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from thadistill.errors import UserError

VISIBLE_ALPHA = 0.5 / 255  # below it an 8-bit PNG stores 0


def grid_change_epe_px(
    student: Float[Tensor, "n 2 h w"], teacher: Float[Tensor, "n 2 h w"], mask: Bool[Tensor, "n 1 h w"] | None = None
) -> Float[Tensor, " n"]:
    """End-point error of the grid change: the mean length in pixels of the difference of the two offsets, per image.

    Offsets are in units of half the image (2 spans it), so a pixel is 2/size of them: 256 pixels a unit at 512. The
    mean is over all pixels, or over those of ``mask`` (``visible_pixels`` of the teacher's posed image, say: where
    nothing shows, a wrong offset does no harm).

    Raises: UserError when ``mask`` leaves an image without a pixel.
    """
    height, width = student.shape[-2:]
    difference = student.float() - teacher.float()
    error = (difference * difference.new_tensor([width / 2, height / 2]).view(2, 1, 1)).square().sum(dim=1).sqrt()
    if mask is None:
        return error.mean(dim=(1, 2))
    pixels = mask[:, 0].sum(dim=(1, 2))
    if bool((pixels == 0).any()):
        raise UserError("the mask leaves an image without a pixel; expected at least one: leave the mask out")
    return (error * mask[:, 0]).sum(dim=(1, 2)) / pixels


def visible_pixels(image: Float[Tensor, "n 4 h w"]) -> Bool[Tensor, "n 1 h w"]:
    """Where an image in network space shows anything at all: alpha above 0 once stored in 8 bits."""
    return (image[:, 3:] + 1) / 2 > VISIBLE_ALPHA

"""Image metrics: a student's picture against its teacher's, one value per image.

Every function takes images in network space (linear premultiplied RGBA in [-1, 1]) and returns one value for each; the
mean over images is the caller's, so that "PSNR of a student" is the mean of per-image PSNR, as in the paper (THA4,
section 6). Two colour spaces, by name: ``psnr`` is network space, ``psnr_display`` and ``ssim`` are what a viewer sees,
composited on white in sRGB.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.errors import UserError
from thadistill.images import STUDENT_FACE_REGION, over_white

PSNR_CAP_DB = 100.0  # identical images would be infinite, and so would any mean over them

# SSIM as Wang et al. 2004 published it
SSIM_RADIUS = 5  # 11 taps
SSIM_SIGMA = 1.5
SSIM_C1 = 0.01**2
SSIM_C2 = 0.03**2


def psnr(student: Float[Tensor, "n 4 h w"], teacher: Float[Tensor, "n 4 h w"]) -> Float[Tensor, " n"]:
    """PSNR in dB in network space: four channels, both images clipped to [-1, 1], data range 2; at most 100."""
    return _decibels(_squared_error(student, teacher).mean(dim=(1, 2, 3)), data_range=2.0)


def psnr_display(student: Float[Tensor, "n 4 h w"], teacher: Float[Tensor, "n 4 h w"]) -> Float[Tensor, " n"]:
    """PSNR in dB of what a viewer sees: composited on white in sRGB, three channels, data range 1; at most 100."""
    error = (over_white(student.float()) - over_white(teacher.float())).square()
    return _decibels(error.mean(dim=(1, 2, 3)), data_range=1.0)


def masked_psnr(
    student: Float[Tensor, "n 4 h w"], teacher: Float[Tensor, "n 4 h w"], mask: Float[Tensor, "1 h w"]
) -> Float[Tensor, " n"]:
    """``psnr`` whose mean squared error is over the pixels where ``mask`` > 0.5 only (all four channels).

    Raises: UserError when no pixel of the mask exceeds 0.5.
    """
    chosen = (mask > 0.5).float()
    pixels = chosen.sum()
    if pixels == 0:
        raise UserError(
            f"the mask's largest value is {float(mask.max()):.3g}; expected some pixel above 0.5: "
            "paint white where the face moves"
        )
    error = (_squared_error(student, teacher) * chosen).sum(dim=(1, 2, 3)) / (pixels * student.shape[1])
    return _decibels(error, data_range=2.0)


def face_psnr(face: Float[Tensor, "n 4 128 128"], face_morphed: Float[Tensor, "n 4 512 512"]) -> Float[Tensor, " n"]:
    """``psnr`` of the student's face crop against the same crop of the teacher's face-morphed image.

    On the face morpher's own output, before the head moves: the crop holds the same pixels of the face in every pose.
    """
    return psnr(face, STUDENT_FACE_REGION.crop(face_morphed))


def eye_mouth_psnr(
    face: Float[Tensor, "n 4 128 128"],
    face_morphed: Float[Tensor, "n 4 512 512"],
    face_mask: Float[Tensor, "1 512 512"],
) -> Float[Tensor, " n"]:
    """``face_psnr`` over the pixels of the face mask (eyes and mouth, where smearing shows) only.

    Raises: UserError when the mask is nowhere above 0.5 inside the student's face crop.
    """
    return masked_psnr(face, STUDENT_FACE_REGION.crop(face_morphed), STUDENT_FACE_REGION.crop(face_mask))


def ssim(student: Float[Tensor, "n 4 h w"], teacher: Float[Tensor, "n 4 h w"]) -> Float[Tensor, " n"]:
    """SSIM of what a viewer sees: composited on white in sRGB, data range 1.

    Gaussian window of 11 taps and sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance; the mean over the three
    channels and the windows wholly inside the image (Wang et al. 2004, as in scikit-image; torchmetrics
    averages over reflected borders too).

    Raises: UserError when the images are smaller than the window.
    """
    window = 2 * SSIM_RADIUS + 1
    height, width = student.shape[-2:]
    if min(height, width) < window:
        raise UserError(
            f"SSIM was given {width}x{height} images; expected {window}x{window} or larger: use whole images"
        )
    # Variances don't change with an offset; around 0 they lose fewer digits where the picture is white.
    x, y = over_white(student.float()) - 0.5, over_white(teacher.float()) - 0.5
    mean_x, mean_y = _gaussian(x), _gaussian(y)
    variances = _gaussian(x * x + y * y) - mean_x.square() - mean_y.square()
    covariance = _gaussian(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + 0.5, mean_y + 0.5
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x.square() + mean_y.square() + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (variances + SSIM_C2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _squared_error(student: Float[Tensor, "n 4 h w"], teacher: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n 4 h w"]:
    return (student.float().clamp(-1, 1) - teacher.float().clamp(-1, 1)).square()


def _decibels(error: Float[Tensor, " n"], data_range: float) -> Float[Tensor, " n"]:
    # clamp keeps NaN: a student that diverged must not score the cap
    return (10 * torch.log10(data_range**2 / error)).clamp(max=PSNR_CAP_DB)


def _gaussian(image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c _h _w"]:
    """Gaussian means of the windows wholly inside the image, one axis after the other.

    Sums of shifted slices rather than a convolution, which GPUs may run in TF32: 10 bits are too few for variances.
    """
    offsets = range(-SSIM_RADIUS, SSIM_RADIUS + 1)
    weights = [math.exp(-(offset**2) / (2 * SSIM_SIGMA**2)) for offset in offsets]
    total = sum(weights)
    for axis in (-2, -1):
        size = image.shape[axis] - 2 * SSIM_RADIUS
        mean = image.narrow(axis, 0, size) * (weights[0] / total)
        for start, weight in enumerate(weights[1:], start=1):
            mean.add_(image.narrow(axis, start, size), alpha=weight / total)
        image = mean
    return image

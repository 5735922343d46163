"""Image metrics against scikit-image and torchmetrics, on composites made by Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import (
    peak_signal_noise_ratio as torchmetrics_psnr,
)
from torchmetrics.functional.image import (
    structural_similarity_index_measure as torchmetrics_ssim,
)

from thadistill.errors import UserError
from thadistill.images import encode_rgba, over_white, to_pil
from thadistill.metrics.image import (
    eye_mouth_psnr,
    face_psnr,
    masked_psnr,
    psnr,
    psnr_display,
    ssim,
)

from .pictures import pictures


def hwc(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).double().numpy()


@pytest.mark.parametrize("noise", [0.003, 0.1, 1.0])
def test_psnr_is_that_of_scikit_image_and_torchmetrics_on_clipped_images(noise):
    student, teacher = pictures(3, 40, noise)
    clipped = student.clamp(-1, 1)
    assert (clipped != student).any()
    ours = psnr(student, teacher)
    for i in range(3):
        other = peak_signal_noise_ratio(hwc(teacher[i]), hwc(clipped[i]), data_range=2)
        assert float(ours[i]) == pytest.approx(other, abs=1e-4)  # float32 mean
    other = torchmetrics_psnr(clipped, teacher, data_range=2.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(ours, other, atol=1e-4, rtol=0)


def test_psnr_closed_form():
    teacher = torch.zeros(1, 4, 8, 8)
    assert float(psnr(teacher + 0.2, teacher)) == pytest.approx(20.0, abs=1e-4)  # 10 log10(4 / 0.04)
    teacher[:, :3] = -1  # one channel of four is off by 1
    assert float(psnr(torch.full_like(teacher, -1.0), teacher)) == pytest.approx(10 * np.log10(16), abs=1e-4)


def test_identical_images_are_capped_and_diverged_ones_are_not():
    _, teacher = pictures(2, 16, 0)
    for metric in (psnr, psnr_display):
        assert metric(teacher, teacher).tolist() == [100, 100]
        assert metric(torch.full_like(teacher, torch.nan), teacher).isnan().all()
    assert psnr(torch.full_like(teacher, torch.inf), teacher).isfinite().all()  # clipped


def test_psnr_display_is_that_of_pillow_composites():
    """Pictures stored as 8-bit PNGs and composited by Pillow, so that only the definition is shared."""
    random = np.random.default_rng(0)
    rgba = random.integers(0, 256, (2, 32, 32, 4), dtype=np.uint8)
    rgba[:, :8, :, 3] = 0
    images = [encode_rgba(picture)[None] for picture in rgba]
    white = Image.new("RGBA", (32, 32), (255, 255, 255, 255))
    shown = [np.asarray(Image.alpha_composite(white, to_pil(image[0])).convert("RGB")) / 255 for image in images]
    expected = peak_signal_noise_ratio(shown[0], shown[1], data_range=1)
    # Pillow rounds composites to 8 bits
    assert float(psnr_display(images[1], images[0])) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("size", "noise"), [(11, 0.05), (40, 0.05), (64, 0.5), (64, 0.001)])
def test_ssim_is_that_of_scikit_image(size, noise):
    student, teacher = pictures(3, size, noise)
    ours = ssim(student, teacher)
    for i, (x, y) in enumerate(zip(over_white(student), over_white(teacher), strict=True)):
        settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        other = structural_similarity(hwc(x), hwc(y), channel_axis=-1, data_range=1, **settings)
        assert float(ours[i]) == pytest.approx(other, abs=2e-5)  # float32 variances
    if size > 11:  # torchmetrics averages over reflected borders too, hence its full map, cropped
        shown = over_white(student), over_white(teacher)
        _, full = torchmetrics_ssim(*shown, data_range=1.0, reduction="none", return_full_image=True)
        other = full[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))
        torch.testing.assert_close(ours, other, atol=1e-4, rtol=0)  # its variances are not centred


def test_ssim_of_equal_images_is_one_and_of_tiny_ones_an_error():
    _, teacher = pictures(2, 32, 0)
    torch.testing.assert_close(ssim(teacher, teacher), torch.ones(2), atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="10x10"):
        ssim(torch.zeros(1, 4, 10, 10), torch.zeros(1, 4, 10, 10))


def test_masked_psnr_looks_at_the_mask_only():
    student, teacher = pictures(2, 24, 0.1)
    mask = torch.zeros(1, 24, 24)
    mask[:, 3:9, 5:20] = 1
    mask[:, 9:12, 5:20] = 0.5  # not above
    cut = np.s_[3:9, 5:20]
    for i, value in enumerate(masked_psnr(student, teacher, mask)):
        pair = hwc(teacher[i])[cut], hwc(student[i].clamp(-1, 1))[cut]
        assert float(value) == pytest.approx(peak_signal_noise_ratio(*pair, data_range=2), abs=1e-4)
    spoilt = torch.where(mask > 0.5, student, torch.ones(()))
    torch.testing.assert_close(masked_psnr(spoilt, teacher, mask), masked_psnr(student, teacher, mask))
    with pytest.raises(UserError, match=r"above 0\.5"):
        masked_psnr(student, teacher, torch.full((1, 24, 24), 0.5))


def test_face_metrics_compare_the_students_crop(face_mask):
    _, face_morphed = pictures(1, 512, 0)
    face = face_morphed[:, :, 80:208, 192:320].clone()
    assert float(face_psnr(face, face_morphed)) == 100
    face[:, :, 45, 30] = -face[:, :, 45, 30]  # an eye's pixel: 125, 222 of the whole image
    assert float(face_psnr(face, face_morphed)) > float(eye_mouth_psnr(face, face_morphed, face_mask))
    face = face_morphed[:, :, 80:208, 192:320].clone()
    face[:, :, 0, 0] = -1 - face[:, :, 0, 0]  # outside the mask
    assert float(eye_mouth_psnr(face, face_morphed, face_mask)) == 100
    assert float(face_psnr(face, face_morphed)) < 100


def test_wrong_shapes_are_refused():
    with pytest.raises(Exception, match="student"):
        psnr(torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 8, 8))
    with pytest.raises(Exception, match="teacher"):
        ssim(torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 16, 8))

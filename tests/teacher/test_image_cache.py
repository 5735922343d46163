"""What a teacher keeps for an image: kept while nothing changed, never stale."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from thadistill.teacher.image_cache import ImageCache


class Counted:
    """A function of an image and a weight that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.cache: ImageCache[Tensor] = ImageCache()
        self.weight = torch.ones(3)

    def __call__(self, image: Tensor, training: bool = False) -> Tensor:
        def compute() -> Tensor:
            self.calls += 1
            return image.sum() * self.weight

        return self.cache.get(image, [self.weight], compute, training=training)


def test_computes_once_for_the_same_image() -> None:
    counted, image = Counted(), torch.rand(1, 4, 8, 8)
    first = counted(image)
    assert counted(image) is first
    assert counted.calls == 1


def test_a_new_view_of_the_same_memory_is_the_same_image() -> None:
    counted, image = Counted(), torch.rand(4, 8, 8)
    counted(image[None])
    counted(image[None])
    assert counted.calls == 1


@pytest.mark.parametrize("where", ["image", "view", "weight"])
def test_a_change_in_place_is_seen(where: str) -> None:
    counted, image = Counted(), torch.rand(1, 4, 8, 8)
    counted(image)
    changed = {"image": image, "view": image[:, :1], "weight": counted.weight}[where]
    changed.mul_(2)
    torch.testing.assert_close(counted(image), image.sum() * counted.weight)
    assert counted.calls == 2


def test_another_image_is_not_taken_for_the_first_even_at_its_address() -> None:
    counted = Counted()
    for _ in range(20):  # freed memory is given out again at once
        image = torch.rand(1, 4, 8, 8)
        torch.testing.assert_close(counted(image), image.sum() * counted.weight)
        del image


def test_another_part_of_the_same_memory_is_another_image() -> None:
    counted, images = Counted(), torch.rand(2, 4, 8, 8)
    assert not torch.equal(counted(images[:1]), counted(images[1:]))


def test_nothing_is_kept_for_images_without_a_version_counter() -> None:
    counted = Counted()
    with torch.inference_mode():
        image = torch.rand(1, 4, 8, 8)
        counted(image)
        image.mul_(2)
        torch.testing.assert_close(counted(image), image.sum() * counted.weight)
    assert counted.calls == 2


def test_a_result_of_inference_mode_does_not_leak_out_of_it() -> None:
    counted, image = Counted(), torch.rand(1, 4, 8, 8)
    with torch.inference_mode():
        assert counted(image).is_inference()
    assert not counted(image).is_inference()


def test_nothing_is_kept_in_training() -> None:
    counted, image = Counted(), torch.rand(1, 4, 8, 8)
    counted(image, training=True)
    counted(image, training=True)
    assert counted.calls == 2


def test_copies_start_empty() -> None:
    counted, image = Counted(), torch.rand(1, 4, 8, 8)
    counted(image)
    for twin in (copy.deepcopy(counted.cache), pickle.loads(pickle.dumps(counted.cache))):
        counted.cache = twin
        counted(image)
    assert counted.calls == 3

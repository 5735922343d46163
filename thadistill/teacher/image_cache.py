"""Image cache: keeps what depends on the character image alone while the image stays the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class ImageCache(Generic[T]):
    """The last result of a function of an image, recomputed when the image or the weights change.

    "The same" means: the same memory, shape and version counter, so that no frame waits for the device (the published
    code compares pixels, and blocks). A write that torch does not count (through ``.data`` or a numpy view) goes
    unseen; a tensor made under ``torch.inference_mode`` has no counter, so nothing is kept for it. A result that is
    part of an autograd graph is not kept either.
    """

    def __init__(self) -> None:
        self._image: Tensor | None = None  # held, so that its memory is not reused by another image
        self._key: tuple[object, ...] | None = None
        self._value: T | None = None

    def get(self, image: Tensor, weights: Iterable[Tensor], compute: Callable[[], T], *, training: bool) -> T:
        """The kept result if nothing changed, else ``compute()``."""
        key = None if training else _key(image, weights)
        if key is None:
            self.clear()
            return compute()
        if key != self._key or self._value is None:
            self._value = compute()
            self._key, self._image = key, image
        return self._value

    def clear(self) -> None:
        """Forgets the image and the result."""
        self._image = self._key = self._value = None

    def __deepcopy__(self, memo: dict[int, object]) -> ImageCache[T]:
        return ImageCache()

    def __reduce__(self) -> tuple[type[ImageCache[T]], tuple[()]]:
        return ImageCache, ()


def _key(image: Tensor, weights: Iterable[Tensor]) -> tuple[object, ...] | None:
    if image.is_inference() or image.requires_grad:
        return None
    versions = 0
    for weight in weights:
        if weight.is_inference():
            return None
        versions += weight._version
    layout = (image.data_ptr(), image.shape, image.stride(), image.dtype, image.device)
    # a result made in inference mode cannot take part in a later graph, so the mode belongs to the key
    return (*layout, image._version, versions, torch.is_inference_mode_enabled())

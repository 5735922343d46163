"""Teacher: what every teacher is, whatever makes its pictures: image and pose in, named outputs out."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thadistill.errors import UserError
from thadistill.outputs import TeacherOutput
from thadistill.pose import as_poses


class Teacher(nn.Module):
    """A function of a character image and a pose: ``teacher(image, pose)``.

    Poses may be a tensor, array or list of any precision, one [45] or several [n, 45]; another width is refused
    (UserError). ``name`` says which one ("tha3/separable_float"); ``alpha_channels`` is 4 for THA3 and 1 for the others.
    """

    name: str
    alpha_channels: int

    def __init__(self, name: str, alpha_channels: int) -> None:
        super().__init__()
        self.name = name
        self.alpha_channels = alpha_channels
        self.register_forward_pre_hook(_with_poses, with_kwargs=True)

    @abstractmethod
    def forward(self, image: Float[Tensor, "b 4 512 512"], pose: Float[Tensor, "n 45"]) -> TeacherOutput:
        """Poses ``image`` (one for all poses, b = 1, or one each, b = n); images are in network space.

        Raises: UserError when b is neither 1 nor n.
        """

    @abstractmethod
    def stages(self, image: Float[Tensor, "b 4 512 512"], pose: Float[Tensor, "n 45"]) -> dict[str, Tensor]:
        """Every intermediate by name, ``n`` of each, for inspection and for tests."""

    @abstractmethod
    def face_morphed(
        self, image: Float[Tensor, "b 4 512 512"], pose: Float[Tensor, "n 45"]
    ) -> Float[Tensor, "n 4 512 512"]:
        """The image with eyebrows, eyes and mouth posed, not rotated; runs no more than that needs."""

    @contextmanager
    def low_precision(self) -> Iterator[None]:
        """Within it the teacher may round its products to what the processor multiplies fastest, for targets to train on.

        Its fingerprint says so where it does. A teacher with nothing to round is as it is.
        """
        yield

    @property
    def size_mb(self) -> dict[str, float]:
        """Each network's parameters in megabytes (10^6 bytes), as they are held now."""
        return {
            name: sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values()) / 1e6
            for name, network in self.named_children()
        }

    def fingerprint(self) -> str:
        """sha256 over the name and every tensor (name, precision, shape, bytes): what a target cache is keyed by."""
        digest = hashlib.sha256(self.name.encode())
        for key, tensor in sorted(self.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def _with_poses(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments with its poses as networks take them."""
    image = named["image"] if "image" in named else given[0]
    if "pose" in named:
        return given, named | {"pose": as_poses(named["pose"], image)}
    return (given[0], as_poses(given[1], image), *given[2:]), named


def check_batch(image: Tensor, pose: Tensor) -> None:
    """Refuses an image batch that is neither one image nor one per pose.

    Raises: UserError.
    """
    if image.shape[0] not in (1, pose.shape[0]):
        raise UserError(
            f"{image.shape[0]} images came with {pose.shape[0]} poses; expected one image, or one for each pose"
        )

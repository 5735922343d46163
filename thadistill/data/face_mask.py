"""Face mask: where facial poses change the picture, computed from the teacher so that nobody has to paint it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from thadistill.data.character import Character
from thadistill.data.poses import PoseSequence
from thadistill.data.target_builder import build_targets, open_cache
from thadistill.data.target_cache import Targets
from thadistill.images import STUDENT_FACE_REGION
from thadistill.teacher import Teacher

# Share of the [-1, 1] range by which a pixel has to move. Eyelids and brows move by 0.2 and more; the teacher's own
# trembling over the rest of the face stays below 0.05.
THRESHOLD = 0.1
MARGIN = 3  # pixels around the change, so that its edge is learned as sharply as its middle


def face_mask_from_targets(
    targets: Targets, image: Float[Tensor, "4 512 512"], most: int = 128
) -> Float[Tensor, "1 512 512"]:
    """White where any of the first ``most`` facial poses moves the face-morphed image away from the character image."""
    rest = STUDENT_FACE_REGION.crop(image)
    change = torch.zeros(1, *rest.shape[-2:])
    for index in range(min(most, len(targets))):
        difference = (targets.get("face", index).cpu() - rest).abs().amax(0, keepdim=True)
        change = torch.maximum(change, difference)
    moved = (change > THRESHOLD).float()[None]
    opened = -F.max_pool2d(-moved, 3, stride=1, padding=1)  # drops specks of a pixel or two
    grown = F.max_pool2d(opened, 2 * MARGIN + 3, stride=1, padding=MARGIN + 1)[0]
    return STUDENT_FACE_REGION.paste(torch.zeros(1, *image.shape[-2:]), grown)


def face_mask_of(character: Character, face: Targets) -> Float[Tensor, "1 512 512"]:
    """What a training weighs a face by: the character's own mask, else that of its ``face`` targets."""
    return face_mask_from_targets(face, character.image) if character.face_mask is None else character.face_mask


def computed_face_mask(
    teacher: Teacher, image: Float[Tensor, "4 512 512"], seed: int = 0, count: int = 64
) -> Float[Tensor, "1 512 512"]:
    """:func:`face_mask_from_targets` of ``count`` random poses, through the user's target cache.

    Raises: UserError when the disk is full.
    """
    poses = PoseSequence(seed=seed)  # a recipe's own would need the recipe, which a picture in hand does not have
    cache = open_cache("face", teacher, image, poses)
    build_targets(cache, teacher, image, poses, count)
    return face_mask_from_targets(cache.open(count), image)

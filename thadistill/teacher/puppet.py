"""Puppet: a teacher without weights, a drawn character that every pose parameter moves; image, pose -> named outputs."""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from thadistill.errors import UserError
from thadistill.images import IMAGE_SIZE, STUDENT_FACE_REGION, Region, encode_rgba, srgb_to_linear, to_rgba8
from thadistill.outputs import TeacherOutput
from thadistill.pose import POSE_PARAMETERS
from thadistill.puppet.back_hair import draw_back_hair
from thadistill.puppet.brush import Layer
from thadistill.puppet.design import Design
from thadistill.puppet.features import Features
from thadistill.puppet.front_hair import draw_front_hair
from thadistill.puppet.head import draw_head
from thadistill.puppet.motion import MATERIALS
from thadistill.puppet.outfit import draw_body
from thadistill.puppet.stage import flatten, painted_region, rotate
from thadistill.teacher.base import Teacher, check_batch

_SAME_IMAGE = 0.02  # network space: more than rounding to 8 bits changes, 2.28 / 255 + a margin
_HEAD, _FRONT = list(MATERIALS).index("head"), list(MATERIALS).index("front_hair")


class PuppetTeacher(Teacher):
    """One drawn character, the same for the same seed, as a teacher.

    ``posed == blend(alpha, color_change, warped)`` and ``warped == warp(face_morphed, grid_change)`` exactly;
    ``alpha`` is 1 where the layered drawing shows what no warp of the face-morphed image can. The only image it poses
    is its own ``character()``.
    """

    layers: Tensor  # [4, 4, 512, 512]: the order of MATERIALS; linear premultiplied, [0, 1]
    plain: Tensor  # [2, 3, 128, 128]: the face crops of head and front hair without features, sRGB not premultiplied
    rest: Tensor  # [4, 512, 512]: the character image

    def __init__(self, seed: int = 0) -> None:
        super().__init__(f"puppet/{seed}", alpha_channels=1)
        self.seed = seed
        self.design = Design.from_seed(seed)
        self.features = Features(self.design)
        front = draw_front_hair(self.design)
        drawn = {
            "back_hair": draw_back_hair(self.design),
            "body": draw_body(self.design),
            "head": draw_head(self.design, front.alpha),
            "front_hair": front,
        }
        self.register_buffer("layers", torch.stack([drawn[name].linear() for name in MATERIALS]))
        self.register_buffer("plain", torch.stack([_face_crop(drawn["head"]), _face_crop(front)]))
        self._regions = [painted_region(layer) for layer in self.layers]
        whole = flatten([*self.layers])
        crop = flatten(self._layers_in_crop(POSE_PARAMETERS.rest())[0])
        drawing = STUDENT_FACE_REGION.paste(whole[None], crop[None])[0] * 2 - 1
        self.register_buffer("rest", encode_rgba(to_rgba8(drawing)))

    def character(self) -> Float[Tensor, "4 512 512"]:
        """The rest image, network space, as its PNG holds it (rounded to 8 bits)."""
        return self.rest.clone()

    def face_mask(self) -> Float[Tensor, "1 512 512"]:
        """1 where the facial values can change the picture (3 pixels wider), else 0; inside the student's face crop."""
        poses = _facial_extremes().to(self.rest.device)
        crops = torch.stack([flatten(layers) for layers in self._layers_in_crop(poses)])
        changed = ((crops - crops[:1]).abs().amax((0, 1)) > 1e-4).float()
        wider = F.max_pool2d(changed[None, None], 7, 1, 3)[0]
        return STUDENT_FACE_REGION.paste(wider.new_zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE), wider[None])[0]

    def forward(self, image: Float[Tensor, "b 4 512 512"], pose: Float[Tensor, "n 45"]) -> TeacherOutput:
        """Poses the puppet.

        Raises: UserError when ``image`` is not the puppet's own rest image.
        """
        self._check(image, pose)
        crops = self._layers_in_crop(pose)
        size, n = (IMAGE_SIZE, IMAGE_SIZE), len(pose)
        channels = {"posed": 4, "warped": 4, "grid_change": 2, "color_change": 4, "alpha": 1}
        fields = {name: self.rest.new_empty(n, count, *size) for name, count in channels.items()}
        out = TeacherOutput(**fields, face_morphed=self._paste(crops))
        for i, (crop, values) in enumerate(zip(crops, pose.to(self.rest), strict=True)):
            layers = [region.crop(layer) for region, layer in zip(self._regions, self.layers, strict=True)]
            for index in (_HEAD, _FRONT):
                layers[index] = _within(self._regions[index]).paste(layers[index], crop[index])
            one = TeacherOutput(*(field[i : i + 1] for field in out))
            rotate(layers, self._regions, out.face_morphed[i], values[POSE_PARAMETERS.rotation], one)
        return out

    def face_morphed(
        self, image: Float[Tensor, "b 4 512 512"], pose: Float[Tensor, "n 45"]
    ) -> Float[Tensor, "n 4 512 512"]:
        self._check(image, pose)
        return self._paste(self._layers_in_crop(pose))

    def stages(self, image: Float[Tensor, "b 4 512 512"], pose: Float[Tensor, "n 45"]) -> dict[str, Tensor]:
        """The named outputs, and ``face_crop``: the student's crop of the face-morphed image."""
        out = self(image, pose)
        return {"face_crop": STUDENT_FACE_REGION.crop(out.face_morphed), **out._asdict()}

    def fingerprint(self) -> str:
        """sha256 of the drawing, its seed, and what a few poses give.

        Sums of outputs are rounded, so that another machine's last bits do not change it.
        """
        digest = hashlib.sha256(f"{self.name};".encode())
        digest.update(to_rgba8(self.rest).tobytes())
        generator = torch.Generator().manual_seed(7)
        span = torch.tensor(POSE_PARAMETERS.high) - torch.tensor(POSE_PARAMETERS.low)
        poses = torch.rand(3, len(POSE_PARAMETERS), generator=generator) * span + torch.tensor(POSE_PARAMETERS.low)
        out = self(self.rest[None], poses.to(self.rest.device))
        for tensor in out:
            pooled = F.adaptive_avg_pool2d(tensor.double(), 4).cpu() * 1e4
            digest.update(pooled.round().to(torch.int64).numpy().tobytes())
        return digest.hexdigest()

    def _layers_in_crop(self, pose: Float[Tensor, "n 45"]) -> list[list[Float[Tensor, "4 128 128"]]]:
        """For each pose, the face crop of every layer, with the features in place."""
        crops = STUDENT_FACE_REGION.crop(self.layers)
        alphas = crops[[_HEAD, _FRONT], 3:]
        colours = self.features.draw(self.plain[0], self.plain[1], pose.to(self.plain))
        head, front = (
            torch.cat([srgb_to_linear(colour.clamp(0, 1)) * alpha, alpha.expand(len(pose), -1, -1, -1)], dim=1)
            for colour, alpha in zip(colours, alphas, strict=True)
        )
        return [[*crops[:_HEAD], h, f] for h, f in zip(head, front, strict=True)]

    def _paste(self, crops: list[list[Tensor]]) -> Float[Tensor, "n 4 512 512"]:
        faces = torch.stack([flatten(layers) for layers in crops])
        return STUDENT_FACE_REGION.paste(self.rest, faces * 2 - 1)

    def _check(self, image: Tensor, pose: Tensor) -> None:
        check_batch(image, pose)
        if float((image.to(self.rest) - self.rest).abs().max()) > _SAME_IMAGE:
            raise UserError(
                "teacher 'puppet' came with another character's image; expected the one it draws itself: leave character "
                f"out or use character=puppet with seed {self.seed}, or choose a teacher that poses any image (tha3)"
            )


def load_puppet(seed: object = 0, device: torch.device | str = "cpu") -> PuppetTeacher:
    """The puppet of a seed, frozen and in evaluation mode.

    Raises: UserError when the seed is not a whole number from 0 up.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"the puppet's seed is {seed!r}; expected a whole number, 0 or more: set teacher.seed=0")
    teacher = PuppetTeacher(seed).to(device).eval()
    teacher.requires_grad_(False)
    return teacher


def _within(region: Region) -> Region:
    """The face crop, counted from the corner of a rectangle that contains it."""
    top, bottom, left, right = STUDENT_FACE_REGION
    return Region(top - region.top, bottom - region.top, left - region.left, right - region.left)


def _face_crop(layer: Layer) -> Float[Tensor, "3 128 128"]:
    return STUDENT_FACE_REGION.crop(torch.from_numpy(layer.straight()).permute(2, 0, 1)).contiguous()


def _facial_extremes() -> Float[Tensor, "n 45"]:
    """The rest pose, each facial value at its ends, and many values at their ends together, few and most of them."""
    facial, rest = POSE_PARAMETERS.facial, POSE_PARAMETERS.rest()[0]
    low, high = torch.tensor(POSE_PARAMETERS.low), torch.tensor(POSE_PARAMETERS.high)
    poses = [rest]
    for index in range(facial.stop):
        for value in {POSE_PARAMETERS.low[index], POSE_PARAMETERS.high[index]} - {0.0}:
            pose = rest.clone()
            pose[index] = value
            poses.append(pose)
    generator = torch.Generator().manual_seed(0)
    for share in (0.25, 0.6):
        chosen = torch.rand(48, len(rest), generator=generator) < share
        ends = torch.where(torch.rand(48, len(rest), generator=generator) < 0.5, low, high)
        poses += [*torch.where(chosen, torch.where(low < 0, ends, high), rest)]
    return torch.stack(poses)

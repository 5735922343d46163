"""Chain: a teacher made of five networks, three for the face and two for the body, as THA3 and THA4 are."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from thadistill.kernels.build import multiplies_bfloat16
from thadistill.outputs import TeacherOutput
from thadistill.pose import POSE_PARAMETERS
from thadistill.teacher.base import Teacher, check_batch
from thadistill.teacher.blocks import TeacherNetwork, precision_of
from thadistill.teacher.engine import BodyNetwork
from thadistill.teacher.face_stages import (
    EyebrowDecomposer,
    EyebrowMorphingCombiner,
    FaceMorpher,
    FaceStagesOutput,
    Layers,
    pose_face,
    separate,
)
from thadistill.teacher.image_cache import ImageCache
from thadistill.teacher.workspace import Workspace


class ChainTeacher(Teacher):
    """The face stages, and room for two body networks that subclasses bring.

    What depends on the image alone (the decomposer, the combiner's encoder) is kept while the image is the same; see
    ``ImageCache`` for what "the same" means. Images, grid changes and warps are float32 whatever the networks'
    precision.
    """

    def __init__(self, name: str, alpha_channels: int, *, separable: bool) -> None:
        super().__init__(name, alpha_channels)
        self.eyebrow_decomposer = EyebrowDecomposer(separable=separable)
        self.eyebrow_morphing_combiner = EyebrowMorphingCombiner(separable=separable)
        self.face_morpher = FaceMorpher(separable=separable)
        self._layers: ImageCache[Layers] = ImageCache()

    def networks(self) -> Iterator[TeacherNetwork]:
        """The five networks."""
        return (network for network in self.children() if isinstance(network, TeacherNetwork))

    def use_autocast(self, precision: torch.dtype | None) -> None:
        """Runs the networks' bodies in a half precision while their weights stay as they are; None: no longer."""
        for network in self.networks():
            network.autocast = precision
        self._layers.clear()

    def use_compile(self) -> None:
        """Runs each network by ``torch.compile``: a minute or more at the first call, and at a new number of poses."""
        for network in self.networks():
            if isinstance(network, BodyNetwork):
                network.row_tiled = False
            network.compile()

    @contextmanager
    def low_precision(self) -> Iterator[None]:
        """Products and output convolutions of separable networks in bfloat16, where they run row-tiled on a processor that
        multiplies it.

        THA3 separable: posed images 58 dB from the exact ones, grid changes 0.03 pixels.
        """
        rounding = [
            network
            for network in self.networks()
            if isinstance(network, BodyNetwork) and network.row_tiled and not network.autocast and multiplies_bfloat16()
        ]
        if not rounding or next(self.parameters()).device.type != "cpu" or precision_of(self) != torch.float32:
            yield
            return
        try:
            for network in rounding:
                network.products = torch.bfloat16
            self._layers.clear()
            yield
        finally:
            for network in rounding:
                network.products = torch.float32
            self._layers.clear()

    def fingerprint(self) -> str:
        networks = list(self.networks())
        changed = {str(network.autocast) for network in networks if network.autocast}
        changed |= {f"products {n.products}" for n in networks if isinstance(n, BodyNetwork)} - {
            f"products {torch.float32}"
        }
        own = super().fingerprint()
        return own if not changed else hashlib.sha256(f"{own} {sorted(changed)}".encode()).hexdigest()

    def share_workspace(self) -> None:
        """Lets all networks use the same buffers, since they run one after another."""
        workspace = Workspace()
        for network in self.networks():
            if isinstance(network, BodyNetwork):
                network.workspace = workspace

    @abstractmethod
    def pose_body(self, face: FaceStagesOutput, pose: Float[Tensor, "n 45"]) -> tuple[TeacherOutput, dict[str, Tensor]]:
        """The two last stages: the teacher's outputs, and both networks' intermediates by name."""

    def pose_face(self, image: Float[Tensor, "b 4 512 512"], pose: Float[Tensor, "n 45"]) -> FaceStagesOutput:
        """The three face stages, run once for poses in a row that differ in their rotations only."""
        check_batch(image, pose)
        decomposer, combiner = self.eyebrow_decomposer, self.eyebrow_morphing_combiner
        weights = [*decomposer.parameters(), *combiner.parameters()]
        training = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
        layers = self._layers.get(image, weights, lambda: separate(decomposer, combiner, image), training=training)
        if len(image) > 1 or len(pose) == 1:
            return pose_face(combiner, self.face_morpher, layers, image, pose)
        other = torch.ones(len(pose), dtype=torch.bool, device=pose.device)  # than the face before
        other[1:] = (pose[1:, POSE_PARAMETERS.facial] != pose[:-1, POSE_PARAMETERS.facial]).any(1)
        face = pose_face(combiner, self.face_morpher, layers, image, pose[other])
        return face if other.all() else face.repeated(other.cumsum(0) - 1)

    def forward(self, image: Float[Tensor, "b 4 512 512"], pose: Float[Tensor, "n 45"]) -> TeacherOutput:
        return self.pose_body(self.pose_face(image, pose), pose)[0]

    def face_morphed(
        self, image: Float[Tensor, "b 4 512 512"], pose: Float[Tensor, "n 45"]
    ) -> Float[Tensor, "n 4 512 512"]:
        return self.pose_face(image, pose).face_morphed

    def stages(self, image: Float[Tensor, "b 4 512 512"], pose: Float[Tensor, "n 45"]) -> dict[str, Tensor]:
        face = self.pose_face(image, pose)
        body = self.pose_body(face, pose)[1]
        n = pose.shape[0]
        return {key: tensor.expand(n, -1, -1, -1) for key, tensor in (body | face.named()).items()}

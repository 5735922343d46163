"""TeacherModule: trains THA4's last two networks on triples, in the paper's phases; lit.face_stages the first three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from thadistill.data.triples import Triple
from thadistill.errors import UserError
from thadistill.lit.base import OptimizerFactory, ScheduledModule
from thadistill.lit.perceptual_loss import PerceptualLoss
from thadistill.lit.schedule import LearningRate
from thadistill.metrics.image import psnr
from thadistill.pose import POSE_PARAMETERS
from thadistill.teacher.face_stages import FaceStages
from thadistill.teacher.tha4 import BodyMorpher, BodyOutput, Upscaler
from thadistill.warp import resize

# of the seven channels that a body network's last convolution gives
_GRID_CHANGE, _ALPHA, _MOTION = slice(4, 6), 6, slice(4, 7)
_FAINT = -3.0  # alpha before its sigmoid: 0.05


@dataclass(frozen=True)
class Phase:
    """What is compared until a progress of ``until``.

    Args:
        perceptual: weight of the perceptual loss; L1 has 1 (paper: 0, then 0.2).
        coarse: the upscaler is given the body morpher's result, and compared halved and by quadrants.
    """

    until: float
    perceptual: float = 0.0
    coarse: bool = False


class TeacherModule(ScheduledModule):
    """Trains a body morpher or an upscaler.

    Args:
        network, optimizer, learning_rate: see ScheduledModule (paper: Adam(0.5, 0.999), 1e-4).
        warmup_triples: the rate rises from 0 over so many triples, whatever the budget (paper: 5,000).
        phases: in order; the last one's ``until`` is 1.
        perceptual: the features; may be None only where no phase weighs them.
        coarse: a trained body morpher, kept as it is, for the upscaler's phases that need it; at half the size.

    Validation logs ``val/psnr`` (merged against
    the truth, network space), ``val/psnr_identity`` (the image unmoved) and their difference ``val/gain``.

    Raises: UserError when the phases do not suit the network.
    """

    counted = "triples"

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerFactory,
        learning_rate: LearningRate,
        phases: Sequence[Phase],
        perceptual: PerceptualLoss | None = None,
        warmup_triples: int = 5000,
        coarse: BodyMorpher | None = None,
    ) -> None:
        super().__init__(network, optimizer, learning_rate)
        ends = [phase.until for phase in phases]
        if not ends or ends != sorted(ends) or ends[-1] != 1:
            raise UserError(f"phases end at {ends}; expected them ascending, the last at 1")
        if any(phase.perceptual for phase in phases) and perceptual is None:
            raise UserError(
                "a phase weighs perceptual features and none came; expected stage.perceptual=auto or a name"
            )
        if any(phase.coarse for phase in phases) and (coarse is None or not isinstance(network, Upscaler)):
            raise UserError(
                "a phase is coarse; expected stage=upscaler with coarse=FOLDER, which holds a trained body_morpher.pt"
            )
        self.phases, self.warmup_triples = list(phases), warmup_triples
        # in lists: neither belongs in checkpoints or among what is trained
        self._perceptual = [] if perceptual is None else [perceptual]
        self._coarse = [] if coarse is None else [coarse.eval().requires_grad_(False)]
        self.triples_seen = 0
        self._warm = 1.0

    @property
    def coarse(self) -> BodyMorpher | None:
        """The body morpher that an upscaler begins with."""
        return self._coarse[0] if self._coarse else None

    @property
    def phase(self) -> Phase:
        """The phase at the present progress."""
        return next((phase for phase in self.phases if self.progress < phase.until), self.phases[-1])

    def forward(self, image: Float[Tensor, "n 4 h w"], pose: Float[Tensor, "n 45"]) -> BodyOutput:
        """The network's outputs, with the coarse result where the present phase has it."""
        rotation = pose[:, POSE_PARAMETERS.rotation]
        if isinstance(self.network, BodyMorpher):
            return self.network(image, rotation)
        assert isinstance(self.network, Upscaler)
        if not self.phase.coarse:
            return self.network.alone(image, rotation)
        size = image.shape[-1]
        with torch.no_grad():
            body = self._coarse[0](resize(image, size // 2, size // 2), rotation)
        return self.network(image, resize(body.merged, size, size), resize(body.grid_change, size, size), rotation)

    def losses(self, out: BodyOutput, truth: Float[Tensor, "n 4 h w"]) -> dict[str, Tensor]:
        """L1 and, where the phase weighs them, features; of warped, direct and merged, or of the last two in views."""
        phase = self.phase
        if phase.coarse:
            views = [views_of(picture) for picture in (out.direct, out.merged, truth)]
            groups = [(list(found), views[2], 1 / len(views[2])) for found in views[:2]]
        else:
            groups = [([found], [truth], 1.0) for found in (out.warped, out.direct, out.merged)]
        pairs = [
            (found, wanted, share)
            for founds, wanteds, share in groups
            for found, wanted in zip(founds, wanteds, strict=True)
        ]
        return self.compare(pairs)

    def compare(self, pairs: Sequence[tuple[Tensor, Tensor, float]]) -> dict[str, Tensor]:
        """The present phase's loss of (found, wanted, weight) pictures: L1 and, where the phase weighs them, features."""
        phase = self.phase
        l1 = torch.stack([share * F.l1_loss(found, wanted) for found, wanted, share in pairs]).sum()
        terms = {"l1": l1, "loss": l1}
        if phase.perceptual:
            perceptual, alpha = self._perceptual[0], PerceptualLoss.draw()
            feature = torch.stack([share * perceptual(found, wanted, alpha) for found, wanted, share in pairs]).sum()
            terms |= {"perceptual": feature, "loss": l1 + phase.perceptual * feature}
        return terms

    def training_step(self, batch: Triple, batch_idx: int) -> Tensor:
        terms = self.losses(self(batch.image, batch.pose), batch.posed)
        values = {f"train/{name}": value.detach() for name, value in terms.items()}
        place = {"train/progress": self.progress, "train/triples": float(self.triples_seen)}
        self.log_dict({**values, **place}, batch_size=len(batch.pose))
        return terms["loss"]

    def validation_step(self, batch: Triple, batch_idx: int) -> dict[str, Tensor]:
        out = self(batch.image, batch.pose)
        reached, unmoved = psnr(out.merged, batch.posed).mean(), psnr(batch.image, batch.posed).mean()
        figures = {
            "val/psnr": reached,
            "val/psnr_warped": psnr(out.warped, batch.posed).mean(),
            "val/psnr_identity": unmoved,
            "val/gain": reached - unmoved,
        }
        self.log_dict(figures, batch_size=len(batch.pose), sync_dist=True)
        return {"teacher": batch.posed, "student": out.merged}

    def on_fit_start(self) -> None:
        self._unregistered_to_device()

    def on_validation_start(self) -> None:
        self._unregistered_to_device()

    def on_train_batch_start(self, batch: Triple, batch_idx: int) -> None:
        # the batch at hand counts: the first step would have a rate of 0
        seen = self.triples_seen + len(batch.pose) * self.trainer.world_size
        self._warm = min(1.0, seen / self.warmup_triples) if self.warmup_triples else 1.0
        super().on_train_batch_start(batch, batch_idx)

    def rate(self, full: float) -> float:
        return full * self._warm * self.learning_rate(self.progress)

    def on_train_batch_end(self, outputs: Any, batch: Triple, batch_idx: int) -> None:
        self.triples_seen += len(batch.pose) * self.trainer.world_size

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["triples_seen"] = self.triples_seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.triples_seen = checkpoint["triples_seen"]

    def _unregistered_to_device(self) -> None:
        for module in (*self._perceptual, *self._coarse):
            module.to(self.device)


def views_of(image: Float[Tensor, "n 4 h w"]) -> list[Float[Tensor, "n 4 _h _w"]]:
    """The image halved and its four quadrants: what the upscaler's last phase compares."""
    height, width = image.shape[-2] // 2, image.shape[-1] // 2
    quadrants = [image[..., top : top + height, left : left + width] for top in (0, height) for left in (0, width)]
    return [resize(image, height, width), *quadrants]


def near_identity_init(network: BodyMorpher | Upscaler | FaceStages) -> None:
    """Starts a network at the identity: a grid change of 0, hardly anything painted over the given image or face."""
    if isinstance(network, FaceStages):
        _nearly_the_given_face(network)
        return
    last = network.body.last[2]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    with torch.no_grad():
        last.weight[_MOTION] = 0
        last.bias[_GRID_CHANGE] = 0
        last.bias[_ALPHA] = _FAINT


def _nearly_the_given_face(network: FaceStages) -> None:
    """Both eyebrow layers are the image itself; the grid changes are 0 as built."""
    for name, part in network.named_modules():
        if name.endswith("_alpha"):
            convolution = part.get_submodule("0")
            assert isinstance(convolution, nn.Conv2d)
            assert convolution.bias is not None
            nn.init.zeros_(convolution.weight)
            # of the decomposed eyebrow layer, alpha is how much of the image stays; elsewhere, how much is painted
            kept = name.endswith("decomposer.eyebrow_layer_alpha")
            nn.init.constant_(convolution.bias, -_FAINT if kept else _FAINT)

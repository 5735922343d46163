"""What the modules share: an optimiser whose rate follows progress; for students, an error map and scaled rates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thadistill.data.error_map import ErrorMap
from thadistill.lit.schedule import LearningRate
from thadistill.student.siren import SineLayer

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]


class ScheduledModule(L.LightningModule, ABC):
    """Trains one network at a learning rate that follows ``progress``.

    Args:
        network: what is trained.
        optimizer: makes the optimiser from parameter groups; its learning rate is the peak.
        learning_rate: factor on that rate at each progress.

    ``progress`` runs from 0 to 1 and is set from outside (callbacks.budget): the module does not know whether minutes
    or, say, poses are counted. ``counted``: what the rows of a batch's first field are. The rates are set here and not by
    a scheduler: Lightning steps those right after the optimiser, before the budget knows of the step.
    """

    counted: str

    def __init__(self, network: nn.Module, optimizer: OptimizerFactory, learning_rate: LearningRate) -> None:
        super().__init__()
        self.network, self.optimizer, self.learning_rate = network, optimizer, learning_rate
        self.progress = 0.0

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser is made of."""
        return [{"params": list(self.network.parameters())}]

    def configure_optimizers(self) -> Optimizer:
        optimizer = self.optimizer(self.parameter_groups())
        for group in optimizer.param_groups:
            group.setdefault("full_lr", group["lr"])
        return optimizer

    def rate(self, full: float) -> float:
        """The learning rate at the present progress, of a group whose peak is ``full``."""
        return full * self.learning_rate(self.progress)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        optimizers = self.optimizers()
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            for group in optimizer.param_groups:
                group["lr"] = self.rate(float(group["full_lr"]))


class StudentModule(ScheduledModule):
    """Trains one network of the student.

    Args:
        network, optimizer, learning_rate: see ScheduledModule.
        error_map: collects the errors of each batch by place, for importance sampling by a stream.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerFactory,
        learning_rate: LearningRate,
        error_map: ErrorMap | None = None,
    ) -> None:
        super().__init__(network, optimizer, learning_rate)
        self.error_map = error_map
        self._lr_scales: list[tuple[Tensor, Tensor]] = []

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Matrices of features to features, marked ``matrices`` for optimisers that treat them as such, and the rest.

        First layers, which see coordinates and pose, and the last belong to the rest.
        """
        layers = [layer for layer in self.network.modules() if isinstance(layer, SineLayer)]
        inner = [layer.linear.weight for layer in layers if not layer.first]
        ids = {id(parameter) for parameter in inner}
        rest = [parameter for parameter in self.network.parameters() if id(parameter) not in ids]
        return [{"params": inner, "matrices": True}, {"params": rest, "matrices": False}]

    def scale_lr(self, parameter: Tensor, scale: Tensor) -> None:
        """Has every step of ``parameter`` taken times ``scale``, which broadcasts to it; 0 keeps a weight as it is."""
        if bool((scale != 1).any()):
            self._lr_scales.append((parameter, scale))

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        before = [parameter.detach().clone() for parameter, _ in self._lr_scales]
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        with torch.no_grad():
            for (parameter, scale), old in zip(self._lr_scales, before, strict=True):
                parameter.sub_(old).mul_(scale.to(parameter.device)).add_(old)

    @abstractmethod
    def losses(self, batch: Any) -> dict[str, Tensor]:
        """What a batch costs: ``loss``, which is minimised, and what it is made of."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        losses = self.losses(batch)
        self.log_losses(losses, len(batch.pose))
        return losses["loss"]

    def log_losses(self, losses: dict[str, Tensor], batch_size: int) -> None:
        """Logs the training losses and the progress they were seen at, in the steps that loggers log.

        Lightning would throw away the others, after a twentieth of a small network's step has gone into them.
        """
        if (self.trainer.global_step + 1) % self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        values = {f"train/{name}": value.detach() for name, value in losses.items()}
        optimizers = self.optimizers()
        groups = (optimizers[0] if isinstance(optimizers, list) else optimizers).param_groups
        rates = {f"train/lr_{number}": float(group["lr"]) for number, group in enumerate(groups)}
        self.log_dict({**values, **rates, "train/progress": self.progress}, batch_size=batch_size)

"""BestCheckpoint: keeps the state of the best quality among those that are fast enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch

from thadistill.callbacks.comparison import Comparison
from thadistill.errors import UserError
from thadistill.files import replacing
from thadistill.student import BodyRotator


class BestCheckpoint(L.Callback):
    """Writes ``folder/best.ckpt`` at each check that beats the ones before, and leaves that state in the network.

    The end of the training is checked too. Schedules that end at a rate of zero end at their best, or nearly: this is for
    those that don't, and for students that must reach a frame rate.

    Args:
        folder: the training's.
        comparison: student and teacher; None, where a teacher's network is trained: ``val/psnr`` decides.
        poses: validation poses that quality is judged on.
        figure: of QualityMetrics; the highest is best (``flow_epe_px``, ``stlpips`` and ``lpips``: the lowest). A body
            rotator without a trained face morpher is judged with the teacher's face, a face morpher by ``face_psnr``.
        fps_floor: frames a second that a state must reach, compiled for ``runtime``; 0: not measured. When none does,
            the training ends with an error, as nothing it made may be used.
        runtime: see FrameRate.
        restore: whether the training ends with the best state, or with the last.
    """

    def __init__(
        self,
        folder: str | Path,
        comparison: Comparison | None = None,
        poses: int = 16,
        figure: str = "psnr",
        fps_floor: float = 0.0,
        runtime: str = "exact",
        restore: bool = True,
    ) -> None:
        if comparison is None and fps_floor > 0:
            raise UserError(
                f"BestCheckpoint: fps_floor={fps_floor} is for students; expected 0 where a teacher is trained"
            )
        self.comparison, self.path, self.poses = comparison, Path(folder) / "best.ckpt", poses
        self.figure, self.fps_floor, self.runtime, self.restore = figure, fps_floor, runtime, restore
        self.best: dict[str, Any] | None = None
        self.fastest = 0.0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._check(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._check(trainer, pl_module)
        trainer.strategy.barrier("best")
        if self.best is None and trainer.is_global_zero:
            raise UserError(
                f"no state of the student reached fps_floor={self.fps_floor:g} frames a second (the fastest: "
                f"{self.fastest:.1f}); expected some to: lower it, or make the student smaller"
            )
        if self.restore and self.path.is_file():
            content = torch.load(self.path, map_location=pl_module.device, weights_only=True)
            pl_module.load_state_dict(content["state_dict"])

    def _check(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        name, value = self._value(trainer, module)
        if self.best is not None and value <= self.best["value"]:
            return
        fps = None
        if self.comparison is not None and isinstance(module.network, BodyRotator) and self.fps_floor > 0:
            fps = float(self.comparison.frame_rate(module, trainer.global_step, self.runtime)["student_fps"])
            self.fastest = max(self.fastest, fps)
            if fps < self.fps_floor:
                return
        self.best = {"value": value, "figure": name, "step": trainer.global_step, "fps": fps}
        with replacing(self.path) as temporary:
            torch.save({**self.best, "state_dict": module.state_dict()}, temporary)

    def _value(self, trainer: L.Trainer, module: L.LightningModule) -> tuple[str, float]:
        """What the present state is judged by, and how good it is: more is better."""
        if self.comparison is None:
            return "val/psnr", float(trainer.callback_metrics["val/psnr"])
        name, extra = "face_psnr", ()
        if isinstance(module.network, BodyRotator):
            name = self.comparison.named(self.figure)
            extra = (self.figure,) if self.figure in ("stlpips", "lpips") else ()  # type: ignore[assignment]
        figures = self.comparison.quality(module, trainer.global_step, self.poses, extra).figures
        if name not in figures:
            raise UserError(f"BestCheckpoint: figure={self.figure}; expected one of {', '.join(figures)}")
        return name, figures[name] * (-1 if self.figure in ("flow_epe_px", "stlpips", "lpips") else 1)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "fastest": self.fastest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.fastest = state_dict["best"], state_dict["fastest"]

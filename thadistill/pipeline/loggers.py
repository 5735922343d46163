"""Loggers of a training: where they write, what they get of the run, how a continued one goes on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import hydra
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from omegaconf import DictConfig, OmegaConf


class ContinuedCSV(CSVLogger):
    """Lightning's CSV logger, which starts a new ``metrics.csv`` unless a training continues after an interruption."""

    _kept_to: int | None = None

    def continue_from(self, step: int) -> None:
        """Keeps the rows of an earlier process up to ``step``; those after it are logged again."""
        self._kept_to = step

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer."""
        if self._experiment is None:
            rows = self._rows()
            writer = super().experiment
            writer.metrics = rows
            writer.save()
        return self._experiment

    def _rows(self) -> list[dict[str, Any]]:
        path = Path(self.log_dir) / "metrics.csv"
        if self._kept_to is None or not path.is_file():
            return []
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = [{key: value for key, value in row.items() if key and value} for row in csv.DictReader(file)]
            return [row for row in rows if int(row.get("step", 0)) <= self._kept_to]
        except (ValueError, csv.Error):  # damaged: the curve begins where the training goes on
            return []


def loggers(config: DictConfig, folder: Path) -> list[Logger]:
    """The configured loggers, each writing below ``folder`` unless its ``save_dir`` says otherwise.

    Weights & Biases' runs are named after the run's folder and the part that is trained, and grouped by the run.
    """
    made = []
    for logger in (config.get("logger") or {}).values():
        if logger is None:
            continue
        own: dict[str, Any] = {"save_dir": str(folder)}
        if issubclass(hydra.utils.get_class(logger._target_), WandbLogger):
            run = Path(str(config.out)).name
            own |= {"name": f"{run}-{folder.name}" if folder.name != run else run, "group": run}
        made.append(hydra.utils.instantiate({**own, **logger}))
    return made


def tell_hyperparameters(made: list[Logger], config: DictConfig, about: dict[str, Any]) -> None:
    """The whole configuration, and ``about``, to every logger."""
    content = OmegaConf.to_container(config, resolve=True)
    for logger in made:
        logger.log_hyperparams({**content, **about})  # type: ignore[dict-item]


def finish(made: list[Logger]) -> None:
    """Ends runs of Weights & Biases, or the next training of this process would go on in the same one."""
    for logger in made:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def tell_result(config: DictConfig, out: Path, metrics: dict[str, Any], preview: Any) -> None:
    """The result's figures and picture, to the loggers that are no files in the run's folder, where both lie anyway."""
    made = [logger for logger in loggers(config, out) if not isinstance(logger, CSVLogger)]
    tell_hyperparameters(made, config, {})
    for logger in made:
        logger.log_metrics({f"result/{key}": value for key, value in metrics.items() if isinstance(value, int | float)})
        if isinstance(logger, WandbLogger):
            logger.log_image("result/preview", [preview])
    finish(made)

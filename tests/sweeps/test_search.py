"""The search, with a launcher whose jobs end at once: failed trials, continuing, the front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import OmegaConf

from thadistill.config import compose, conf_dir
from thadistill.errors import UserError
from thadistill.sweeps.job import Job, Result, SweepFailed
from thadistill.sweeps.pareto import pareto_front

optuna = pytest.importorskip("optuna")


class Instant(Launcher):
    """Runs nothing: quality grows with ``width``, time with its square; depth 3 fails."""

    def __init__(self) -> None:
        self.given: list[tuple[str, ...]] = []

    def setup(self, **_: Any) -> None:
        """Nothing to keep."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """A result for each."""
        returns = []
        for overrides in job_overrides:
            self.given.append(tuple(overrides))
            values = dict(item.split("=", 1) for item in overrides)
            job = Job("distill", tuple(overrides), Path("x"), Path("."), "0")
            width = float(values["width"])
            failed = values["depth"] == "3"
            metrics = {} if failed else {"psnr": 20 + 10 * width - (width - 0.6) ** 2, "student_ms": 1 + width**2}
            done = JobReturn(status=JobStatus.COMPLETED)
            done.return_value = Result(job, "it broke" if failed else None, metrics)
            returns.append(done)
        return returns


PARAMS = {"width": "interval(0.25, 1)", "depth": "choice(2, 3)"}


def search(folder: Path, launcher: Instant, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    from thadistill.sweeps.search import ParetoSweeper

    monkeypatch.setattr(Plugins, "instantiate_launcher", lambda self, **_: launcher)
    settings = {"params": PARAMS, "objectives": {"psnr": "maximize", "student_ms": "minimize"}, "n_trials": 8}
    sweeper = ParetoSweeper(**{**settings, "n_jobs": 1, "seed": 0, **options})
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}})
    context = HydraContext(config_loader=Mock(), callbacks=Mock())
    sweeper.setup(hydra_context=context, task_function=Mock(), config=config)
    sweeper.loader = None  # its groups are not needed to read these overrides
    return sweeper


def test_failed_trials_do_not_count_and_the_same_command_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Instant()
    with pytest.raises(SweepFailed, match=r"of \d+ jobs failed"):
        search(tmp_path, first, monkeypatch, n_jobs=2).sweep(["seed=1", "seed=2"])
    assert "study of 8 trials" in capsys.readouterr().err
    good = {given for given in first.given if "depth=2" in given}
    assert len(good) == 8
    assert any("depth=3" in given for given in first.given)
    assert all("seed=2" in given and "seed=1" not in given for given in first.given)
    again = Instant()
    search(tmp_path, again, monkeypatch, n_jobs=2).sweep(["seed=1", "seed=2"])
    assert again.given == []
    more = Instant()
    search(tmp_path, more, monkeypatch, n_trials=11, params={**PARAMS}).sweep(["seed=2", "depth=choice(2,3)"])
    assert sum("depth=2" in given for given in more.given) >= 3
    assert not {*more.given} & good  # it draws on, not the same again


def test_the_front_is_that_of_the_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = Instant()
    search(tmp_path, launcher, monkeypatch, params={"width": "interval(0.25, 3)", "depth": "choice(2)"}).sweep([])
    results = [job.return_value.metrics for job in Instant().launch(launcher.given, 0)]
    front = pareto_front([it["psnr"] for it in results], [it["student_ms"] for it in results])
    assert capsys.readouterr().err.count("psnr ") == sum(front)


def test_nothing_works_ends_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = Instant()
    with pytest.raises(SweepFailed, match="4 of 4 jobs failed"):
        search(tmp_path, launcher, monkeypatch, n_trials=4).sweep(["depth=3"])


def test_what_cannot_be_searched_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="expected figures, each maximize or minimize"):
        search(tmp_path, Instant(), monkeypatch, objectives={"psnr": "up"})
    with pytest.raises(UserError, match="nothing to search over"):
        search(tmp_path, Instant(), monkeypatch, params={}).sweep(["depth=2"])
    with pytest.raises(UserError, match="expected 1 or more"):
        search(tmp_path, Instant(), monkeypatch, n_trials=0)


def test_a_study_without_a_finished_trial_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    objectives = {"sharpness": "maximize"}  # of which metrics.json knows nothing
    with pytest.raises(SweepFailed, match="no trial finished with figures of sharpness"):
        search(tmp_path, Instant(), monkeypatch, objectives=objectives, n_trials=3).sweep(["depth=2"])
    assert "does not count: its metrics.json has no sharpness" in capsys.readouterr().err


def test_a_searchs_own_objectives_stand_alone() -> None:
    found = {
        name: compose("distill", [f"hparams_search={name}"], with_hydra=True).hydra.sweeper.objectives
        for name in ("recipe", "student")
    }
    assert found == {"recipe": {"val_psnr": "maximize"}, "student": {"val_psnr": "maximize", "student_ms": "minimize"}}


@pytest.mark.parametrize("name", sorted(path.stem for path in (conf_dir() / "hparams_search").glob("*.yaml")))
def test_every_search_composes(name: str) -> None:
    config = compose("distill", [f"hparams_search={name}"], with_hydra=True)
    sweeper = config.hydra.sweeper
    for key in sweeper.get("params") or {}:
        assert OmegaConf.select(config, key) is not None, f"{key} is no key of distill"

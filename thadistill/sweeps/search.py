"""Search: Optuna over several objectives, such as quality up and frame time down, to a Pareto front.

hydra-optuna-sweeper pins Optuna below 3; this asks and tells a current one. The study lies next to its trials' folders, so
the same command continues it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from thadistill.errors import UserError
from thadistill.sweeps.job import Result, SweepFailed
from thadistill.sweeps.sweepers import report


class ParetoSweeper(Sweeper):
    """Runs the trials that Optuna proposes; one that fails is marked, and the study goes on.

    Args:
        params: what to search over, in Hydra's words: ``interval(0.25, 1)``, ``tag(log, interval(1e-4, 1e-3))``,
            ``range(2, 5)``, ``choice(64, 128)``. Values on the command line take precedence.
        objectives: figures of metrics.json, each ``maximize`` or ``minimize``.
        n_trials: how many in all, those of earlier commands counted, failed ones not.
        n_jobs: trials proposed together, for launchers with several workers.
        seed: of the proposals.
    """

    def __init__(
        self, params: Mapping[str, Any], objectives: Mapping[str, str], n_trials: int, n_jobs: int, seed: int
    ) -> None:
        wrong = [way for way in objectives.values() if way not in ("maximize", "minimize")]
        if wrong or not objectives:
            raise UserError(f"objectives {dict(objectives)}; expected figures, each maximize or minimize")
        if n_trials < 1 or n_jobs < 1:
            raise UserError(f"hydra.sweeper.n_trials={n_trials} n_jobs={n_jobs}; expected 1 or more of each")
        self.params, self.objectives = dict(params), dict(objectives)
        self.n_trials, self.n_jobs, self.seed = n_trials, n_jobs, seed

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what Hydra gives, and makes the launcher."""
        self.composed, self.loader = config, hydra_context.config_loader
        self.workers = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the study to its number of trials, then reports. Raises: SweepFailed when trials of this command failed."""
        folder = Path(self.composed.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.composed, folder / "multirun.yaml")
        fixed, space = self._space(arguments)
        study = self._study(folder, fixed, space)
        results: list[Result] = []
        number, barren = len(study.trials), 0
        while (missing := self.n_trials - len(_good(study))) > 0:
            trials = [study.ask(space) for _ in range(min(missing, self.n_jobs))]
            given = [(*fixed, *(f"{key}={_text(value)}" for key, value in t.params.items())) for t in trials]
            different = list(dict.fromkeys(given))  # a proposal may come twice, and a folder is one job's
            batch = self.workers.launch([list(one) for one in different], initial_job_idx=number)
            outcome = {one: job.return_value for one, job in zip(different, batch, strict=True)}
            counted = [self._tell(study, trial, outcome[one]) for trial, one in zip(trials, given, strict=True)]
            number += len(different)
            results += outcome.values()
            barren = 0 if any(counted) else barren + len(counted)
            if barren >= max(3, self.n_trials):
                break  # nothing works: no use in trying on
        print(f"study of {len(_good(study))} trials, on its Pareto front:", file=sys.stderr)
        for trial in study.best_trials:
            if "error" in trial.user_attrs:
                continue
            figures = ", ".join(f"{k} {v:.3f}" for k, v in zip(self.objectives, trial.values, strict=True))
            print(f"  {figures}: {' '.join(f'{k}={_text(v)}' for k, v in trial.params.items())}", file=sys.stderr)
        report(folder, results)
        if not _good(study):
            raise SweepFailed(
                f"no trial finished with figures of {', '.join(self.objectives)}: see its folders' job.log, metrics.json"
            )

    def _tell(self, study: Any, trial: Any, result: Result) -> bool:
        """Tells a trial's figures; whether it succeeded.

        A failed one is marked, and reported as bad as the worst in every figure: Optuna learns nothing from trials that it
        knows to have failed, and finds what never succeeded all the more worth a try.
        """
        from optuna.trial import TrialState

        values = [result.metrics.get(name) for name in self.objectives]
        if result.error is None and all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
            study.tell(trial, [float(v) for v in values if v is not None])
            return True
        absent = [name for name, value in zip(self.objectives, values, strict=True) if value is None]
        why = f"its metrics.json has no {absent[0]}" if absent else "its figures are not finite"
        if result.error is None:
            print(f"{result.job.label} does not count: {why}", file=sys.stderr)
        trial.set_user_attr("error", result.error or why)
        others = [other.values for other in _good(study)]
        if others:
            ways = (min if way == "maximize" else max for way in self.objectives.values())
            study.tell(trial, [way(column) for way, column in zip(ways, zip(*others, strict=True), strict=True)])
        else:
            study.tell(trial, state=TrialState.FAIL)
        return False

    def _space(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
        """The overrides that stand, and Optuna's distributions of those to search over."""
        parser = OverridesParser.create(config_loader=self.loader)
        given = parser.parse_overrides(list(arguments))
        known = {override.get_key_element() for override in given}
        searched = [f"{key}={value}" for key, value in self.params.items() if key not in known]
        fixed: dict[str, str] = {}
        space: dict[str, Any] = {}
        for override in [*given, *parser.parse_overrides(searched)]:
            key = override.get_key_element()
            if override.is_sweep_override():
                space[key] = distribution(override)
            else:
                fixed[key] = f"{key}={override.get_value_element_as_str()}"
        if not space:
            raise UserError("there is nothing to search over; expected hydra.sweeper.params, such as interval(0.25, 1)")
        return [*fixed.values()], space

    def _study(self, folder: Path, fixed: list[str], space: Mapping[str, Any]) -> Any:
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise UserError("hydra/sweeper=pareto needs optuna: pip install 'thadistill[sweep]'") from None
        optuna.logging.set_verbosity(logging.WARNING)
        content = json.dumps([sorted(fixed), {k: repr(v) for k, v in sorted(space.items())}, self.objectives])
        name = hashlib.sha256(content.encode()).hexdigest()[:12]
        # few trials: half random, then a tree of Parzen estimators, which takes several objectives and failures alike
        sampler = optuna.samplers.TPESampler(
            seed=self.seed, n_startup_trials=max(4, self.n_trials // 2), constant_liar=self.n_jobs > 1
        )
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / f"study-{name}.log"))),
            study_name=name,
            directions=list(self.objectives.values()),  # type: ignore[arg-type]
            sampler=sampler,
            load_if_exists=True,
        )
        for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # of a command that was interrupted
            study.enqueue_trial(trial.params)
        if len(study.trials):  # a continued study draws on, not the same again
            sampler.reseed_rng()
        return study


def distribution(override: Override) -> Any:
    """Optuna's distribution for one of Hydra's sweeps.

    Raises: UserError for one that it has none for.
    """
    from optuna import distributions

    sweep, key = override.value(), override.get_key_element()
    if isinstance(sweep, IntervalSweep):
        assert sweep.start is not None
        assert sweep.end is not None
        if isinstance(sweep.start, int) and isinstance(sweep.end, int):
            return distributions.IntDistribution(sweep.start, sweep.end, log="log" in sweep.tags)
        return distributions.FloatDistribution(float(sweep.start), float(sweep.end), log="log" in sweep.tags)
    if isinstance(sweep, (ChoiceSweep, RangeSweep)):
        # as Hydra would write the values of a sweep over them
        return distributions.CategoricalDistribution(list(override.sweep_string_iterator()))
    raise UserError(f"{key}={override.get_value_element_as_str()}; expected interval, range or choice to search over")


def _good(study: Any) -> list[Any]:
    """The trials that succeeded."""
    return [trial for trial in study.trials if trial.state.name == "COMPLETE" and "error" not in trial.user_attrs]


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)

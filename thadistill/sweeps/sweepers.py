"""Sweepers: all combinations of values, in one table at the end, with what failed; the exit status says so too."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from thadistill.errors import UserError
from thadistill.sweeps.collect import collect, markdown_table
from thadistill.sweeps.job import Result, SweepFailed


def report(folder: Path, results: Sequence[Result]) -> None:
    """Collects a sweep's folder, prints its table and where it lies, and what failed.

    Raises: SweepFailed when a job did.
    """
    try:
        rows = collect(folder)
    except UserError:  # jobs that leave no record of a run, such as benchmark's
        rows = []
    if rows:
        print(markdown_table(rows))
        print(f"{len(rows)} runs: see {folder / 'table.md'} and results.csv next to it", file=sys.stderr)
    jobs = {(result.job.folder, result.job.overrides): result for result in results}  # a value given twice is one job
    failed = [result for result in jobs.values() if result.error is not None]
    for result in failed:
        print(f"failed: {result.job.label} in '{result.job.folder.name}': {result.error}", file=sys.stderr)
    if failed:
        raise SweepFailed(
            f"{len(failed)} of {len(jobs)} jobs failed (each says more in its job.log); the same command runs those again"
        )


class GridSweeper(Sweeper):
    """Hydra's own sweeper, every combination of the values given, with :func:`report` at its end."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Makes Hydra's sweeper, and it the launcher."""
        own: Any = next(one for one in Plugins.instance().discover(Sweeper) if one.__name__ == "BasicSweeper")
        self.folder = Path(config.hydra.sweep.dir)
        self.inner = own(max_batch_size=None)
        self.inner.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        """Runs the jobs. Raises: SweepFailed when some failed."""
        batches = self.inner.sweep(arguments)
        report(self.folder, [job.return_value for batch in batches for job in batch])

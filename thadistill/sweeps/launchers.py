"""Launchers: the workers that run a sweep's jobs: joblib on one machine, submitit on a SLURM cluster, Ray on either.

Hydra plugins of the first two exist, but let one lost worker take the sweep down, and hydra-ray-launcher pins an old
cloudpickle beside cloud tools; these are thin because a job is a command of its own (thadistill.sweeps.job): what travels
to a worker is its description. Workers see the same files: folders, caches and this package.
"""

from __future__ import annotations

import os
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from thadistill.errors import UserError, check_whole, first_line
from thadistill.sweeps.job import Job, Result, check_folder, describe, run

# what Ray's own processes get to start in: its half a minute, or one, is too little on a machine full of work
_RAY_PATIENCE = {
    "RAY_gcs_server_port_wait_time_s": "300",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores(workers: int | None, jobs: int, available: int) -> tuple[int, int]:
    """Workers and threads for each: without a wish one worker for two cores, two at least, never more than jobs."""
    wanted = max(2, available // 2) if workers is None else workers
    count = max(1, min(wanted, jobs))
    return count, max(1, available // count)


class JobLauncher(Launcher):
    """Turns every combination of overrides into a :class:`Job`, and has the subclass run them all."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what Hydra gives."""
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs a job for each list of overrides; one that fails, or loses its worker, is a Result with its error."""
        setup_globals()
        returns = [self._describe(list(given), initial_job_idx + i) for i, given in enumerate(job_overrides)]
        for given in returns:
            check_folder(given.return_value)
        jobs = {given.return_value.folder: given.return_value for given in reversed(returns)}  # the first of each
        each = list(reversed(jobs.values()))
        results = dict(zip([job.folder for job in each], self.run(each), strict=True))
        for given in returns:
            given.return_value, given.status = results[given.return_value.folder], JobStatus.COMPLETED
        return returns

    def _describe(self, overrides: list[str], number: int) -> JobReturn:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        HydraConfig.instance().set_config(config)
        return run_job(
            task_function=lambda given: describe(given, config.hydra.job.config_name),
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=self.hydra_context,
            configure_logging=False,
        )

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> list[Result]:
        """Runs all jobs and waits for them."""


def _gather(jobs: Sequence[Job], wait: Callable[[int], Result]) -> list[Result]:
    """``wait`` for each job; where its worker was lost, that is the job's error and the others' results stand."""
    results = []
    for index, job in enumerate(jobs):
        try:
            results.append(wait(index))
        except Exception as error:  # whatever the launcher's library raises
            line = " ".join(str(error).split())[:300]
            results.append(Result(job, f"its worker was lost ({type(error).__name__}: {line})"))
    return results


class JoblibLauncher(JobLauncher):
    """Workers on this machine.

    Args:
        workers: how many; None: one for two cores. Each job gets its share of the cores as threads.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers

    def run(self, jobs: Sequence[Job]) -> list[Result]:
        """Runs the jobs by joblib."""
        if self.workers is not None:
            check_whole("hydra.launcher.workers", self.workers)
        joblib = _import("joblib")
        workers, threads = share_cores(self.workers, len(jobs), cores())
        print(f"joblib: {len(jobs)} jobs, {workers} workers, {threads} threads each", file=sys.stderr)
        # threads wait for the jobs, which are processes
        pool = joblib.Parallel(n_jobs=workers, backend="threading", batch_size=1)
        return list(pool(joblib.delayed(run)(replace(job, threads=threads)) for job in jobs))


class SubmititLauncher(JobLauncher):
    """Jobs to a SLURM cluster, or to processes of this machine.

    Args:
        cluster: ``slurm``, or ``local``, where every job starts at once.
        folder: submitit's own records; on a file system that all machines see.
        parameters: of submitit's executor: ``timeout_min``, ``cpus_per_task``, ``slurm_partition`` and others.
    """

    def __init__(self, cluster: str, folder: str, parameters: Mapping[str, Any]) -> None:
        self.cluster, self.folder, self.parameters = cluster, folder, dict(parameters)

    def run(self, jobs: Sequence[Job]) -> list[Result]:
        """Submits the jobs as one array and waits for them."""
        submitit = _import("submitit")
        try:
            executor = submitit.AutoExecutor(folder=self.folder, cluster=self.cluster)
            executor.update_parameters(**{key: value for key, value in self.parameters.items() if value is not None})
        except (RuntimeError, NameError, TypeError, ValueError) as error:  # no SLURM here, or an option that it lacks
            reason = first_line(error)
            raise UserError(f"submitit ({self.cluster}): {reason}; expected SLURM here and its own options") from None
        threads = self.parameters.get("cpus_per_task")
        if self.cluster == "local":
            threads = share_cores(len(jobs), len(jobs), cores())[1]
        with executor.batch():
            handles = [executor.submit(run, replace(job, threads=threads)) for job in jobs]
        print(f"submitit ({self.cluster}): {len(jobs)} jobs, {handles[0].job_id} and on", file=sys.stderr)
        return _gather(jobs, lambda index: handles[index].result())


class RayLauncher(JobLauncher):
    """Jobs as Ray tasks, on a cluster or on this machine.

    Args:
        init: arguments of ``ray.init``: ``address`` of a cluster (``auto`` on one of its machines), or none: this
            machine, with ``num_cpus``.
        num_cpus: cores, and threads, of a job; None: this machine's cores shared between two workers.
        num_gpus: GPUs of a job; a fraction shares one.
    """

    def __init__(self, init: Mapping[str, Any], num_cpus: int | None = None, num_gpus: float | None = None) -> None:
        self.init, self.num_cpus, self.num_gpus = dict(init), num_cpus, num_gpus

    def run(self, jobs: Sequence[Job]) -> list[Result]:
        """Runs the jobs as Ray tasks; each is tried again elsewhere once if its machine is lost."""
        if self.num_cpus is not None:
            check_whole("hydra.launcher.num_cpus", self.num_cpus)
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # jobs without GPUs don't lose sight of them
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # prints every job's line
        for name, value in _RAY_PATIENCE.items():
            os.environ.setdefault(name, value)
        ray = _import("ray")
        mine = not ray.is_initialized()
        if mine:
            self._start(ray)
        try:
            there = ray.cluster_resources()
            total = int(there.get("CPU", 1))
            for kind, wanted in (("CPU", self.num_cpus), ("GPU", self.num_gpus)):
                if wanted and wanted > there.get(kind, 0):  # it would wait for ever
                    raise UserError(
                        f"hydra.launcher.num_{kind.lower()}s={wanted}; expected {there.get(kind, 0):g} at most, as Ray has"
                    )
            threads = self.num_cpus or share_cores(2, len(jobs), total)[1]
            task = ray.remote(num_cpus=threads, num_gpus=self.num_gpus, max_retries=1)(run)
            print(f"Ray: {len(jobs)} jobs, {threads} cores each of {total}", file=sys.stderr)
            handles = [task.remote(replace(job, threads=threads)) for job in jobs]
            return _gather(jobs, lambda index: ray.get(handles[index]))
        finally:
            if mine:
                ray.shutdown()

    def _start(self, ray: Any) -> None:
        """Starts or joins Ray, again where time runs out: its half a minute for the machine's node cannot be set."""
        for again in (True, True, False):
            try:
                ray.init(**self.init)
                return
            except Exception as error:
                ray.shutdown()
                if not again or "timed out" not in str(error).lower():
                    raise UserError(f"Ray does not start ({' '.join(str(error).split())[:300]})") from None


def _import(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise UserError(f"hydra/launcher needs {name}, which is not here: pip install 'thadistill[sweep]'") from None

"""A sweep's job: one command as a process of its own, what it printed in job.log, what became of it in job.json.

A process a job, whatever launches it: a crash, a full memory or a diverging run ends one job, and each has its own
wall-clock budget and threads. This module imports nothing heavy, as launchers' workers import it.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import thadistill
from thadistill.config import keyed
from thadistill.config.overrides import quoted
from thadistill.console import shown
from thadistill.errors import UserError
from thadistill.files import read_json, write_json
from thadistill.pipeline.character import prepare_character
from thadistill.processes import environment_of_job

_PATIENCE = 20.0  # seconds for an interrupted job of the same folder to save what it has


class SweepFailed(Exception):
    """Some of a sweep's jobs failed; which and why has been printed."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to run a job: ``thadistill VERB OVERRIDES out=FOLDER``, in folder ``cwd``."""

    verb: str
    overrides: tuple[str, ...]
    folder: Path
    cwd: Path
    digest: str  # of the composed configuration and of the files that it names
    label: str = "job"
    config_dir: str | None = None  # a further folder of configs
    searched: tuple[str, ...] = ()  # the places of hydra.searchpath
    threads: int | None = None  # None: as many as the machine has cores


@dataclass(frozen=True)
class Result:
    """What became of a job: ``error`` is one line, None where it succeeded; ``metrics`` is its metrics.json, if any."""

    job: Job
    error: str | None
    metrics: dict[str, Any] = field(default_factory=dict)


_taken: dict[Path, tuple[str, ...]] = {}  # the overrides of this sweep's folders


def check_folder(job: Job) -> None:
    """Raises: UserError when another job of this sweep, with other overrides, has its folder."""
    before = _taken.setdefault(job.folder, job.overrides)
    if before != job.overrides:
        raise UserError(
            f"{' '.join(job.overrides)} and {' '.join(before)} would share the folder {job.folder.name}; expected "
            "combinations whose names differ: sweep trainer and logger by commands with an out= each"
        )


def describe(config: DictConfig, verb: str) -> Job:
    """The job that Hydra is about to run, from its composed configuration."""
    if "folder" in (config.get("character") or {}):
        prepare_character(config)  # a picture's job is known by what it is prepared into
    settings = HydraConfig.get()
    sources = [(one.provider, f"{one.schema}://{one.path}") for one in settings.runtime.config_sources]
    content = json.dumps(keyed(config)[0], sort_keys=True, default=str)
    return Job(
        verb,
        tuple(item for item in settings.overrides.task if item.partition("=")[0] != "out"),
        Path(settings.runtime.output_dir),
        Path.cwd(),
        hashlib.sha256(content.encode()).hexdigest()[:16],
        f"job {settings.job.num}",
        next((path for provider, path in sources if provider == "command-line"), None),
        tuple(path for provider, path in sources if provider.startswith("hydra.searchpath")),
    )


def run(job: Job) -> Result:
    """Runs a job to its end; one that an earlier sweep finished, with the same configuration, is not run again."""
    record = job.folder / "job.json"
    state = {"verb": job.verb, "overrides": job.overrides, "digest": job.digest, "status": "running"}
    if _is_done(record, job):
        print(f"{job.label}: done already", file=sys.stderr, flush=True)
        return Result(job, None, _metrics(job))
    job.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(job.folder / ".lock")  # the system lets it go when its process ends, however it ends
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        return Result(job, f"runs already, started by another command; expected to be alone in {shown(job.folder)}")
    with lock:
        if _is_done(record, job):
            return Result(job, None, _metrics(job))
        return _alone(job, record, state)


def _alone(job: Job, record: Path, state: dict[str, Any]) -> Result:
    write_json(record, state)
    print(f"{job.label}: started, prints to '{shown(job.folder / 'job.log')}'", file=sys.stderr, flush=True)
    started = time.monotonic()
    with (job.folder / "job.log").open("w") as log:
        code = _process(job, log.fileno())
    if code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    error = None if code == 0 else _error(job.folder / "job.log", code)
    minutes = (time.monotonic() - started) / 60
    write_json(record, {**state, "status": "failed" if error else "done", "error": error, "minutes": round(minutes, 3)})
    metrics = {} if error else _metrics(job)
    quality = next((name for name in ("psnr", "val_psnr") if isinstance(metrics.get(name), float)), None)
    psnr = f", {quality} {metrics[quality]:.2f} dB" if quality else ""
    print(
        f"{job.label}: {f'FAILED, {error}' if error else f'done in {minutes:.1f} minutes{psnr}'}",
        file=sys.stderr,
        flush=True,
    )
    return Result(job, error, metrics)


def _process(job: Job, log: int) -> int:
    environment = {**os.environ, **environment_of_job(), "HYDRA_FULL_ERROR": "1", "COLUMNS": "200"}
    if job.threads is not None:
        environment["OMP_NUM_THREADS"] = str(job.threads)
    root = Path(thadistill.__file__).parent.parent
    if root.name not in ("site-packages", "dist-packages"):  # a checkout, perhaps found through the current folder
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH")]))
    environment["PYTHONSAFEPATH"] = "1"  # a queue.py of the user's own does not stand for Python's
    command = [sys.executable, "-m", "thadistill.cli", job.verb, *job.overrides, f"out={job.folder}"]
    if job.config_dir is not None:
        command += ["--config-dir", job.config_dir.removeprefix("file://")]
    if job.searched:
        command.append(f"hydra.searchpath=[{','.join(quoted(place) for place in job.searched)}]")
    process = subprocess.Popen(
        command, cwd=job.cwd, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        return process.wait()
    except BaseException:
        if os.name == "posix":
            process.send_signal(signal.SIGINT)  # it saves what it has
        else:
            process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        raise


def _is_done(record: Path, job: Job) -> bool:
    try:
        found = read_json(record)
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and (found.get("status"), found.get("digest")) == ("done", job.digest)


def _metrics(job: Job) -> dict[str, Any]:
    try:
        found = read_json(job.folder / "metrics.json")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _error(log: Path, code: int) -> str:
    """One line: what the command said to its user, else the exception's line, else the signal that ended it."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"ended by {name}" + (": was memory short?" if name == "SIGKILL" else "")
    lines = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    messages = [line for line in lines if line.startswith("thadistill: ")]
    # a traceback's frames are indented, its exception is what follows them
    last = next((i for i in range(len(lines), 0, -1) if lines[i - 1].startswith(" ")), max(0, len(lines) - 1))
    line = messages[-1].removeprefix("thadistill: ") if messages else " ".join(lines[last:])
    return line[:500] or f"exit status {code}"

"""Run folder: what a run planned and did, in its ``run.json``; how an interrupted one knows where to continue."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from thadistill.config import keyed
from thadistill.errors import UserError
from thadistill.files import read_json, write_json, write_text
from thadistill.processes import is_first

_MOST_MINUTES = 1e9  # of a record that is whole


class RunFolder:
    """The folder of one run: its plan and what is done, in ``run.json``.

    Raises: UserError when the folder holds a run of another configuration, or of another picture, mask, init, pose file.
    """

    def __init__(self, folder: Path, config: DictConfig) -> None:
        self.folder = folder
        content, hashes = keyed(config)
        self.digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
        self.path = folder / "run.json"
        self.state: dict[str, Any] = {"digest": self.digest, "contents": hashes, "plan": {}, "steps": []}
        if self.path.is_file():
            found = _read(self.path)
            if found.get("digest") != self.digest:
                before = found.get("contents", {})
                other = [key for key in sorted({*before, *hashes}) if before.get(key) != hashes.get(key)]
                what = f"the content of {' and '.join(other)}" if other else "its configuration"
                raise UserError(
                    f"{folder} holds a run with key {found.get('digest')}; expected {self.digest}, as {what} "
                    f"differs: give another out=, or delete the folder"
                )
            self.state = found

    def record(self, config: DictConfig, about: Mapping[str, Any]) -> None:
        """Puts the configuration into the folder, resolved and as it was composed, and ``about`` into ``run.json``."""
        self.state.setdefault("about", dict(about))
        self.save()
        if is_first():
            write_text(self.folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
            write_text(self.folder / "config_composed.yaml", OmegaConf.to_yaml(config))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other runs out of the folder.

        Raises: UserError where one is at work in it.
        """
        if not is_first():
            yield
            return
        lock = FileLock(self.folder / ".run.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"{self.folder} has another run at work in it; wait for it, or give another out=") from None
        try:
            yield
        finally:
            with suppress(OSError):  # Windows keeps files that are open
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def save(self) -> None:
        """Puts the state on disk; the first process's alone."""
        if is_first():
            write_json(self.path, self.state)

    def planned(self, name: str, value: Callable[[], Any]) -> Any:
        """A number decided once: later calls, also of a continued run, get the first answer."""
        if name not in self.state["plan"]:
            self.state["plan"][name] = value()
            self.save()
        return self.state["plan"][name]

    @contextmanager
    def step(self, name: str, started: float | None = None) -> Iterator[dict[str, str]]:
        """Times a step; what the body writes into ``detail`` is reported. A continued step adds to its time."""
        started = time.monotonic() if started is None else started
        step: dict[str, str] = {"detail": ""}
        finished = False
        try:
            yield step
            finished = True
        finally:
            row = next((row for row in self.state["steps"] if row["name"] == name), None)
            if row is None:
                row = {"name": name, "minutes": 0.0, "detail": ""}
                self.state["steps"].append(row)
            row["minutes"] += (time.monotonic() - started) / 60
            row["detail"] = step["detail"] if finished else "interrupted"
            self.save()

    def take_in(self, folder: Path, name: str) -> None:
        """Keeps the steps of another process's record under ``name``: their minutes ran in parallel with these."""
        self.state[name] = _read(folder / self.path.name)["steps"]
        self.save()

    def spent(self, name: str) -> float:
        """Minutes that the step ``name`` has taken so far."""
        return sum((row["minutes"] for row in self.state["steps"] if row["name"] == name), 0.0)

    @property
    def minutes(self) -> float:
        """Spent so far over all steps."""
        return sum((row["minutes"] for row in self.state["steps"]), 0.0)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
        whole = isinstance(found, dict) and isinstance(found.get("contents", {}), dict)
        whole = whole and all(value is None or 0 <= value <= _MOST_MINUTES for value in found["plan"].values())
        whole = whole and all(isinstance(rows, list) for rows in (found["steps"], found.get("worker", [])))
        whole = whole and all(
            isinstance(row["name"], str) and isinstance(row["detail"], str) and 0 <= row["minutes"] <= _MOST_MINUTES
            for row in [*found["steps"], *found.get("worker", [])]
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise UserError(f"{path} is damaged; expected a run's record: delete {path.parent} or give out=") from None
    return found

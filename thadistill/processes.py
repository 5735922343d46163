"""Processes: which of a training's is the first, and that those that a command starts end when it is gone."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Mapping

_VARIABLE = "THADISTILL_JOB_OF"  # the process that waits for this one
_LOOK_EVERY, _PATIENCE = 0.2, 2  # seconds: five after its parent, a job is gone


def is_first_process(environment: Mapping[str, str]) -> bool:
    """Whether a process is the first of a training's, over all nodes; the others train along and neither speak nor write.

    torchrun and Lightning tell it ``RANK``, SLURM ``SLURM_PROCID`` (of a batch script itself, which starts no tasks, it is
    0 too); Lightning's own launcher ``LOCAL_RANK``, and a user of several nodes ``NODE_RANK`` or ``GROUP_RANK``.
    """
    for name in ("RANK", "SLURM_PROCID"):
        if environment.get(name, "").isdigit() and not (name == "SLURM_PROCID" and "LOCAL_RANK" in environment):
            return environment[name] == "0"
    return all(environment.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK"))


class _Own:
    first = is_first_process(os.environ)


def is_first() -> bool:
    """Whether this process is the first of its training's."""
    return _Own.first


def train_alone() -> None:
    """Makes this process the first and only one of its training, whatever SLURM calls it among a job's tasks.

    For those that it starts, too.
    """
    os.environ.pop("SLURM_PROCID", None)
    _Own.first = is_first_process(os.environ)


def environment_of_job() -> dict[str, str]:
    """What tells a process to end with this one."""
    return {_VARIABLE: str(os.getpid())}


def end_with_parent() -> None:
    """Where this process is a sweep's job: watches its parent from a thread, and is interrupted when that is gone.

    An interruption saves what there is; what has not ended by it after some seconds is killed,
    which costs no more than what was not saved yet. The watch is a thread, which a call that keeps Python's
    lock delays; a signal of the kernel's exists on Linux only, and follows the parent's thread.
    """
    parent = os.environ.pop(_VARIABLE, None)
    if parent is None or os.name != "posix":
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell would ignore it
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(_LOOK_EVERY)
        signal.alarm(
            _PATIENCE
        )  # the kernel's: an import or a kernel that holds Python's lock would keep a thread waiting
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def spawn(function: str, *arguments: object, pipe: object = None) -> multiprocessing.process.BaseProcess:
    """Starts ``"module:function"`` in a process of its own, which ends at once when this one is gone.

    Args:
        arguments: anything that pickles. pipe: a last argument that only a starting process may be given.

    The child watches before it imports anything: importing torch takes seconds, and a command may be killed meanwhile.
    """
    process = multiprocessing.get_context("spawn").Process(
        target=_watched, args=(function, pickle.dumps(arguments), pipe), name=function.rpartition(".")[2], daemon=True
    )
    process.start()
    return process


def _watched(function: str, arguments: bytes, pipe: object) -> None:
    threading.Thread(target=_end_with_the_first, name="parent", daemon=True).start()
    module, _, name = function.partition(":")
    run = getattr(importlib.import_module(module), name)
    run(*pickle.loads(arguments), *(() if pipe is None else (pipe,)))


def _end_with_the_first() -> None:
    first = multiprocessing.parent_process()
    assert first is not None
    first.join()
    os._exit(1)

"""Parent: a sweep's job ends when the command that started it is gone, however that one ended."""

from __future__ import annotations

import os
import signal
import threading
import time

_VARIABLE = "THADISTILL_JOB_OF"  # the process that waits for this one
_LOOK_EVERY, _PATIENCE = 0.5, 15.0  # seconds


def environment_of_job() -> dict[str, str]:
    """What tells a process to end with this one."""
    return {_VARIABLE: str(os.getpid())}


def end_with_parent() -> None:
    """Where this process is a sweep's job: watches its parent from a thread, and is interrupted when that is gone.

    An interruption saves what there is; what has not ended by it after some seconds is killed. A thread, not a signal of
    the kernel's, as that exists on Linux only and follows the parent's thread.
    """
    parent = os.environ.pop(_VARIABLE, None)
    if parent is None or os.name != "posix":
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell would ignore it

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(_LOOK_EVERY)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(_PATIENCE)
        os._exit(130)

    threading.Thread(target=watch, name="parent", daemon=True).start()

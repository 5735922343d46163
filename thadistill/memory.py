"""Memory that is freed: kept (on a CPU a fifth of a training step, a third of a teacher's pose), or given back."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Tells glibc to keep what tensors free instead of returning it to the system at once.

    Large tensors are otherwise mapped and unmapped at every operation, and each page is zeroed by the kernel when it is
    first touched. Does nothing, and returns False, where the C library has no ``mallopt``.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def return_freed_memory() -> bool:
    """Gives back to the system what is freed and still held, so that the process's size says what is in use.

    Does nothing, and returns False, where the C library has no ``malloc_trim``.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):
        return False

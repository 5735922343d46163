"""Memory: how much there is; what is freed is kept (else a fifth of a CPU's training step goes there) or given back."""

from __future__ import annotations

import ctypes
import os

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


def machine_memory() -> int | None:
    """Bytes of the machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None

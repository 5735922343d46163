"""Devices: where teacher and student run, and the memory there is. What is not on the machine is refused."""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from thadistill.errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h
_NAMES = re.compile(r"auto|cpu|gpu|mps|cuda(:\d+)?")


def count_gpus() -> int:
    """CUDA devices that PyTorch can use here."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def resolve_device(wanted: object, key: str = "device") -> torch.device:
    """The device that a user's word stands for.

    Args:
        wanted: ``auto`` (a CUDA device if there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:N``, ``mps``, or ``gpu``
            (whichever of the last three there is).
        key: what the user calls it.

    Raises: UserError when it is another word, or the device is not on this machine.
    """
    word = str(wanted)
    if not _NAMES.fullmatch(word):
        raise UserError(f"{key}={word}; expected auto, cpu, cuda, cuda:N or mps")
    gpus, mps = count_gpus(), torch.backends.mps.is_available()
    if word == "auto":
        return torch.device("cuda" if gpus else "cpu")
    if word == "gpu":
        word = "mps" if mps and not gpus else "cuda"
    device = torch.device(word)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        here = f"{gpus} of them here" if gpus else "no CUDA device that PyTorch can use here"
        raise UserError(f"{key}={wanted}, but there is {here}; expected one that is: try {key}=auto")
    if device.type == "mps" and not mps:
        raise UserError(f"{key}={wanted}, but PyTorch has no MPS device here; expected one that is: try {key}=auto")
    return device


def trainer_device(trainer: DictConfig) -> torch.device:
    """The device of this process under the ``accelerator`` and ``devices`` of conf/trainer: where its teacher runs too.

    Raises: UserError when one of those asked for is not on this machine.
    """
    device = resolve_device(trainer.accelerator, "trainer.accelerator")
    if device.type != "cuda" or device.index is not None:
        return device
    numbers = _numbers(trainer.get("devices", 1))
    for number in numbers:
        resolve_device(f"cuda:{number}", f"trainer.devices={trainer.devices}: device")
    number = numbers[int(os.environ.get("LOCAL_RANK", 0)) % len(numbers)]
    return torch.device("cuda", number) if number else device


def is_alone(trainer: DictConfig) -> bool:
    """Whether a trainer is one process on one device."""
    return (
        str(trainer.get("devices", 1)) == "1"
        and trainer.get("num_nodes", 1) == 1
        and trainer.get("strategy", "auto") == "auto"
    )


def placed(trainer: DictConfig) -> dict[str, Any]:
    """What ``auto`` is for a Lightning trainer: the type of :func:`trainer_device`, not a choice of its own.

    One process on one machine is that also in a SLURM allocation of several tasks, whose numbers Lightning would take for
    those of its processes.
    """
    settings: dict[str, Any] = {"accelerator": trainer_device(trainer).type} if trainer.accelerator == "auto" else {}
    if is_alone(trainer) and not trainer.get("plugins") and "SLURM_NTASKS" in os.environ:
        from lightning.fabric.plugins.environments import LightningEnvironment

        settings["plugins"] = [LightningEnvironment()]
    return settings


def _numbers(devices: object) -> list[int]:
    """Of the GPUs that Lightning takes for ``devices``: a count, a list of numbers, ``auto`` or -1 for all."""
    if isinstance(devices, str):
        devices = [int(part) for part in devices.split(",") if part.strip()] if "," in devices else devices
    if devices in ("auto", -1, "-1"):
        return list(range(count_gpus()))
    if isinstance(devices, int | str):
        try:
            count = int(devices)
        except ValueError:
            count = 0
        if count < 1:
            raise UserError(f"trainer.devices={devices}; expected a count, a list of numbers, or auto")
        return list(range(count))
    return [int(number) for number in devices]  # type: ignore[attr-defined]


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


_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


def machine_memory() -> int | None:
    """Bytes of memory that this process may have: the machine's, or its container's; None where the system does not say."""
    known = []
    with suppress(AttributeError, OSError, ValueError):
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in _MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # "max": no limit
            known.append(int(Path(path).read_text()))
    return min(known, default=None)

"""Native build: compiles C++ kernels with the system's compiler, once a machine and source, and loads them."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from thadistill.files import cache_folder

# No -ffast-math: the sine rounds by adding and subtracting a constant, which it would cancel.
_FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
_SHARED = ("-fPIC", "-shared", "-fopenmp")
_HEADERS = Path(__file__).parent  # where what kernels include lies


class NativeUnavailable(RuntimeError):
    """There is no compiler here, or it could not build the kernels; the message says which."""


def compiler() -> str | None:
    """The C++ compiler: CXX, else g++, clang++ or c++; None where there is none."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    return next((found for name in names if (found := shutil.which(name))), None)


@functools.cache
def _cpu_lines() -> tuple[str, ...]:
    """What Linux says of the processors; nothing elsewhere."""
    try:
        return tuple(Path("/proc/cpuinfo").read_text().splitlines())
    except OSError:
        return ()


def cpu_field(name: str) -> str:
    """A line of what Linux says of the first processor, as ``model name`` or ``cpu family``; empty elsewhere."""
    fields = (line.partition(":") for line in _cpu_lines())
    return next((value.strip() for key, _, value in fields if key.strip() == name), "")


def cpu_flags() -> frozenset[str]:
    """The processor's features as Linux names them (``avx512f``, ``avx512_vnni``, ``amx_int8``...); empty elsewhere."""
    return frozenset(cpu_field("flags").split())


def made_by_intel() -> bool:
    """Whether the processor says so; False where nothing does."""
    return cpu_field("vendor_id") == "GenuineIntel"


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16, two to four times as fast as those of float32."""
    return bool({"avx512_bf16", "amx_bf16"} & cpu_flags())


def target_flags() -> tuple[str, ...]:
    """Compiler flags for the machine at hand; THADISTILL_NATIVE_FLAGS replaces them (to build for a lesser one)."""
    given = os.environ.get("THADISTILL_NATIVE_FLAGS")
    return tuple(given.split()) if given is not None else ("-march=native",)


@functools.cache
def _load(source: Path, flags: tuple[str, ...]) -> ctypes.CDLL:
    found = compiler()
    if found is None:
        raise NativeUnavailable("no C++ compiler found (CXX, g++, clang++, c++)")
    identity = [found, *_FLAGS, *_SHARED, *flags, platform.machine(), *sorted(cpu_flags())]
    read = b"".join(file.read_bytes() for file in [source, *sorted(_HEADERS.glob("*.hpp"))])
    key = hashlib.sha256(read + "\n".join(identity).encode()).hexdigest()[:16]
    path = cache_folder() / "native" / f"{source.stem}_{key}.so"
    if not path.is_file():
        try:
            _build(found, source, flags, path)
        except OSError as error:
            raise NativeUnavailable(f"{path.parent} cannot be written ({error})") from None
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"{path} cannot be loaded ({error})") from None


def _build(found: str, source: Path, flags: tuple[str, ...], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        beside = Path(folder) / path.name
        command = [found, *_FLAGS, *_SHARED, *flags, f"-I{_HEADERS}", "-o", str(beside), str(source)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        except subprocess.TimeoutExpired:
            raise NativeUnavailable(f"{found} took longer than 300 s") from None
        if result.returncode:
            reason = next((line for line in result.stderr.splitlines() if "error" in line), f"exit {result.returncode}")
            raise NativeUnavailable(f"{found} failed: {reason}")
        os.replace(beside, path)  # whole or not at all: several processes may build at once


def load_native(source: Path) -> ctypes.CDLL:
    """The kernels of a C++ file, built on the first call on a machine (a few seconds) and read from the cache afterwards.

    Raises: NativeUnavailable when there is no compiler, or it fails.
    """
    return _load(source, target_flags())

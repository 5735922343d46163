"""Native build: compiles C++ kernels with the system's compiler, once a machine and source, and loads them."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from thadistill.files import cache_folder

# No -ffast-math: the sine rounds by adding and subtracting a constant, which it would cancel.
_FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
_SHARED = ("-fPIC", "-shared")
_LIBOMP = (
    "/opt/homebrew/opt/libomp",
    "/usr/local/opt/libomp",
    "/opt/local",
)  # where Macs have it, which Apple clang lacks
_HEADERS = Path(__file__).parent  # where what kernels include lies


class NativeUnavailable(RuntimeError):
    """There is no compiler here, or it could not build the kernels; the message says which."""


def compiler() -> list[str] | None:
    """The C++ compiler's command: CXX, which may have arguments, else g++, clang++ or c++; None where there is none."""
    given = shlex.split(os.environ.get("CXX", ""))
    for name, *arguments in [given] if given else [["g++"], ["clang++"], ["c++"]]:
        found = shutil.which(name)
        if found:
            return [found, *arguments]
    return None


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


def _attempts(flags: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Flags to try one after the other: with OpenMP, with a Mac's libomp, without threads, without the machine's own."""
    attempts = [(*flags, "-fopenmp")]
    if sys.platform == "darwin":
        for folder in map(Path, _LIBOMP):
            if (folder / "include" / "omp.h").is_file() or (folder / "include" / "libomp" / "omp.h").is_file():
                places = [
                    f"-I{folder}/include",
                    f"-I{folder}/include/libomp",
                    f"-L{folder}/lib",
                    f"-L{folder}/lib/libomp",
                ]
                attempts.append((*flags, "-Xpreprocessor", "-fopenmp", *places, "-lomp"))
    return [*attempts, flags, ()] if flags else [*attempts, ()]


class Built:
    """What has been built or loaded in this process, for :func:`kernels_line`."""

    seconds = 0.0  # that compilers took
    threads = True  # whether all kernels have OpenMP
    failure: str | None = None


@functools.cache
def _load(source: Path, flags: tuple[str, ...]) -> ctypes.CDLL:
    began = time.monotonic()
    try:
        return _load_or_build(source, flags)
    except NativeUnavailable as error:
        Built.failure = str(error)
        raise
    finally:
        Built.seconds += time.monotonic() - began


def _load_or_build(source: Path, flags: tuple[str, ...]) -> ctypes.CDLL:
    found = compiler()
    if found is None:
        raise NativeUnavailable("no C++ compiler found (CXX, g++, clang++, c++)")
    identity = [*found, *_FLAGS, *_SHARED, *flags, platform.machine(), *sorted(cpu_flags())]
    read = b"".join(file.read_bytes() for file in [source, *sorted(_HEADERS.glob("*.hpp"))])
    key = hashlib.sha256(read + "\n".join(identity).encode()).hexdigest()[:16]
    path = cache_folder() / "native" / f"{source.stem}_{key}.so"
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):  # of several processes one builds, the others wait for it
                if not path.is_file():
                    _build(found, source, flags, path)
    except OSError as error:
        raise NativeUnavailable(f"{path.parent} cannot be written ({error})") from None
    Built.threads &= not path.with_suffix(".single").is_file()
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"{path} cannot be loaded ({error})") from None


def _build(found: list[str], source: Path, flags: tuple[str, ...], path: Path) -> None:
    reason = ""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        for attempt in _attempts(flags):
            temporary = Path(folder) / path.name
            # libraries come after what needs them
            command = [*found, *_FLAGS, *_SHARED, f"-I{_HEADERS}", "-o", str(temporary), str(source), *attempt]
            try:
                result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            except subprocess.TimeoutExpired:
                raise NativeUnavailable(f"{shlex.join(found)} took longer than 300 s") from None
            if not result.returncode and temporary.is_file():
                if not any("openmp" in flag for flag in attempt):
                    path.with_suffix(".single").touch()
                os.replace(temporary, path)  # whole or not at all
                return
            lines = [line for line in result.stderr.splitlines() if "error" in line]
            reason = reason or (lines[0] if lines else f"exit {result.returncode}")
    raise NativeUnavailable(f"{shlex.join(found)} failed: {reason}")


def built_in(loads: list[Callable[[], object]]) -> float:
    """Seconds that it took to build, or find built, what the functions of ``loads`` load; none of them may fail."""
    before = Built.seconds
    for load in loads:
        load()
    return Built.seconds - before


def kernels_line() -> str:
    """Which kernels run in this process, and why not native ones, in a few words."""
    if Built.failure is not None:
        return f"kernels: plain PyTorch, slower, as {Built.failure}"
    threads = (
        "" if Built.threads else ", on one thread each, as the compiler has no OpenMP (macOS: brew install libomp)"
    )
    return f"kernels: native C++{threads}"


def load_native(source: Path) -> ctypes.CDLL:
    """The kernels of a C++ file, built on the first call on a machine (a few seconds) and read from the cache afterwards.

    Raises: NativeUnavailable when there is no compiler, or it fails.
    """
    return _load(source, target_flags())

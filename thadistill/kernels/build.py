"""Native build: compiles C++ kernels with the system's compiler, once a machine and source, and loads them."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
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
_HEADERS = Path(__file__).parent  # where what kernels include lies


class NativeUnavailable(RuntimeError):
    """There is no compiler here, or it could not build the kernels; the message says which."""


def compiler() -> list[str] | None:
    """The C++ compiler's command; None where there is none.

    CXX, which may have arguments, else g++, clang++ or c++, else Zig's from PyPI (``pip install 'thadistill[compiler]'``).
    """
    given = shlex.split(os.environ.get("CXX", ""))
    for name, *arguments in [given] if given else [["g++"], ["clang++"], ["c++"]]:
        found = shutil.which(name)
        if found:
            return [found, *arguments]
    return None if given else _zig()


def _zig() -> list[str] | None:
    """Zig's C++ compiler, where its package is installed."""
    package = importlib.util.find_spec("ziglang")
    if package is None or package.origin is None:
        return None
    program = shutil.which("zig", path=str(Path(package.origin).parent))
    return None if program is None else [program, "c++"]


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
    """The processor's features as Linux names them (``avx512f``, ``amx_int8``, on arm64 ``sve``...); empty elsewhere."""
    return frozenset((cpu_field("flags") or cpu_field("Features")).split())


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
    """Flags to try one after the other: with the machine's own, without them."""
    threads = thread_flags(sys.platform)
    return [(*flags, *threads), threads] if flags else [threads]


def thread_flags(platform: str) -> tuple[str, ...]:
    """What a compiler needs for std::thread on a platform, named as by ``sys.platform`` or in a target triple."""
    return () if "win32" in platform or "windows" in platform else ("-pthread",)


class Built:
    """What has been built or loaded in this process, for :func:`kernels_line`."""

    seconds = 0.0  # that compilers took
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
        raise NativeUnavailable("there is no C++ compiler: pip install 'thadistill[compiler]' brings one")
    identity = [*found, *_FLAGS, *_SHARED, *flags, platform.machine(), *sorted(cpu_flags()), *platform.libc_ver()]
    read = b"".join(file.read_bytes() for file in [source, *sorted(_HEADERS.glob("*.hpp"))])
    key = hashlib.sha256(read + "\n".join(identity).encode()).hexdigest()[:16]
    path = cache_folder() / "native" / f"{source.stem}_{key}.so"
    library = _loaded(path)
    if library is not None:
        return library
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # of several processes one builds, the others wait for it
            library = _loaded(path)
            if library is None:  # not built yet, or damaged, or by another system's library
                _build(found, source, flags, path)
    except OSError as error:
        raise NativeUnavailable(f"{path.parent} cannot be written ({error})") from None
    try:
        return library or ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"{path} cannot be loaded ({error})") from None


def _loaded(path: Path) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(path)) if path.is_file() else None
    except OSError:
        return None


def build_command(compiler: list[str], source: Path, flags: tuple[str, ...], out: Path) -> list[str]:
    """The command that builds the shared library ``out`` of a C++ file."""
    return [*compiler, *_FLAGS, *_SHARED, f"-I{_HEADERS}", "-o", str(out), str(source), *flags]


def _build(found: list[str], source: Path, flags: tuple[str, ...], path: Path) -> None:
    reason = ""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        for attempt in _attempts(flags):
            temporary = Path(folder) / path.name
            command = build_command(found, source, attempt, temporary)
            # Zig keeps what it has built of its own libraries
            environment = {"ZIG_GLOBAL_CACHE_DIR": str(path.parent / "zig"), **os.environ}
            try:
                result = subprocess.run(
                    command, env=environment, capture_output=True, text=True, timeout=300, check=False
                )
            except subprocess.TimeoutExpired:
                raise NativeUnavailable(f"{shlex.join(found)} took longer than 300 s") from None
            if not result.returncode and temporary.is_file():
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
    return "kernels: native C++"


def load_native(source: Path) -> ctypes.CDLL:
    """The kernels of a C++ file, built on the first call on a machine (a few seconds) and read from the cache afterwards.

    Raises: NativeUnavailable when there is no compiler, or it fails.
    """
    return _load(source, target_flags())

"""Native build: compilers with arguments, machines without one, several processes at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from thadistill.kernels import build

shutil_which = shutil.which
SOURCE = 'extern "C" int seven() { return 7; }\n'


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    path = tmp_path / "seven.cpp"
    path.write_text(SOURCE)
    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build.Built, "failure", None)
    build._load.cache_clear()
    yield path
    build._load.cache_clear()


def script(path: Path, lines: str) -> Path:
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path


def test_a_compilers_call_may_have_arguments(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "env LANG=C g++")
    assert build.load_native(source).seven() == 7
    assert build.kernels_line() == "kernels: native C++"


def test_zig_is_the_compiler_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is only asked for its version: it builds a C++ library of its own first, a minute; see test_other_machines."""
    pytest.importorskip("ziglang")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build.shutil, "which", lambda name, path=None: path and shutil_which(name, path=path))
    found = build.compiler()
    assert found is not None
    assert "clang version" in subprocess.run([*found, "--version"], capture_output=True, text=True, check=True).stdout


def test_without_a_compiler_the_line_says_what_to_install(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "compiler", lambda: None)
    with pytest.raises(build.NativeUnavailable):
        build.load_native(source)
    assert "pip install 'thadistill[compiler]'" in build.kernels_line()


def test_what_cannot_be_built_says_why(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(script(tmp_path / "broken", 'echo "error: out of luck" >&2; exit 1')))
    with pytest.raises(build.NativeUnavailable, match="out of luck"):
        build.load_native(source)
    assert build.kernels_line().startswith("kernels: plain PyTorch, slower, as ")
    assert "out of luck" in build.kernels_line()


def test_of_two_processes_one_builds(source: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    compiler = script(tmp_path / "slow", f'echo built >> "{log}"\nsleep 1\nexec g++ "$@"')
    code = f"from thadistill.kernels.build import load_native; from pathlib import Path; load_native(Path({str(source)!r}))"
    environment = {**os.environ, "CXX": str(compiler)}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert log.read_text().split() == ["built"]


@pytest.mark.parametrize("damage", [b"", b"\x7fELF of another system"])
def test_a_library_that_does_not_load_is_built_again(source: Path, damage: bytes) -> None:
    assert build.load_native(source).seven() == 7
    (built,) = build.cache_folder().rglob("*.so")
    built.unlink()  # not overwritten, as this process has it mapped
    built.write_bytes(damage)
    build._load.cache_clear()
    assert build.load_native(source).seven() == 7

"""The committed kernels.wasm against its source: the script gives it again, byte by byte, and it stays in its place."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.web.conftest import WEB

KERNELS = WEB / "engines" / "kernels.wasm"
BASE = 65536  # where wasm_plan.js begins


def test_the_script_gives_the_committed_kernels(tmp_path: Path) -> None:
    if shutil.which("clang++") is None or shutil.which("wasm-ld") is None:
        message = "no clang++ or no wasm-ld: apt-get install clang lld"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    version = subprocess.run(["clang++", "--version"], capture_output=True, text=True, check=True).stdout
    if "clang version 14." not in version and not os.environ.get("CI"):
        pytest.skip(f"the committed kernels are clang 14's; here is {version.splitlines()[0]}")
    built = tmp_path / "kernels.wasm"
    subprocess.run([str(WEB / "build_kernels.sh"), str(built)], check=True)
    assert built.read_bytes() == KERNELS.read_bytes(), "run thadistill/web/build_kernels.sh and commit what it gives"


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A LEB128 number and where it ends."""
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def _sections(data: bytes) -> dict[int, bytes]:
    found, at = {}, 8
    while at < len(data):
        kind = data[at]
        size, at = _number(data, at + 1)
        found[kind] = data[at : at + size]
        at += size
    return found


def test_stack_and_constants_end_below_the_plans_memory() -> None:
    data = KERNELS.read_bytes()
    assert data[:8] == b"\0asm\1\0\0\0"
    # globals: the stack's pointer, then the exported end of the kernels' own memory; i32.const is opcode 65
    section, limits = _sections(data)[6], []
    count, at = _number(section, 0)
    for _ in range(count):
        assert (section[at], section[at + 2]) == (0x7F, 65)
        value, at = _number(section, at + 3)
        limits.append(value)
        at += 1
    assert 0 < max(limits) <= BASE


def test_nothing_but_memory_is_imported() -> None:
    section = _sections(KERNELS.read_bytes())[2]
    assert section.startswith(b"\1\3env\6memory\2")  # one import, of kind 2: a memory

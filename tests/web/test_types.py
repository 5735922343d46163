"""The player's modules against their JSDoc types, by TypeScript's compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPILER = HERE / "node_modules" / "typescript" / "bin" / "tsc"


def test_types_hold() -> None:
    node = shutil.which("node")
    if node is None or not COMPILER.is_file():
        message = "no TypeScript: 'npm install --prefix tests/web' with Node.js"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    done = subprocess.run(
        [node, str(COMPILER), "-p", str(HERE / "tsconfig.json")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout

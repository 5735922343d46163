"""The player's modules in Node.js, for what needs no page: a script gets JSON, and gives JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import WEB


def run(script: str, folder: Path, given: object = None) -> Any:
    """What a module's ``answer`` is, given ``given``; ``./`` in its imports is the player's folder.

    The modules are copied, because older Node.js wants a package.json that says what they are.
    """
    node = shutil.which("node")
    if node is None:
        message = "no Node.js: apt-get install nodejs"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    shutil.copytree(WEB, folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "given.json").write_text(json.dumps(given))
    lines = [
        "import { readFileSync } from 'node:fs';",
        script,
        "const given = JSON.parse(readFileSync('given.json', 'utf-8'));",
        "console.log(JSON.stringify(answer(given)));",
    ]
    (folder / "script.js").write_text("\n".join(lines))
    done = subprocess.run([node, "script.js"], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

"""The built wheel: configs and kernels inside, and the command working from it, away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_wheel_carries_configs_and_kernels_and_runs(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True,
    )
    (wheel,) = tmp_path.glob("thadistill-*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        file.extractall(tmp_path / "site")
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    assert {f"thadistill/{name}" for name in configs} <= names
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "thadistill").rglob("*.[ch]pp")}
    assert len(sources) > 5
    assert sources <= names
    player = {path.relative_to(ROOT).as_posix() for path in (ROOT / "thadistill" / "web").rglob("*.*")}
    assert player <= names
    assert any(name.startswith("thadistill/serve/puppet") for name in names)
    done = subprocess.run(
        [sys.executable, "-c", "from thadistill.cli import main; main()", "distill", "--cfg", "job"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "budget_minutes: ${default_budget:}" in done.stdout

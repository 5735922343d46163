"""Several processes: distillation with trainer=ddp counts examples over all of them and leaves one student."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = 1024


@pytest.mark.usefixtures("own_cache")
def test_two_processes_distil_one_student(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "thadistill.cli", "distill", "teacher=puppet"),
        *("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "budget_minutes=9"),
        *("recipe.targets.face=16", "recipe.targets.posed=16", "student.body_rotator.width_scale=0.1"),
        *("student.face_morpher={width: 16, depth: 3}", "validation.checks=0"),
        *("recipe.face_morpher.stream.batch_size=16", "recipe.body_rotator.stream={batch_size: 64, patches: 8}"),
        *("evaluation.poses=1", "evaluation.speed=false", f"targets={tmp_path / 'targets'}", f"out={tmp_path / 'out'}"),
        *(f"recipe.face_morpher.poses={EXAMPLES}", "recipe.face_morpher.progress_by=poses"),
        *(f"recipe.body_rotator.patches={16 * EXAMPLES}", "recipe.body_rotator.progress_by=patches"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("dB (shown unmoved") == 1  # one process speaks
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["psnr"] > 10
    for part, batch, examples in (("face", 16, EXAMPLES), ("body", 64 * 8, 16 * EXAMPLES)):
        kept = torch.load(tmp_path / "out" / part / "final.ckpt", weights_only=True)
        spent = kept["callbacks"]["Budget"]["count"]
        assert spent == examples
        assert kept["global_step"] == examples // (2 * batch)  # each step takes a batch of each process


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
def test_two_processes_validate_at_the_same_steps_on_a_busy_machine(toy_targets: Path, tmp_path: Path) -> None:
    """Checks follow the first process's clock on both; a busy machine must not let them enter at different steps."""
    command = [
        *(sys.executable, "-m", "thadistill.cli", "train", "module=body_rotator", "teacher=puppet"),
        *("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "budget_minutes=0.4", "validation.checks=3"),
        *("recipe.targets.posed=16", "validation.poses=1", "student.body_rotator.width_scale=0.05"),
        *("callbacks.student_vs_teacher.poses=1", f"targets={toy_targets / 'by_name'}", f"out={tmp_path / 'out'}"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500, check=False
        )
    finally:
        busy.kill()
        busy.wait()
    assert done.returncode == 0, done.stderr
    assert 2 <= len(list((tmp_path / "out" / "grids").glob("*.png"))) <= 4  # and the end
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["val_psnr"] > 5

"""Distributed building: two processes leave the bytes that one leaves; a manifest counts them; a rest is continued."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from thadistill.data.poses import PoseSequence
from thadistill.data.target_builder import build_targets, open_cache
from thadistill.data.target_cache import SHARD
from thadistill.errors import UserError
from thadistill.pipeline.distributed_targets import predict_targets
from thadistill.teacher import load_teacher

POSES = PoseSequence(seed=1_000_000, rotations="sobol")  # the face morpher's own under recipe=fast, seed=0
TRAINER = OmegaConf.create(
    {
        "_target_": "lightning.Trainer", "accelerator": "cpu", "devices": 1, "precision": "32-true",
        "enable_progress_bar": False, "enable_model_summary": False,
    }
)  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards, by the loop that needs no trainer."""
    teacher = load_teacher("puppet", seed=0)
    image = teacher.character()  # type: ignore[operator]
    cache = open_cache("face", teacher, image, POSES, tmp_path_factory.mktemp("alone") / "cache")
    assert build_targets(cache, teacher, image, POSES, 3 * SHARD) == 3 * SHARD
    return cache.folder


def test_one_process_continues_what_is_there(alone: Path, tmp_path: Path) -> None:
    teacher = load_teacher("puppet", seed=0)
    image = teacher.character()  # type: ignore[operator]
    cache = open_cache("face", teacher, image, POSES, tmp_path / "cache")
    build_targets(cache, teacher, image, POSES, SHARD)
    written = (cache.shard_folder(0) / "face.npy").stat().st_mtime_ns
    assert predict_targets(TRAINER, cache, teacher, image, POSES, 3 * SHARD)
    assert (cache.shard_folder(0) / "face.npy").stat().st_mtime_ns == written
    assert contents(cache.folder) == contents(alone)
    with pytest.raises(UserError, match=r"teacher\.dtype"):
        predict_targets(OmegaConf.merge(TRAINER, {"precision": "bf16-mixed"}), cache, teacher, image, POSES, 1)  # type: ignore[arg-type]


@pytest.mark.usefixtures("own_cache")
def test_two_processes_leave_the_same_bytes(alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "targets" / "face"
    command = [
        *(sys.executable, "-m", "thadistill.cli", "cache", "teacher=puppet", "kind=face", f"n={3 * SHARD}"),
        *(
            "trainer=ddp",
            "trainer.devices=2",
            "trainer.accelerator=cpu",
            f"targets={folder.parent}",
            f"out={tmp_path / 'out'}",
        ),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"{3 * SHARD} poses") == 1  # rank 0's alone
    assert json.loads((folder / "manifest.json").read_text())["count"] == 3 * SHARD
    assert contents(folder) == contents(alone)

"""The start's maker, as it is, on the puppet."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from hydra.utils import instantiate
from safetensors.torch import load_file

from thadistill.config import compose
from thadistill.student.init import apply_init

ROOT = Path(__file__).parent.parent.parent


def make(tmp_path: Path, part: str, turns: int, *more: str) -> list[list[str]]:
    """Runs the maker up to ``turns`` in all; gives the rows of its log."""
    command = [sys.executable, str(ROOT / "experiments" / "warm_init" / "make.py"), "--student", "slim"]
    command += ["--teacher", "puppet", "--characters", "puppet", "--poses", "16", "--faces", "16", "--steps", "4"]
    command += ["--turns", str(turns), "--out", str(tmp_path / "made"), "--part", part, *more]
    environment = {**os.environ, "THADISTILL_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "made" / f"{part}.csv").open() as file:
        return list(csv.reader(file))


def test_a_start_is_learned_part_by_part_and_taken_up_again(tmp_path: Path) -> None:
    start_file = tmp_path / "made" / "init.safetensors"
    first = make(tmp_path, "body_rotator", 2)
    rows = make(tmp_path, "body_rotator", 10)
    assert len(first) == 2
    assert rows[:2] == first
    assert [int(row[0]) for row in rows] == list(range(1, 11))
    assert float(rows[-1][-1]) < float(rows[0][-1])
    body = load_file(start_file)
    make(tmp_path, "face_morpher", 1, "--falling", "turn")
    both = load_file(start_file)
    record = json.loads((tmp_path / "made" / "record.json").read_text())
    assert (record["body_rotator"]["falling"], record["face_morpher"]["falling"]) == ("whole", "turn")
    assert record["bytes"] == start_file.stat().st_size
    for part in ("face_morpher", "body_rotator"):
        network = instantiate(compose("distill", ["student=slim"]).student[part])
        apply_init(network, part, str(start_file))
        same = [torch.equal(both[f"{part}.{key}"], body[f"{part}.{key}"]) for key in network.state_dict()]
        assert all(same) if part == "body_rotator" else not any(same)


def test_a_wrong_character_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "experiments" / "warm_init" / "make.py"), "--part", "body_rotator"]
    command += ["--characters", "nobody", "--out", str(tmp_path / "made")]
    mirrored = subprocess.run([*command, "--teacher", "puppet", "--mirrored"], capture_output=True, text=True)
    assert mirrored.returncode == 2
    assert "expected a teacher that poses any image" in mirrored.stderr
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "nobody" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "made").exists()

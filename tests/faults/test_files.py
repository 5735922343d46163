"""Faults of files and folders: what cannot be written or read is told in one line, and nothing damaged is taken as good."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from thadistill.cli.app import main
from thadistill.cli.benchmark import _append
from thadistill.data.poses import load_poses, sample_poses
from thadistill.data.target_cache import SHARD, CacheKey, TargetCache
from thadistill.errors import UserError
from thadistill.files import replacing, write_bytes, write_text
from thadistill.pipeline.run_folder import RunFolder
from thadistill.pose import POSE_PARAMETERS

KEY = CacheKey("face", "toy", "w", "i", "p")


def fields(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"pose": torch.zeros(SHARD, 45), "face": torch.rand(SHARD, 4, 128, 128, generator=generator)}


def built(folder: Path, key: CacheKey = KEY, shards: int = 2) -> TargetCache:
    cache = TargetCache(folder, key)
    for index in range(shards):
        cache.write_shard(index, fields(index))
    return cache


@pytest.mark.parametrize("name", ["pose", "face"])
def test_a_flipped_bit_in_a_shard_is_found_and_the_shard_made_again(name: str, tmp_path: Path) -> None:
    cache = built(tmp_path / "c")
    expected = cache.open().get("face", 3)
    path = cache.shard_folder(0) / f"{name}.npy"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}.npy is damaged \(its checksum differs\)"):
        TargetCache(tmp_path / "c", KEY).open()
    again = TargetCache(tmp_path / "c", KEY)
    assert len(again) == 0
    again.write_shard(0, fields(0))
    assert torch.equal(again.open(2 * SHARD).get("face", 3), expected)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": "other", "crc32": {}}'])
def test_a_damaged_shard_manifest_is_found(content: bytes, tmp_path: Path) -> None:
    cache = built(tmp_path / "c")
    (cache.shard_folder(1) / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        cache.open()


def test_shards_of_another_key_are_not_adopted_where_the_manifest_is_gone(tmp_path: Path) -> None:
    built(tmp_path / "c")
    (tmp_path / "c" / "manifest.json").unlink()
    with pytest.raises(UserError, match="has shards but no manifest"):
        TargetCache(tmp_path / "c", CacheKey("face", "another", "w", "i", "p"))
    assert len(TargetCache(tmp_path / "c", KEY)) == 2 * SHARD  # its own are


def test_shards_of_earlier_versions_are_read(tmp_path: Path) -> None:
    cache = built(tmp_path / "c")
    (cache.shard_folder(0) / "manifest.json").unlink()
    assert len(cache.open()) == 2 * SHARD


def test_a_file_in_a_caches_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("x")
    with pytest.raises(UserError, match="cannot be made"):
        TargetCache(tmp_path / "c", KEY)


def test_a_full_disk_under_a_cache_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TargetCache(tmp_path / "c", KEY)

    def full(*_: object) -> None:
        raise OSError("4194304 requested and 65536 written")  # as numpy words it

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="65536 written"):
        cache.write_shard(0, fields())
    assert [path.name for path in cache.folder.iterdir()] == ["manifest.json"]


def test_a_failed_write_leaves_the_file_that_was(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "before")

    def fail_half_way() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(UserError, match="cannot be written"):
        write_bytes(path / "inside" / "b", b"x")


def test_names_that_are_not_utf8_can_be_written_down(tmp_path: Path) -> None:
    name = os.fsdecode("キャラ".encode("shift-jis"))
    write_text(tmp_path / "report.md", f"# {name}")
    assert (tmp_path / "report.md").read_bytes().startswith(b"# \\udc")


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems refuse such names")
def test_a_folder_with_a_name_that_is_not_utf8_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode("キャラ".encode("shift-jis"))
    os.mkdir(name)
    with pytest.raises(SystemExit) as caught:
        main(["distill", f"character={name}", "teacher=puppet"])
    assert caught.value.code == 2
    assert "does not exist" in capfd.readouterr().err


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOSPC])
def test_folders_that_cannot_be_used_are_told_in_one_line(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def closed(*_: object) -> None:
        raise OSError(code, os.strerror(code), str(tmp_path / "x"))

    monkeypatch.chdir(tmp_path)
    for place in ("thadistill.cli.assets.run", "thadistill.cli.app._run"):
        with monkeypatch.context() as patched:
            patched.setattr(place, closed)
            with pytest.raises(SystemExit) as caught:
                main(["assets"])
        assert caught.value.code == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert "the disk is full" in told or f"{tmp_path / 'x'} cannot be used" in told


@pytest.mark.parametrize("key", ["out", "targets"])
def test_a_file_in_the_place_of_a_folder(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("x")
    with pytest.raises(SystemExit) as caught:
        main(["cache", "kind=face", "teacher=puppet", "n=16", f"{key}=taken"])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert told.splitlines()[-1].startswith("thadistill: ")
    assert "Traceback" not in told
    assert (tmp_path / "taken").read_text() == "x"


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"plan": 1, "steps": []}', '{"plan": {}, "steps": [{}]}', "\xff"]
)
def test_a_damaged_run_record_is_told(content: str, tmp_path: Path) -> None:
    from thadistill.config import compose

    (tmp_path / "run.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        RunFolder(tmp_path, compose("distill", ["teacher=puppet"]))


def test_an_empty_benchmark_file_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "benchmark.csv"
    path.touch()
    rows = [{"model": "a", "ms_median": 1.5}]
    _append(path, rows)
    _append(path, rows)
    assert path.read_text() == "model,ms_median\na,1.5\na,1.5\n"
    with pytest.raises(UserError, match="other columns"):
        _append(path, [{"other": 1}])


def test_pose_files_as_spreadsheets_write_them(tmp_path: Path) -> None:
    poses = sample_poses(20, 3)
    header = ";".join(f'"{name}"' for name in POSE_PARAMETERS)
    rows = [";".join(f"{value:.6f}".replace(".", ",") for value in pose) for pose in poses.tolist()]
    path = tmp_path / "poses.csv"
    plain = "\n".join(",".join(f"{value:.6f}" for value in pose) for pose in poses.tolist())
    forms = {
        "byte-order mark": plain.encode("utf-8-sig"),
        "semicolons, commas, quoted header": "\r\n".join([header, *rows]).encode("utf-8-sig"),
        "tabs in UTF-16": "\n".join([header, *rows]).replace(";", "\t").encode("utf-16"),
        "quoted numbers": "\n".join(",".join(f'"{value:.6f}"' for value in pose) for pose in poses.tolist()).encode(),
    }
    for name, content in forms.items():
        path.write_bytes(content)
        torch.testing.assert_close(load_poses(path), poses, atol=1e-5, rtol=0, msg=name)
    for content in (b"", b"a,b\n1,2\n", plain.encode()[:-20], b"\xff\xfe\x00"):
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            load_poses(path)
        assert "\n" not in str(caught.value)


def test_files_of_few_poses_are_refused_and_cut_ones_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from thadistill.config import compose
    from thadistill.pipeline.targets import check_targets

    monkeypatch.chdir(tmp_path)
    np.save("ten.npy", sample_poses(10, 0).numpy())
    np.save("twenty.npy", sample_poses(20, 0).numpy())
    given = ["teacher=puppet", "kind=face"]
    with pytest.raises(UserError, match=r"ten.npy has 10 poses; expected 16 or more"):
        check_targets(compose("cache", [*given, "recipe.targets.poses.source=ten.npy"]))
    check_targets(compose("cache", [*given, "recipe.targets.poses.source=twenty.npy"]))
    assert "the last 4 of 20 poses are left out" in " ".join(capsys.readouterr().err.split())


def test_a_student_below_doing_nothing_is_told_in_the_reports_first_line() -> None:
    from thadistill.pipeline.report import distill_report

    summary = {
        "character": "a", "teacher": "t", "student": "paper", "recipe": "warm", "seed": 0, "budget_minutes": 1.0,
        "size_mb": 1.8, "steps": [], "worker": [], "psnr_teacher_face": 15.0, "psnr_unmoved": 17.0, "command": "c",
        "environment": {"hardware": "h", "torch": "2", "python": "3", "thadistill": "0", "commit": None},
    }  # fmt: skip
    assert distill_report(summary, {"n": 4, "psnr": 16.0}).startswith("**This student is no better than a picture")
    assert distill_report(summary, {"n": 4, "psnr": 30.0}).startswith("# a distilled from t")


def test_metrics_that_are_damaged_are_measured_again(tmp_path: Path) -> None:
    from thadistill.pipeline.distill import _reported

    for content in ("", "{", "[]", '{"psnr": null}'):
        (tmp_path / "metrics.json").write_text(content)
        assert _reported(tmp_path) is None
    (tmp_path / "metrics.json").write_text(json.dumps({"psnr": 30, "psnr_unmoved": 17, "face_psnr": 28}))
    assert _reported(tmp_path) is not None

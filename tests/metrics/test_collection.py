"""QualityMetrics: the keys of metrics.json, means whatever the batches and processes, rows, reasons."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing

from thadistill.errors import UserError
from thadistill.metrics.collection import QUALITY_KEYS, QualityMetrics
from thadistill.metrics.flow import grid_change_epe_px, visible_pixels
from thadistill.metrics.image import eye_mouth_psnr, face_psnr, psnr, psnr_display, ssim
from thadistill.metrics.perceptual import load_stlpips

from .pictures import outputs, take

POSES = 5
REPORT = ["n", "psnr", "psnr_display", "ssim", "face_psnr", "eye_mouth_psnr", "flow_epe_px", "stlpips", "lpips"]


@pytest.fixture(scope="module")
def pair():
    """Poses of different quality, so that a wrong average shows."""
    parts = [outputs(1, noise=0.02 * 2**i, seed=10 * i) for i in range(POSES)]
    return tuple(type(group[0])(*map(torch.cat, zip(*group, strict=True))) for group in zip(*parts, strict=True))


@pytest.fixture(scope="module")
def expected(pair, face_mask):
    student, teacher = pair
    return {
        "psnr": psnr(student.posed, teacher.posed),
        "psnr_display": psnr_display(student.posed, teacher.posed),
        "ssim": ssim(student.posed, teacher.posed),
        "face_psnr": face_psnr(student.face, teacher.face_morphed),
        "eye_mouth_psnr": eye_mouth_psnr(student.face, teacher.face_morphed, face_mask),
        "flow_epe_px": grid_change_epe_px(student.grid_change, teacher.grid_change, visible_pixels(teacher.posed)),
    }


def test_keys_are_those_of_the_report(pair, face_mask, monkeypatch, tmp_path):
    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # no LPIPS backbone, whatever the machine has
    metrics = QualityMetrics(face_mask)
    first = [take(output, slice(0, 1)) for output in pair]
    metrics.update(*first)
    result = metrics.compute()
    assert list(result) == [*REPORT, "lpips_reason"]
    assert result["lpips"] is None
    assert str(tmp_path) in result["lpips_reason"]
    assert result["stlpips"] == pytest.approx(float(load_stlpips()(first[0].posed, first[1].posed)), rel=1e-5)
    assert json.loads(json.dumps(result)) == result
    assert not metrics.state_dict()  # no weights in anybody's checkpoint
    assert not list(metrics.parameters())


def test_mean_of_per_image_values_in_any_batches(pair, face_mask, expected):
    metrics = QualityMetrics(face_mask, perceptual=())
    for sizes in ([5], [1, 4], [2, 2, 1]):
        for rows in torch.arange(POSES).split(sizes):
            metrics.update(*(take(output, rows) for output in pair))
        result = metrics.compute()
        assert result["n"] == POSES
        for key, values in expected.items():
            assert result[key] == pytest.approx(float(values.mean()), rel=1e-5)
        metrics.reset()
    with pytest.raises(UserError, match="before any pose"):
        metrics.compute()


def test_psnr_is_not_that_of_the_mean_error(pair, expected):
    """The paper's protocol and the pooled one differ here by decibels: the test above can tell them apart."""
    pooled = 10 * math.log10(4 / float((10 ** (-expected["psnr"] / 10) * 4).mean()))
    assert abs(pooled - float(expected["psnr"].mean())) > 1


def test_forward_gives_the_batch_and_keeps_the_whole(pair, face_mask, expected):
    metrics = QualityMetrics(face_mask, perceptual=())
    for i in range(POSES):
        batch = metrics(*(take(output, slice(i, i + 1)) for output in pair))
        assert batch["psnr"] == pytest.approx(float(expected["psnr"][i]), rel=1e-5)
    assert metrics.compute()["psnr"] == pytest.approx(float(expected["psnr"].mean()), rel=1e-5)


def test_rows_sorted_by_pose_and_each_pose_once(pair, face_mask, expected):
    metrics = QualityMetrics(face_mask, perceptual=(), per_pose=True)
    for rows in ([3, 1], [0, 3], [2, 4]):  # 3 comes twice
        rows = torch.tensor(rows)
        metrics.update(*(take(output, rows) for output in pair), index=rows)
    result = metrics.compute()
    assert result["n"] == POSES
    assert [row["index"] for row in result["per_pose"]] == list(range(POSES))
    assert list(result["per_pose"][0]) == ["index", *QUALITY_KEYS]
    for key, values in expected.items():
        assert [row[key] for row in result["per_pose"]] == pytest.approx(values.tolist(), rel=1e-5)
    assert result["psnr"] == pytest.approx(float(expected["psnr"].mean()), rel=1e-5)
    assert result["per_pose"][0]["lpips"] is None
    assert result["lpips_reason"] == "not requested"


def test_without_a_face_mask(pair):
    metrics = QualityMetrics(None, perceptual=())
    metrics.update(*(take(output, slice(0, 1)) for output in pair))
    result = metrics.compute()
    assert result["eye_mouth_psnr"] is None
    assert result["eye_mouth_psnr_reason"] == "no face mask was given"
    assert result["face_psnr"] > 0


def test_what_cannot_be_measured_is_said_at_once(face_mask):
    with pytest.raises(UserError, match="face mask is nowhere"):
        QualityMetrics(torch.zeros(1, 512, 512))
    with pytest.raises(UserError, match=r"'fid' is unknown; expected some of stlpips, lpips"):
        QualityMetrics(face_mask, perceptual=("fid",))


def test_moves_copies_and_pickles(pair, face_mask):
    metrics = QualityMetrics(face_mask, perceptual=())
    assert metrics.to("meta").face_mask.device.type == "meta"
    metrics = QualityMetrics(face_mask, perceptual=())
    metrics.update(*(take(output, slice(0, 1)) for output in pair))
    for other in (copy.deepcopy(metrics), pickle.loads(pickle.dumps(metrics))):
        assert other.compute() == metrics.compute()


CASES = (
    ([[0, 2, 4], [1, 3, 0]], True),  # as a distributed sampler deals, 0 repeated to even out
    ([[0, 2, 3, 4], [1]], False),
)


def one_process(rank: int, pair, face_mask, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    results = []
    for share, numbered in CASES:
        metrics = QualityMetrics(face_mask, perceptual=(), per_pose=True)
        for i in share[rank]:
            batch = [take(output, slice(i, i + 1)) for output in pair]
            metrics.update(*batch, index=torch.tensor([i]) if numbered else None)
        results.append(metrics.compute())
    (folder / f"{rank}.json").write_text(json.dumps(results))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_count_every_pose_once(pair, face_mask, expected, tmp_path):
    torch.multiprocessing.spawn(one_process, (pair, face_mask, tmp_path), nprocs=2)
    results, others = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert results == others
    for (share, numbered), result in zip(CASES, results, strict=True):
        assert result["n"] == POSES
        for key, values in expected.items():
            assert result[key] == pytest.approx(float(values.mean()), rel=1e-5)
        dealt = [i for part in share for i in part]
        order = range(POSES) if numbered else dealt
        values = expected["psnr"].tolist()
        assert [row["psnr"] for row in result["per_pose"]] == pytest.approx([values[i] for i in order], rel=1e-5)

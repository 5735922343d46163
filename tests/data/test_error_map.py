"""The error map: running means by place, and patches that are drawn by it."""

from __future__ import annotations

import torch

from thadistill.data.error_map import REFRESH, WAIT, ErrorMap
from thadistill.data.poses import PoseSequence
from thadistill.data.sampling import BodyPatches
from thadistill.data.target_builder import build_targets, open_cache
from thadistill.data.target_cache import SHARD
from thadistill.teacher import load_teacher


def test_means_run_by_block() -> None:
    error_map = ErrorMap(stride=64, start=1.0, keep=0.5)
    corner = torch.tensor([[0, 0], [64, 128], [64, 128]])
    error_map.add(corner, torch.tensor([3.0, 0.0, 2.0]))
    # once: halfway to 3; twice: a quarter of the start stays, the rest is the mean of both
    expected = torch.ones(8, 8)
    expected[0, 0], expected[1, 2] = 2.0, 0.25 + 0.75
    assert torch.allclose(error_map._mean.view(8, 8), expected)
    assert torch.isclose(error_map.smoothed()[0, 0], torch.tensor(1.25))  # four blocks in the corner, not nine


def test_a_diverged_or_a_perfect_student_can_be_drawn_for() -> None:
    for error in (float("nan"), float("inf"), 0.0):
        error_map = ErrorMap(size=4, stride=1, start=0.0)
        for _ in range(WAIT):
            error_map.add(torch.tensor([[1, 2]]), torch.tensor([error]))
        found = error_map.weigh(torch.ones(16), 0.7)
        assert bool((found.isfinite() & (found > 0)).all())


def test_patches_are_drawn_where_the_student_errs() -> None:
    teacher = load_teacher("puppet", seed=0)
    image, poses = teacher.character(), PoseSequence(seed=5)
    cache = open_cache("posed", teacher, image, poses)
    build_targets(cache, teacher, image, poses, SHARD)
    error_map = ErrorMap()
    stream = BodyPatches(cache.open(SHARD), 64, 8, 4, visible_share=0.9, error_share=0.5, seed=0, error_map=error_map)
    batches = iter(stream)

    def on_the_left() -> float:
        corner = torch.cat([next(batches).corner for _ in range(REFRESH)])
        return float((corner[:, 1] < 256).float().mean())

    before = on_the_left()
    assert 0.3 < before < 0.7  # nothing known: the puppet stands in the middle
    rows, columns = torch.meshgrid(torch.arange(0, 512, 4), torch.arange(0, 512, 4), indexing="ij")
    corner = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    for _ in range(WAIT):
        error_map.add(corner, torch.where(corner[:, 1] < 256, 1.0, 0.01))
    # half of the patches as before, nearly all of the other half on the left
    assert abs(on_the_left() - (before / 2 + 0.5)) < 0.06

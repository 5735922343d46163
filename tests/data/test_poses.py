"""Pose sampling: the published recipe's frequencies, and pose files good and bad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from thadistill.data.poses import load_poses, sample_poses
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS


@pytest.fixture(scope="module")
def poses() -> torch.Tensor:
    return sample_poses(4000, seed=7)


def test_poses_are_seeded_and_a_longer_set_begins_with_a_shorter() -> None:
    for rotations in ("uniform", "sobol"):
        a, b = sample_poses(64, 3, rotations), sample_poses(32, 3, rotations)
        assert torch.equal(a[:32], b)
    assert not torch.equal(sample_poses(8, 1), sample_poses(8, 2))


def test_values_are_in_range(poses: torch.Tensor) -> None:
    assert torch.equal(poses, POSE_PARAMETERS.clamp(poses))


def test_each_group_shows_one_or_two_morphs(poses: torch.Tensor) -> None:
    for start, stop in ((0, 12), (12, 24)):
        for side in (0, 1):
            active = (poses[:, start + side : stop : 2] > 0).sum(1)
            assert set(active.tolist()) <= {0, 1, 2}
            assert abs(float((active == 1).float().mean()) - 0.25) < 0.03
            assert float(poses[:, start + side : stop : 2].sum(1).max()) <= 1 + 1e-6


def test_marginals_are_the_recipes(poses: torch.Tensor) -> None:
    small = poses[:, POSE_PARAMETERS.index("iris_small_left")]
    assert abs(float((small == 0).float().mean()) - 0.25) < 0.03
    assert torch.equal(small, poses[:, POSE_PARAMETERS.index("iris_small_right")])
    for name in ("iris_rotation_x", "head_x", "neck_z", "body_y"):
        values = poses[:, POSE_PARAMETERS.index(name)].double()
        assert abs(float(values.mean())) < 0.04
        assert abs(float(values.var()) - 1 / 3) < 0.02  # uniform on [-1, 1]
    assert abs(float(poses[:, POSE_PARAMETERS.index("breathing")].mean()) - 0.5) < 0.02


def test_sobol_covers_the_rotations_more_evenly() -> None:
    def largest_gap(rotations: str) -> float:
        values = sample_poses(256, 0, rotations)[:, POSE_PARAMETERS.rotation].sort(dim=0).values  # type: ignore[arg-type]
        return float((values[1:, :5] - values[:-1, :5]).max())

    assert largest_gap("sobol") < largest_gap("uniform")


def test_files_of_each_kind_give_the_same_poses(tmp_path: Path, poses: torch.Tensor) -> None:
    some = poses[:5]
    np.save(tmp_path / "a.npy", some.numpy())
    torch.save(some, tmp_path / "b.pt")
    np.savetxt(tmp_path / "c.csv", some.numpy(), delimiter=",")
    shuffled = [*reversed(POSE_PARAMETERS)]
    rows = [",".join(shuffled), *(",".join(str(float(x)) for x in row.flip(0)) for row in some)]
    (tmp_path / "d.csv").write_text("\n".join(rows))
    for name in ("a.npy", "b.pt", "c.csv", "d.csv"):
        torch.testing.assert_close(load_poses(tmp_path / name), some, atol=1e-6, rtol=0)


def test_the_recorded_track_loads(reference: Path) -> None:
    assert load_poses(reference / "pose_tracks" / "pose_20fps.npy").shape == (5000, 45)


def test_mistakes_are_reported_in_one_line(tmp_path: Path, poses: torch.Tensor) -> None:
    def refused(name: str, match: str) -> None:
        with pytest.raises(UserError, match=match) as caught:
            load_poses(tmp_path / name)
        assert "\n" not in str(caught.value)

    refused("a.txt", "not a pose file")
    refused("a.npy", "does not exist")
    np.save(tmp_path / "a.npy", np.zeros((3, 44)))
    refused("a.npy", r"shape \(3, 44\)")
    (tmp_path / "a.npy").write_bytes(b"x")
    refused("a.npy", "cannot be read")
    bad = poses[:3].clone()
    bad[1, 40] = 1.5
    torch.save(bad, tmp_path / "a.pt")
    refused("a.pt", "row 1 has head_y = 1.5; expected -1 to 1")
    bad[1, 40] = float("nan")
    torch.save(bad, tmp_path / "a.pt")
    refused("a.pt", "head_y = nan")
    (tmp_path / "a.csv").write_text("head_x,head_y\n0,1\n")
    refused("a.csv", "cannot be read")

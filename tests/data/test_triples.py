"""Triples: what the folder, the tar shards and the puppet give, and that nobody is on both sides."""

from __future__ import annotations

import io
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from thadistill.data.triples import (
    FolderTriples,
    TarTriples,
    TripleBatches,
    TripleStream,
    folder_split,
    puppet_split,
    shrink,
    write_puppet_triples,
)
from thadistill.errors import UserError
from thadistill.teacher import load_teacher
from thadistill.warp import resize


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triples")
    write_puppet_triples(folder, 3, poses=2, size=64)
    return folder


def plain(folder: Path, name: str, poses: int) -> None:
    """A character of one colour whose posed images have another."""
    place = folder / name
    place.mkdir(parents=True)
    for file in ("rest", *(f"{index:05d}" for index in range(poses))):
        colour = (0, 255, 0, 255) if file == "rest" else (255, 0, 0, 255)
        Image.new("RGBA", (16, 16), colour).save(place / f"{file}.png")
    np.save(place / "poses.npy", np.zeros((poses, 45), np.float32))


def test_the_puppets_triples_are_its_outputs(rendered: Path) -> None:
    triples, teacher = FolderTriples(rendered, 64), load_teacher("puppet", seed=3)
    assert len(triples) == 2
    image, pose, posed = triples[1]
    out = teacher(teacher.character()[None], pose[None])  # type: ignore[operator]
    # 8 bits of sRGB, whose steps reach 2.28 / 255 of the linear range, which is 2 wide here
    for found, expected in ((image, out.face_morphed), (posed, out.posed)):
        torch.testing.assert_close(found, shrink(expected, 64)[0], atol=2.5 / 255, rtol=0)
    assert float((posed - image).abs().max()) > 0.1


def test_shrinking_by_two_is_the_teachers_resizing() -> None:
    image = torch.rand(1, 4, 64, 64)
    torch.testing.assert_close(shrink(image, 32), resize(image, 32, 32))


def test_a_folder_without_faces_serves_rest(tmp_path: Path) -> None:
    plain(tmp_path, "a", 2)
    image, pose, posed = FolderTriples(tmp_path, 8)[1]
    assert image[:, 0, 0].tolist() == [-1, 1, -1, 1]
    assert posed[:, 0, 0].tolist() == [1, -1, -1, 1]
    assert pose.shape == (45,)


def test_characters_are_on_one_side_and_stay_there(tmp_path: Path) -> None:
    for number in range(12):
        plain(tmp_path, f"c{number}", 1)
    before = folder_split(tmp_path, 8, test_share=0.3)
    sides = [{name for name, _ in side.entries} for side in before]  # type: ignore[union-attr]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 12
    plain(tmp_path, "c99", 1)
    after = folder_split(tmp_path, 8, test_share=0.3)
    assert sides[1] <= {name for name, _ in after.test.entries}  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="expected both"):
        folder_split(tmp_path, 8, test_share=0.0)


def test_puppets_are_split_by_seed_and_rendered_once(tmp_path: Path) -> None:
    split = puppet_split(32, 1, 1, 1, folder=tmp_path)
    names = [{name for name, _ in side.entries} for side in split]  # type: ignore[union-attr]
    assert names == [{"puppet-00001-1"}, {"puppet-00000-1"}]
    stamp = (tmp_path / "puppet-00001-1" / "00000.png").stat().st_mtime_ns
    puppet_split(32, 1, 1, 1, folder=tmp_path)
    assert (tmp_path / "puppet-00001-1" / "00000.png").stat().st_mtime_ns == stamp


def test_tar_shards_hold_the_same_triples(rendered: Path, tmp_path: Path) -> None:
    triples = FolderTriples(rendered, 64)
    place = rendered / triples.entries[0][0]
    shard = tmp_path / "train-0.tar"
    with tarfile.open(shard, "w") as archive:
        for index in range(2):
            pose = io.BytesIO()
            np.save(pose, triples.poses[place.name][index].numpy())
            parts = {
                "rest.png": (place / f"{index:05d}.face.png").read_bytes(),
                "pose.npy": pose.getvalue(),
                "png": (place / f"{index:05d}.png").read_bytes(),
            }
            for extension, content in parts.items():
                member = tarfile.TarInfo(f"./a.b/{index:05d}.{extension}")  # as tar writes a folder
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    for found, expected in zip(TarTriples([shard], 64).read(shard), (triples[0], triples[1]), strict=True):
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)
    batches = list(islice(TripleStream(TarTriples([shard], 64), 3), 2))
    assert [batch.posed.shape for batch in batches] == [(3, 4, 64, 64)] * 2
    tarfile.open(tmp_path / "empty.tar", "w").close()
    with pytest.raises(UserError, match="hold no triples"):
        next(TarTriples([tmp_path / "empty.tar"], 64).stream(0))
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(UserError, match="cannot be read"):
        list(TarTriples([shard], 64).read(shard))


def test_streams_give_each_triple_once_a_pass_in_a_seeded_order(tmp_path: Path) -> None:
    plain(tmp_path, "a", 6)
    np.save(tmp_path / "a" / "poses.npy", np.linspace(0, 1, 6, dtype=np.float32)[:, None].repeat(45, 1))
    triples = FolderTriples(tmp_path, 8)

    def order(start: int) -> list[float]:
        return torch.cat([b.pose[:, 0] for b in islice(TripleStream(triples, 2, seed=1, start=start), 3)]).tolist()

    assert sorted(order(0)) == pytest.approx(np.linspace(0, 1, 6).tolist())
    assert order(0) == order(0)
    assert order(0) != order(64)
    assert [batch.pose[0, 0].item() for batch in map(TripleBatches(triples, 2).__getitem__, (0, 1))] == pytest.approx(
        [0, 0.6]
    )


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no triples"):
        FolderTriples(tmp_path, 8)
    plain(tmp_path, "a", 1)
    with pytest.raises(UserError, match="16x16 PNG RGBA"):
        FolderTriples(tmp_path, 32)[0]
    with pytest.raises(UserError, match="does not exist"):
        TarTriples([tmp_path / "none.tar"], 8)

"""The maker of pretrained inits, as it is, on the puppet."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from safetensors.torch import load_file

from thadistill.config import compose
from thadistill.student.init import apply_init
from thadistill.tables.characters import SHIPPED_INITS_KNOW, known_by

pytestmark = pytest.mark.usefixtures("one_thread")
FOLDER = Path(__file__).parents[2] / "experiments" / "warm_init"
Make = Callable[..., None]


@pytest.fixture
def make(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Runs the maker with command-line arguments; it stands outside the package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "make", raising=False)
    module = importlib.import_module("make")

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["make.py", *map(str, arguments)])
        module.main()

    return run


def test_what_the_inits_know_is_what_they_learned_from() -> None:
    for record in FOLDER.glob("*/record.json"):
        for part in ("face_morpher", "body_rotator"):
            learned = {name.removesuffix(" mirrored") for name in json.loads(record.read_text())[part]["characters"]}
            assert learned == set(SHIPPED_INITS_KNOW), f"{record}: {part}"
    assert [known_by(name, pretrained=True) for name in ("lambda_00", "crypko_06")] == ["tuning", "init"]
    assert known_by("crypko_06", pretrained=False) == "nothing"


def made(make: Make, folder: Path, part: str, turns: int, *more: str) -> list[list[str]]:
    """The rows of its log after ``turns`` in all."""
    make(
        *("--student", "slim", "--teacher", "puppet", "--characters", "puppet", "--poses", 16, "--faces", 16),
        *("--steps", 4, "--turns", turns, "--out", folder, "--part", part, *more),
    )
    with (folder / f"{part}.csv").open() as file:
        return list(csv.reader(file))


def test_an_init_is_learned_part_by_part_and_continued(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    init_file = folder / "init.safetensors"
    first = made(make, folder, "body_rotator", 2)
    rows = made(make, folder, "body_rotator", 8)
    assert len(first) == 2
    assert rows[:2] == first
    assert [int(row[0]) for row in rows] == list(range(1, 9))
    assert float(rows[-1][-1]) < float(rows[0][-1])
    body = load_file(init_file)
    made(make, folder, "face_morpher", 1, "--falling", "turn")
    both = load_file(init_file)
    record = json.loads((folder / "record.json").read_text())
    assert (record["body_rotator"]["falling"], record["face_morpher"]["falling"]) == ("whole", "turn")
    assert record["bytes"] == init_file.stat().st_size
    for part in ("face_morpher", "body_rotator"):
        network = instantiate(compose("distill", ["student=slim"]).student[part])
        apply_init(network, part, str(init_file))
        same = [torch.equal(both[f"{part}.{key}"], body[f"{part}.{key}"]) for key in network.state_dict()]
        assert all(same) if part == "body_rotator" else not any(same)


@pytest.mark.parametrize(
    ("more", "message"),
    [((), "nobody"), (("--teacher", "puppet", "--mirrored"), "expected a teacher that poses any image")],
)
def test_a_mistake_is_refused_and_leaves_nothing(
    more: tuple[str, ...], message: str, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        make("--part", "body_rotator", "--characters", "nobody", "--out", tmp_path / "made", *more)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "made").exists()

"""What users get wrong: one line on stderr, exit status 2, nothing left behind."""

from __future__ import annotations

import errno
from pathlib import Path

import lightning as L
import pytest
import torch
from PIL import Image

from thadistill.cli.app import VERBS, fail, main
from thadistill.errors import UserError
from thadistill.pipeline.fit import check_checkpoint

from .conftest import Command


def test_alone_it_says_what_it_can_do(thadistill: Command) -> None:
    done = thadistill()
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in VERBS)


def printed(capsys: pytest.CaptureFixture[str], caught: pytest.ExceptionInfo[SystemExit]) -> str:
    captured = capsys.readouterr().err
    assert caught.value.code == 2
    assert captured.count("\n") == 1
    assert captured.startswith("thadistill: ")
    return captured


MISTAKES = [
    (["dance"], "'dance' is not a command; expected one of assets"),
    (["distill", "character=nobody"], "character=nobody is unknown; expected a picture, a folder"),
    (["distill", "colour=red"], "colour"),
    (["distill", "recipe=slow"], "recipe"),
    (["distill", "budget_minutes"], "budget_minutes"),
    (["distill", "teacher=tha9"], "tha9"),
    (["distill", "teacher=puppet", "budget_minutes=-1"], "expected minutes above 0"),
    (["distill", "teacher=puppet", "evaluation.seed=0", "seed=0", "recipe=paper"], "gives faces that seed=0 trains on"),
    (["distill", "teacher=puppet", "evaluation.seed=7", "seed=7"], "gives faces that seed=7 trains on"),
    (["distill", "teacher=puppet", "evaluation.seed=1000003", "seed=3"], "gives faces that seed=3 trains on"),
    (
        ["distill", "teacher=puppet", "recipe.targets.posed=-3"],
        "recipe.targets.posed=-3; expected a whole number above 0",
    ),
    (
        ["train", "module=body_rotator", "teacher=puppet", "recipe.targets.face=many"],
        "recipe.targets.face=many; expected",
    ),
    (["distill", "teacher=puppet", "evaluation.poses=0"], "evaluation.poses=0; expected a whole number above 0"),
    (["train", "module=hair", "teacher=puppet"], "module=hair; expected one of"),
    (["train", "teacher=puppet"], "module=null; expected one of"),
    (["evaluate", "model=absent", "teacher=puppet"], "absent has no character_model.yaml"),
    (["evaluate"], "model= is missing"),
    (["benchmark", "model=absent"], "absent has no character_model.yaml"),
    (["export", "model=absent"], "absent has no character_model.yaml"),
    (["export"], "model= is missing"),
    (["export", "model=absent", "format=gif"], "format=gif; expected one of onnx, web"),
    (["serve", "model=absent", "open=false"], "absent has no character_model.yaml"),
    (["serve", "model=none*", "open=false"], "model=none* matches no character model"),
    (["serve", "port=99999", "open=false"], "port=99999; expected a number from 0"),
    (["serve", "port=many", "open=false"], "port=many; expected a number from 0"),
    (["drive"], "source= is missing"),
    (["drive", "source=vmc", "model=absent"], "absent has no character_model.yaml"),
    (["drive", "source=vmc", "sink=tv"], "sink=tv; expected one of browser, virtualcam"),
    (["drive", "source=vmc", "sink=a.mp4", "record=a.npy"], "record=a.npy; expected a file's name that ends in .json"),
    (["drive", "source=vmc", "sink=vmc", "to=here"], "to=here; expected an address and a port"),
    (["drive", "source=vmc", "listen_port=0"], "listen_port=0; expected a whole number from 1 to 65535"),
    (["animate", "poses=a.npy", "fps=null"], "fps=null; expected a number above 0"),
    (["benchmark"], "expected either model=DIR or teacher=NAME"),
    (["cache", "kind=both", "teacher=puppet"], "kind=both; expected one of posed, face"),
    (["prepare", "image=absent.png"], "absent.png does not exist"),
    (["assets", "pull=tha7"], "tha7"),
    (["distill", "teacher=tha4"], "expected weights=PATH"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_mistakes(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert message in printed(capsys, caught)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and "cache" not in path.parts]
    assert left == []


def test_pictures_that_are_no_characters(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "mine"
    folder.mkdir()

    def refused() -> str:
        with pytest.raises(SystemExit) as caught:
            main(["distill", f"character={folder}", "teacher=puppet", "out=run"])
        assert not (tmp_path / "run").exists()
        return printed(capsys, caught)

    assert "character.png does not exist" in refused()
    Image.new("RGB", (512, 512)).save(folder / "character.png")
    assert "run 'thadistill prepare image=" in refused()
    (folder / "character.png").write_bytes(b"GIF89a")
    assert "not a picture" in refused()
    picture = Image.new("RGBA", (512, 512))
    picture.paste("red", (200, 80, 300, 400))
    picture.save(folder / "character.png")
    Image.new("L", (64, 64), 255).save(folder / "face_mask.png")
    assert "expected a face mask of 512x512" in refused()


def test_without_a_network_the_weights_are_asked_for_in_one_line(thadistill: Command) -> None:
    # an index that answers nothing stands for a missing network
    done = thadistill(
        "distill", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0", PIP_FIND_LINKS="", PIP_EXTRA_INDEX_URL="",
        PIP_CONFIG_FILE="/dev/null",
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_fail_folds_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fail("one\n  two")
    assert capsys.readouterr().err == "thadistill: one two\n"


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file data/0")],
    ids=["write", "torch.save"],
)
def test_a_full_disk_is_reported_in_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("thadistill.cli.assets.run", full)
    with pytest.raises(SystemExit) as caught:
        main(["assets"])
    assert "the disk is full" in printed(capsys, caught)


def test_checkpoints_cut_short_or_foreign_are_refused(tmp_path: Path) -> None:
    class Small(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

    path = tmp_path / "last.ckpt"
    parts = ("epoch", "loops", "callbacks", "optimizer_states", "lr_schedulers", "pytorch-lightning_version")
    content = {"state_dict": Small().state_dict(), "global_step": 3, **dict.fromkeys(parts, 0)}
    torch.save(content, path)
    assert check_checkpoint(path, Small()) == 3
    whole = path.read_bytes()
    torch.save({**content, "state_dict": {"other": torch.zeros(3)}}, path)
    with pytest.raises(UserError, match="another network's"):
        check_checkpoint(path, Small())
    for part in content:
        torch.save({name: value for name, value in content.items() if name != part}, path)
        with pytest.raises(UserError, match="cannot be continued from"):
            check_checkpoint(path, Small())
    for content in (whole[: len(whole) // 2], b"", b"hello"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be continued from"):
            check_checkpoint(path, Small())

"""Values are checked before any work begins: each key refuses what it cannot hold, and takes what conf/ holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from thadistill.cli.app import main
from thadistill.config import compose
from thadistill.config.schema import RUNTIMES as NAMES
from thadistill.config.schema import check_accounts, kind_of
from thadistill.errors import UserError
from thadistill.runtime import _CHOSEN, RUNTIMES

VERBS = {
    "assets": [["pull=tha3"]],
    "prepare": [["image=x.png", "head=[1,2,3,4]"]],
    "cache": [[], ["recipe=paper"]],
    "train": [
        ["module=body_rotator"],
        *(
            ["module=teacher", f"stage={stage}"]
            for stage in ("small", "small_face_stages", "body_morpher", "face_stages")
        ),
        ["module=teacher", "stage=small_upscaler", "stage.coarse=x"],
        ["module=teacher", "stage=upscaler", "stage.coarse=x", "triples=tar", "triples.shards=x", "triples.test=y"],
    ],
    "distill": [
        [],
        ["recipe=paper", "callbacks=best", "logger=wandb"],
        ["teacher=puppet"],
        ["character=."],
        ["teacher=tha4"],
    ],
    "evaluate": [["model=x"]],
    "benchmark": [["model=x"], ["teacher=tha3"]],
    "export": [["model=x", "format=onnx"]],
    "animate": [["poses=x"], ["poses=x", "teacher=tha3", "side_by_side=true"]],
    "serve": [[], ["model=[a,b]"]],
}
# what Lightning, Hydra and constructors check themselves
ELSEWHERE = ("_target_", "_partial_", "_convert_", "trainer.", "callbacks.", "stage.network", "stage.coarse_network")
ELSEWHERE_TOO = (
    "modules.",
    "recipe.name",
    "student.name",
    "teacher.name",
    "teacher.variant",
    "stage.module",
    "stage.phases",
)


def leaves(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in node:
        if (
            isinstance(node._get_node(name), DictConfig)
            and not OmegaConf.is_missing(node, name)
            and node[name] is not None
        ):
            yield from leaves(node[name], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.mark.parametrize("verb", VERBS)
def test_every_key_of_a_command_has_its_kind_and_every_shipped_value_is_taken(verb: str) -> None:
    for overrides in VERBS[verb]:
        config = compose(verb, overrides)
        unknown = [key for key in leaves(config) if kind_of(key) is None]
        assert not [key for key in unknown if not any(part in key for part in (*ELSEWHERE, *ELSEWHERE_TOO))]


WRONG = [
    ("distill", "seed=-1", "seed=-1; expected a whole number from 0"),
    ("distill", "seed=1.5", "seed=1.5"),
    ("distill", "seed=many", "seed=many"),
    ("distill", "budget_minutes=nan", "budget_minutes=nan; expected minutes above 0"),
    ("distill", "budget_minutes=inf", "budget_minutes=inf"),
    ("distill", "budget_minutes=0", "budget_minutes=0"),
    ("distill", "budget_minutes=true", "budget_minutes=True"),
    ("distill", "budget_minutes=null", "budget_minutes=null with recipe.face_morpher.progress_by=minutes"),
    ("distill", "budget_minutes=[1]", "budget_minutes=[1]"),
    ("distill", "keep_every=0", "keep_every=0"),
    ("distill", "recipe.body_rotator.optimizer.lr=0", "optimizer.lr=0; expected a number above 0"),
    ("distill", "recipe.body_rotator.optimizer.lr=-1e-3", "optimizer.lr=-0.001"),
    ("distill", "recipe.face_morpher.optimizer.adam_lr=nan", "adam_lr=nan"),
    ("distill", "recipe.face_morpher.optimizer.betas=[0.9,7]", "betas=[0.9, 7]"),
    ("distill", "recipe.body_rotator.grid_lr_scale=-1", "grid_lr_scale=-1"),
    ("distill", "validation.checks=-1", "validation.checks=-1; expected a whole number, 0 or more"),
    ("distill", "validation.checks=some", "validation.checks=some"),
    ("distill", "validation.poses=0", "validation.poses=0"),
    ("distill", "evaluation.poses=2.5", "evaluation.poses=2.5"),
    ("distill", "evaluation.perceptual=[vgg]", "evaluation.perceptual=['vgg']"),
    ("distill", "evaluation.perceptual=lpips", "evaluation.perceptual=lpips; expected a list"),
    ("distill", "evaluation.runtime=warp", "evaluation.runtime=warp; expected one of exact, reduced"),
    ("distill", "evaluation.speed=maybe", "evaluation.speed=maybe; expected true or false"),
    ("distill", "evaluation.seed=x", "evaluation.seed=x"),
    ("distill", "recipe.targets.posed_share=5", "posed_share=5; expected a number from 0 to 1"),
    ("distill", "recipe.face_morpher.share=-0.1", "share=-0.1"),
    ("distill", "recipe.body_rotator.stream.error_share=2", "error_share=2"),
    ("distill", "recipe.body_rotator.stream.batch_size=none", "batch_size=none; expected a whole number above 0"),
    ("distill", "recipe.targets.poses.rotations=foo", "rotations=foo; expected one of uniform, sobol"),
    ("distill", "recipe.body_rotator.progress_by=hours", "progress_by=hours"),
    ("distill", "recipe.body_rotator.weights.phases=[]", "phases=[]"),
    ("distill", "student.body_rotator.width_scale=wide", "width_scale=wide; expected a number above 0"),
    ("distill", "student.body_rotator.width_scale=nan", "width_scale=nan"),
    ("distill", "student.body_rotator.widths=[8,0]", "widths=[8, 0]"),
    ("distill", "student.face_morpher.width=0", "student.face_morpher.width=0; expected a whole number above 0"),
    ("distill", "student.face_morpher.omega=0", "omega=0"),
    ("distill", "teacher.dtype=int3", "teacher.dtype=int3"),
    ("distill", "trainer.accelerator=gpuu", "trainer.accelerator=gpuu"),
    ("evaluate", "n=0", "n=0; expected a whole number above 0"),
    ("evaluate", "n=many", "n=many"),
    ("evaluate", "seed=-3", "seed=-3"),
    ("evaluate", "perceptual=[x]", "perceptual=['x']"),
    ("evaluate", "device=tpu", "device=tpu; expected auto, cpu, cuda, cuda:N or mps"),
    ("benchmark", "frames=0", "frames=0"),
    ("benchmark", "frames=x", "frames=x"),
    ("benchmark", "batch=0", "batch=0"),
    ("benchmark", "threads=0", "threads=0; expected a whole number above 0, or null"),
    ("benchmark", "threads=two", "threads=two"),
    ("benchmark", "runtime=warp", "runtime=warp; expected one or more of exact"),
    ("benchmark", "runtime=eager,warp", "runtime=eager,warp"),
    ("animate", "runtime=exact,reduced", "runtime=exact,reduced; expected one of exact, reduced"),
    ("drive", "runtime=exact,reduced", "runtime=exact,reduced; expected one of exact, reduced"),
    ("cache", "kind=both", "kind=both"),
    ("cache", "n=-4", "n=-4"),
    ("cache", "batch=x", "batch=x"),
    ("export", "format=gif", "format=gif"),
    ("export", "single=perhaps", "single=perhaps"),
    ("export", "outputs=[]", "outputs=[]"),
    ("export", "dtype=float8", "dtype=float8"),
    ("serve", "port=many", "port=many; expected a number from 0"),
    ("serve", "open=x", "open=x"),
    ("prepare", "face_mask=mask.png", "face_mask=mask.png; expected true or false"),
    ("evaluate", "face_mask=true", "face_mask=True; expected a PNG, or null"),
    ("prepare", "head=[1,2]", "head=[1, 2]; expected [left,top,right,bottom]"),
    ("prepare", "head=[a,b,c,d]", "head="),
    ("train", "stage.batch_size=0", "stage.batch_size=0"),
    ("train", "triples.test_share=3", "triples.test_share=3"),
    ("distill", "experiment=TYPO", "experiment/TYPO"),
    ("benchmark", "teacher=TYPO", "teacher/TYPO"),
]  # fmt: skip
NEEDED = {"evaluate": ["model=x"], "benchmark": ["model=x"], "export": ["model=x"], "prepare": ["image=x"]}
NEEDED["train"] = ["module=teacher", "triples=folder", "triples.folder=x"]


@pytest.mark.parametrize(("verb", "override", "message"), WRONG, ids=[f"{verb} {what}" for verb, what, _ in WRONG])
def test_what_a_key_cannot_hold_is_refused(verb: str, override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        compose(verb, [*NEEDED.get(verb, []), override])
    printed = str(caught.value)
    assert message in printed
    assert "\n" not in printed
    assert "expected" in printed or "Available options" in printed


def test_it_is_reported_in_seconds_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    with pytest.raises(SystemExit) as caught:
        main(["distill", "budget_minutes=nan"])
    assert caught.value.code == 2
    assert time.monotonic() - started < 5
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_runtimes_are_those_that_there_are() -> None:
    assert {*RUNTIMES, *_CHOSEN} <= {*NAMES}


@pytest.mark.parametrize(
    ("environment", "netrc", "refused"),
    [
        ({}, "", True),
        ({"WANDB_MODE": "offline"}, "", False),
        ({"WANDB_API_KEY": "x" * 40}, "", False),
        ({}, "machine api.wandb.ai login user password key", False),
        ({}, "machine other.host login user password key", True),
    ],
)
def test_a_logger_without_its_account_is_refused(
    environment: dict[str, str], netrc: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".netrc").write_text(netrc)
    (tmp_path / ".netrc").chmod(0o600)
    check_accounts(compose("distill", ["logger=wandb_offline"]))
    check_accounts(compose("distill"))
    config: Any = compose("distill", ["logger=wandb"])
    if refused:
        with pytest.raises(UserError, match="logger=wandb without an account"):
            check_accounts(config)
    else:
        check_accounts(config)

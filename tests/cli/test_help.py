"""Help, version and completion: at once, and true to conf/."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import thadistill as package
from thadistill.cli.app import VERBS, main
from thadistill.config import compose, conf_dir

from .conftest import Command

GIVEN = {
    "drive": ["source=webcam"],
    "animate": ["poses=x"],
    "evaluate": ["model=x"],
    "export": ["model=x"],
    "prepare": ["image=x"],
    "train": ["module=body_rotator"],
}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main([*arguments])
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_a_commands_help_says_what_it_does_and_how(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, verb, "--help")
    assert text.startswith(f"thadistill {verb}: ")
    examples = re.findall(rf"^  thadistill {verb}\b.*$", text, flags=re.MULTILINE)
    assert len(examples) >= 3
    assert "--cfg job" in text
    assert "powered by Hydra" not in text
    assert all(len(line) <= 200 for line in text.splitlines())
    config = compose(verb, GIVEN.get(verb, []))
    for key in re.findall(r"^  (\w+) {2,}\S", text.partition("Groups")[0], flags=re.MULTILINE):
        assert key in config, f"{key} is no key of {verb}"
    nested = re.findall(r"^  ([a-z_]+(?:\.\w+)+) {2,}\S", text, flags=re.MULTILINE)
    for key in nested:
        assert key.split(".")[0] in config
    documented = {key for key in config if re.search(rf"^  {key} ", text, flags=re.MULTILINE)}
    undocumented = {str(key) for key in config} - documented - {"modules", "evaluation", "out"}
    assert not undocumented


@pytest.mark.parametrize("verb", ["distill", "train", "cache", "evaluate", "benchmark", "prepare"])
def test_its_groups_are_those_that_there_are(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, verb, "--help").partition("Groups")[2]
    for group, names in re.findall(r"^  (\w+) (.*)$", text.partition("\n\n")[0], flags=re.MULTILINE):
        names = names.rpartition(": ")[2]
        there = {path.stem for path in (conf_dir() / group).glob("*.yaml")} - {"folder"}
        assert {*names.strip().split(", ")} - {"folder"} == there


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--version") == f"thadistill {package.__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    script = "import sys; from thadistill.cli import main; main(['distill', '--help']); main([]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"torch", "torchvision", "wandb", "lightning", "hydra", "omegaconf", "numpy"}


def test_a_mistake_is_reported_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    script = (
        "import sys; from thadistill.cli import main\n"
        "try:\n    main(['distill', 'seed=x'])\nfinally:\n    print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert not set(done.stdout.split()) & {"torch", "torchvision", "wandb", "lightning"}


def test_a_distillation_begins_before_lightning_is_imported() -> None:
    """Lightning brings torchmetrics, torchvision and SciPy: seconds, in which the background worker is at work already."""
    script = "import sys, thadistill.cli.distill; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {*done.stdout.split()} & {"lightning", "torchmetrics", "torchvision", "wandb", "matplotlib", "scipy"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("thadistill ", set(VERBS)),
        ("thadistill e", {"evaluate", "export"}),
        ("thadistill distill recipe=", {"recipe=fast", "recipe=paper", "recipe=warm"}),
        ("/usr/bin/thadistill distill seed=1 budget", {"budget_minutes="}),
        ("thadistill serve po", {"port="}),
        ("thadistill dance x", set()),
    ],
)
def test_completion(line: str, words: set[str], thadistill: Command) -> None:
    done = thadistill("-sc", "query=bash", COMP_LINE=line)
    assert done.returncode == 0, done.stderr
    assert {*done.stdout.split()} == words


def test_what_a_shell_evaluates(thadistill: Command) -> None:
    for given in (("--shell-completion", "install=bash"), ("-sc=install=bash",)):
        done = thadistill(*given)
        assert "complete -o nospace" in done.stdout
        assert done.stdout.rstrip().endswith(" thadistill")
    started = time.monotonic()
    assert "--shell-completion install=bash" in thadistill("--help").stdout
    assert time.monotonic() - started < 5  # a quarter of a second on an idle machine

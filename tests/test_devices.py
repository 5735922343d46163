"""Which device a word stands for, and that every command refuses one that is not there before any work."""

from __future__ import annotations

from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from thadistill import devices
from thadistill.cli.app import main
from thadistill.config import compose
from thadistill.devices import placed, resolve_device, trainer_device
from thadistill.errors import UserError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """A machine of that many CUDA devices."""
    count: int = request.param
    monkeypatch.setattr(devices, "count_gpus", lambda: count)
    return count


@pytest.mark.parametrize(
    ("gpus", "word", "device"),
    [(0, "auto", "cpu"), (0, "cpu", "cpu"), (2, "auto", "cuda"), (2, "cuda:1", "cuda:1"), (2, "cpu", "cpu"),
     (2, "gpu", "cuda"), (1, "cuda", "cuda")],
    indirect=["gpus"],
)  # fmt: skip
def test_a_word_stands_for_a_device(gpus: int, word: str, device: str) -> None:
    assert resolve_device(word) == torch.device(device)


@pytest.mark.parametrize(
    ("gpus", "word"),
    [(0, "cuda"), (0, "gpu"), (0, "cuda:0"), (1, "cuda:1"), (1, "cpuu"), (1, "GPU"), (1, None)],
    indirect=["gpus"],
)
def test_what_is_not_there_is_refused(gpus: int, word: object) -> None:
    with pytest.raises(UserError, match=f"device={word}"):
        resolve_device(word)


@pytest.mark.parametrize("gpus", [2], indirect=True)
@pytest.mark.parametrize(
    ("given", "rank", "device"),
    [
        (1, 0, "cuda"),
        ("auto", 1, "cuda:1"),
        (2, 1, "cuda:1"),
        ([1], 0, "cuda:1"),
        ("1,", 0, "cuda:1"),
        (-1, 1, "cuda:1"),
    ],
)
def test_a_process_has_the_trainers_device(
    gpus: int, given: object, rank: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    assert trainer_device(OmegaConf.create({"accelerator": "auto", "devices": given})) == torch.device(device)


@pytest.mark.parametrize("gpus", [2], indirect=True)
@pytest.mark.parametrize("given", [3, [0, 5], "none", 0])
def test_more_gpus_than_there_are_are_refused(gpus: int, given: object) -> None:
    with pytest.raises(UserError, match=r"trainer\.devices"):
        trainer_device(OmegaConf.create({"accelerator": "gpu", "devices": given}))


@pytest.mark.parametrize("gpus", [0], indirect=True)
@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "model=absent", "teacher=puppet", "device=cuda"],
        ["evaluate", "model=absent", "teacher=puppet", "device=cuda:1"],
        ["evaluate", "model=absent", "teacher=puppet", "device=tpu"],
        ["benchmark", "model=absent", "device=cuda:7"],
        ["benchmark", "teacher=puppet", "device=nonsense"],
        ["distill", "teacher=puppet", "trainer=gpu"],
        ["distill", "teacher=puppet", "trainer.accelerator=gpuu"],
        ["train", "module=body_rotator", "teacher=puppet", "trainer=gpu"],
        ["train", "module=teacher", "trainer=gpu"],
        ["cache", "teacher=puppet", "trainer=gpu"],
    ],
    ids=" ".join,
)
def test_every_command_refuses_it_at_the_start(
    gpus: int,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THADISTILL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "accelerator=" in printed or "device=" in printed
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("tasks_per_node", [None, "4"])
def test_a_plain_run_runs_in_an_allocation_of_several_tasks(
    tasks_per_node: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "SLURM_NTASKS": "4",
        "SLURM_JOB_NAME": "sweep",
        "SLURM_NNODES": "2",
        "SLURM_PROCID": "0",
    }.items():
        monkeypatch.setenv(name, value)
    if tasks_per_node is not None:
        monkeypatch.setenv("SLURM_NTASKS_PER_NODE", tasks_per_node)
    config = compose("distill", ["trainer=cpu"]).trainer
    made = hydra.utils.instantiate(config, logger=False, default_root_dir=tmp_path, **placed(config))
    assert (made.world_size, made.is_global_zero) == (1, True)

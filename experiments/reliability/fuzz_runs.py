"""Runs: the loaders of what runs leave, target caches, records and figures, and of what is typed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import formats
import mutants
import numpy as np
import torch
from fuzz_poses import POSES, spoil_csv
from loaders import Files, Loader, hold
from mutants import Mutant, pick, spoil_bytes
from omegaconf import OmegaConf

from thadistill.config import compose, conf_dir
from thadistill.config.overrides import read_overrides
from thadistill.data.target_cache import CacheKey, TargetCache
from thadistill.pipeline.loggers import ContinuedCSV
from thadistill.pipeline.run_folder import RunFolder
from thadistill.runtime.visible import remembered
from thadistill.sweeps.collect import markdown_table, read_runs

_KEY = CacheKey("face", "toy", "w", "i", "p")


def _target_files() -> Files:
    cache = TargetCache("made", _KEY, shard=1)
    cache.write_shard(0, {"pose": POSES[:1], "face": torch.linspace(-1, 1, 65536).reshape(1, 4, 128, 128)})
    cache.write_manifest()
    found = {str(path.relative_to("made")): path.read_bytes() for path in Path("made").rglob("*") if path.is_file()}
    for path in [*sorted(Path("made").rglob("*"), reverse=True), Path("made")]:
        path.rmdir() if path.is_dir() else path.unlink()
    return found


def _spoil_targets(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    if name.endswith(".npy"):
        # a header that says what it said in other words is no damage: the arrays are compared
        made = formats.spoil_npy(data, generator) if generator.random() < 0.4 else spoil_bytes(data, generator)
        return made._replace(bytes_only=True)
    return spoil_bytes(data, generator) if generator.random() < 0.3 else mutants.spoil_json(json.loads(data), generator)


def _read_targets(folder: Path) -> Any:
    targets = TargetCache(folder, _KEY, shard=1).open()
    hold(targets.pose.shape == (1, 45), "poses of another form")
    return targets.pose.numpy().tobytes(), targets.get("face", 0).numpy().tobytes()


_CONFIG = OmegaConf.create({"seed": 0, "budget_minutes": 10})


def _run_files() -> Files:
    folder = RunFolder(Path("made"), _CONFIG)
    folder.planned("body_minutes", lambda: 3.5)
    folder.state["worker"] = [{"name": "face", "minutes": 0.5, "detail": "x"}]
    with folder.step("start"):
        pass
    folder.record(_CONFIG, {"commit": "x"})
    content = folder.path.read_bytes()
    for path in [*Path("made").iterdir(), Path("made")]:
        path.rmdir() if path.is_dir() else path.unlink()
    return {"run.json": content}


def _spoil_json(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    return spoil_bytes(data, generator) if generator.random() < 0.2 else mutants.spoil_json(json.loads(data), generator)


def _read_run(folder: Path) -> None:
    run = RunFolder(folder, _CONFIG)
    hold(0 <= run.minutes < 1e300 and run.spent("start") <= run.minutes, "minutes that are none")
    hold(
        run.planned("body_minutes", lambda: 1.0) is None or run.planned("body_minutes", lambda: 1.0) >= 0, "an odd plan"
    )
    with run.step("start"):
        pass


def _sweep_files() -> Files:
    steps = [{"name": "start", "minutes": 0.1, "detail": "x"}]
    metrics = {"n": 2, "psnr": 30.5, "face_psnr": 29.0, "student_ms": 12.5, "size_mb": 1.8, "steps": steps, "seed": 0}
    metrics |= {"overrides": ["seed=0", "recipe=fast"], "character": "a", "teacher": "t", "budget_minutes": 1.0}
    job = {"verb": "distill", "overrides": ["seed=0"], "digest": "x", "status": "done", "error": None, "minutes": 0.5}
    return {"metrics.json": json.dumps(metrics).encode(), "job.json": json.dumps(job).encode(), "run.json": b"{}"}


def _read_sweep(folder: Path) -> None:
    rows = read_runs(folder)
    hold(len(rows) == 1 and rows[0]["status"] in ("done", "failed", "unfinished"), "rows of another form")
    hold("\n" not in markdown_table(rows).splitlines()[-1], "a table of another form")


def _read_curve(folder: Path) -> None:
    logger = ContinuedCSV(folder, name="", version="")
    logger.continue_from(5)
    hold(all(int(row.get("step", 0)) <= 5 for row in logger.experiment.metrics), "rows after the step")


def _remembered_files() -> Files:
    file = io.BytesIO()
    np.savez_compressed(file, visible=np.arange(64) % 3 == 0, middle=np.ones((4, 4), np.float32))
    return {"x.npz": file.getvalue()}


def _spoil_npz(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    if generator.random() < 0.5:
        return spoil_bytes(data, generator)
    return formats.spoil_zip(data, generator, lambda inner: formats.spoil_npy(inner, generator))


def _read_remembered(folder: Path) -> None:
    fresh = {"visible": np.ones(64, bool)}
    found = remembered(folder.name, "x", lambda: fresh)
    hold(
        isinstance(found, dict) and all(isinstance(one, np.ndarray) for one in found.values()),
        "something else than arrays",
    )


# what is typed

_TYPED = (
    "seed=3",
    "character=lambda_00",
    "teacher=puppet",
    "out=a b",
    "poses=x.npy",
    "n=5",
    "perceptual=[lpips]",
    "model=a,b",
)


def _spoil_typed(name: str, data: bytes, generator: np.random.Generator) -> Mutant:
    if generator.random() < 0.3:
        return spoil_bytes(data, generator)
    key, _, value = data.decode().partition("=")
    odd = (
        "",
        "'",
        '"',
        "[",
        "{",
        "${x}",
        "${oc.env:HOME}",
        "${",
        "a,b",
        "choice(1,2)",
        "range(1)",
        "\\",
        "\n",
        "\0",
        "9" * 5000,
    )
    odd = (
        *odd,
        "nan",
        "-1",
        "null",
        "[" * 3000,
        "../../x",
        "*",
        "~",
        "x" * 9000,
        "(((",
        "1e999",
        "\ud800",
        "[[1,2],{a:b}]",
    )
    kind = int(generator.integers(4))
    made = f"{key}={pick(generator, odd)}" if kind <= 1 else f"{pick(generator, odd)}={value}"
    made = f"{pick(generator, ('+', '++', '~', 'hydra.', 'teacher.', ' '))}{key}={value}" if kind == 3 else made
    return Mutant(made.encode("utf-8", "surrogatepass"))


def _typed(folder: Path) -> list[str]:
    return [path.read_bytes().decode("utf-8", "surrogateescape") for path in folder.iterdir()]


def _read_typed(folder: Path) -> None:
    for sweep in (False, True):
        found = read_overrides(_typed(folder), [conf_dir()], sweep)
        hold(all(isinstance(one, str) for one in found), "overrides of another form")


def _read_config(folder: Path) -> None:
    compose("assets", _typed(folder))


def _each(texts: tuple[str, ...]) -> Files:
    return {f"{number}": text.encode() for number, text in enumerate(texts)}


RUN_LOADERS = {
    "target cache": Loader(10, _target_files, _spoil_targets, _read_targets, alone=False, changes=True),
    "run folder (run.json)": Loader(60, _run_files, _spoil_json, _read_run, changes=True),
    "sweep (metrics.json, job.json)": Loader(15, _sweep_files, _spoil_json, _read_sweep, alone=False),
    "figures (metrics.csv)": Loader(
        20, lambda: {"metrics.csv": b"step,loss\n1,0.5\n2,0.4\n9,0.3\n"}, spoil_csv, _read_curve, changes=True
    ),
    "remembered answers (.npz)": Loader(5, _remembered_files, _spoil_npz, _read_remembered, changes=True),
    "overrides": Loader(40, lambda: _each(_TYPED), _spoil_typed, _read_typed),
    "config": Loader(1, lambda: _each(("pull=tha3", "path=x")), _spoil_typed, _read_config),
}

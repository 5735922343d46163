"""Verbs: the commands at toy size that kills.py and disks.py disturb, and what must be whole after them.

They run on the puppet, which needs no weights.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from thadistill.data.poses import sample_poses
from thadistill.files import cache_folder, read_json
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher
from thadistill.teacher.puppet import load_puppet

_PUPPET = ("teacher=puppet", "trainer=cpu")
_TOY = (
    *(*_PUPPET, "student.body_rotator.width_scale=0.1", "student.face_morpher.width=16", "recipe.targets.posed=16"),
    *("recipe.targets.face=16", "evaluation.poses=2", "validation.poses=1", "validation.checks=1", "targets=targets"),
)
_DISTILL = ("distill", *_TOY, "evaluation.speed=false")


class Verb(NamedTuple):
    """A command, and which of its files are the same bit for bit in every run; ``clock``: how many there are is not."""

    command: tuple[str, ...]
    same: tuple[str, ...]
    clock: bool = False


VERBS = {
    "prepare": Verb(
        ("prepare", "image=a.png", "head=[300,100,500,300]", "teacher=puppet", "face_mask=false", "out=mine"),
        ("mine/*",),
    ),
    "cache": Verb(("cache", "kind=face", "n=32", *_PUPPET, "targets=targets"), ("targets/**/*.npy",)),
    "distill": Verb((*_DISTILL, "budget_minutes=0.1", "out=run"), ("targets/**/*.npy",), clock=True),
    "train": Verb(
        ("train", "module=face_morpher", *_TOY, "budget_minutes=0.05", "out=run"), ("targets/**/*.npy",), clock=True
    ),
    "evaluate": Verb(
        ("evaluate", "model=model", "teacher=puppet", "n=3", "perceptual=[]", "face_mask=mask.png", "out=judged"),
        ("judged/metrics.csv", "judged/grid.png"),
    ),
    "export": Verb(("export", "model=model", "format=web", "out=site"), ("site/**/*",)),
    "animate": Verb(("animate", "model=model", "poses=track.npy", "runtime=folded", "out=me.mp4"), ("me.mp4",)),
    "sweep": Verb(
        (
            *_DISTILL,
            "-m",
            "budget_minutes=0.05",
            "recipe.face_morpher.share=0.3,0.4",
            "hydra/launcher=joblib",
            "hydra.launcher.workers=2",
        ),
        ("targets/**/*.npy",),
        clock=True,
    ),
}


def share_out(
    total: int, seed: int, verbs: list[str], disturb: Callable[[str, int, int], dict[str, object]]
) -> list[dict[str, object]]:
    """``disturb(verb, times, seed)`` for each verb, which have about as many of ``total`` each; its rows, also printed."""
    rows = []
    for index, verb in enumerate(verbs):
        rows.append(disturb(verb, total // len(verbs) + (index < total % len(verbs)), seed))
        print(rows[-1], flush=True)
    return rows


def prepare_folder(folder: Path) -> None:
    """An empty folder with what the verbs are given, and the kernels that were built before: they take as long as a verb."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "cache").mkdir(parents=True)
    kernels = cache_folder() / "native"
    kernels.mkdir(parents=True, exist_ok=True)
    (folder / "cache" / "native").symlink_to(kernels.resolve(), target_is_directory=True)
    given = Image.new("RGBA", (800, 1200))
    given.paste("orange", (300, 100, 500, 1100))
    given.save(folder / "a.png")
    Image.new("L", (512, 512), 255).save(folder / "mask.png")
    np.save(folder / "track.npy", sample_poses(40, 0).numpy())
    torch.manual_seed(0)
    CharacterModel(
        load_puppet().character(), FaceMorpher(width=16, depth=2), BodyRotator(widths=(16, 12, 8), depth=2)
    ).save(folder / "model")


def start(verb: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """The command in a session of its own, so that all of it can be killed and looked for; ``log`` gets its stderr."""
    with log.open("wb") as stderr:
        return subprocess.Popen(
            [sys.executable, "-c", "from thadistill.cli import main; main()", *VERBS[verb].command],
            cwd=folder,
            env={**os.environ, "THADISTILL_CACHE": str(folder / "cache")},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )


def finish(verb: str, folder: Path, log: Path) -> float:
    """Runs the command to its end; returns its seconds.

    Raises: RuntimeError with what it said, where its status is not 0.
    """
    began = time.monotonic()
    if start(verb, folder, log).wait() != 0:
        raise RuntimeError(f"{verb}: {log.read_text()[-2000:]}")
    return time.monotonic() - began


def orphans(group: int, seconds: float = 5.0) -> list[str]:
    """Command lines of the processes of a session that are still there after some seconds; they are ended then."""
    deadline = time.monotonic() + seconds
    while (running := _running(group)) and time.monotonic() < deadline:
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    return running


def _running(session: int) -> list[str]:
    """What runs in a session; processes that have ended, and that nobody has asked for their status, do not."""
    listed = subprocess.run(["ps", "-o", "stat=,args=", "-s", str(session)], capture_output=True, text=True)
    return [line[:300] for line in listed.stdout.splitlines() if not line.startswith("Z")]


def difference(verb: str, folder: Path, plain: Path) -> str | None:
    """What of a disturbed run is not as an undisturbed one left it; None where all is."""
    found, meant = (_hashes(place, VERBS[verb].same) for place in (folder, plain))
    names = set(found) & set(meant) if VERBS[verb].clock else set(found) | set(meant)
    if not names:
        return "nothing in common"
    odd = sorted(name for name in names if found.get(name) != meant.get(name))
    return f"{odd[0]} differs" if odd else next(damage(folder), None)


def _hashes(folder: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    files = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def damage(folder: Path) -> Iterator[str]:
    """The files that have their final names and are not whole."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if not path.is_file() or any(part.startswith(".") for part in parts) or parts[0] == "cache":
            continue
        try:
            _read(path)
        except Exception as error:
            yield f"{path.relative_to(folder)} is not whole: {type(error).__name__} {error}"


def _read(path: Path) -> None:
    match path.suffix:
        case ".json":
            read_json(path)
        case ".npy":
            np.load(path)
        case ".png":
            with Image.open(io.BytesIO(path.read_bytes())) as picture:
                picture.load()
        case ".pt" | ".ckpt":
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    raise ValueError("checksum")
        case ".safetensors":
            content = path.read_bytes()
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            if len(content) - 8 - int.from_bytes(content[:8], "little") != max(
                entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"
            ):
                raise ValueError("length")
        case ".mp4":
            import av

            with av.open(str(path)) as video:
                if sum(1 for _ in video.decode(video=0)) < 2:
                    raise ValueError("no frames")
        case ".html" | ".js" | ".wasm" | ".md":
            if not path.stat().st_size:
                raise ValueError("empty")

"""Students: the folders that are measured, what they are called, what they are, and which runtimes they have here."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from peers import PACKAGES

from thadistill.config import compose, conf_dir
from thadistill.data.character import puppet
from thadistill.errors import UserError
from thadistill.kernels.build import compiler
from thadistill.runtime import resolve
from thadistill.student import BodyRotator, CharacterModel
from thadistill.tables import untrained_student

MANIFEST = "character_model.yaml"
DISTILLED = "character_model"  # what distill calls the model folder in a run folder
PAPER_WIDTH = BodyRotator().siren_layers[0][0].matrix.shape[0]  # type: ignore[index]


@dataclass(frozen=True)
class Student:
    """A character model, and what its training left next to it (empty for a folder without metrics.json)."""

    name: str
    folder: Path
    model: CharacterModel
    metrics: dict[str, Any]

    def about(self) -> dict[str, object]:
        """Columns of results.csv: sizes, read off the networks, and quality, as its training evaluated it."""
        body = self.model.body_rotator
        levels = [[layer.matrix.shape[0] for layer in level] for level in body.siren_layers]  # type: ignore[union-attr]
        widths = [level[0] for level in levels]
        face = self.model.face_morpher.siren.sine_layers
        trained = {key: self.metrics.get(key) for key in ("character", "teacher", "recipe", "budget_minutes")}
        quality = self.metrics.get("psnr")
        return {
            "size_mb": round(self.model.size_mb, 3),
            "width_scale": round(widths[0] / PAPER_WIDTH, 3),
            "body_widths": "-".join(map(str, widths)),
            "body_sizes": "-".join(map(str, body.sizes)),
            "face_width": face[0].matrix.shape[0],  # type: ignore[union-attr]
            "face_depth": len(face),
            "psnr_to_teacher": "" if quality is None else round(quality, 3),
            **{key: "" if value is None else value for key, value in trained.items()},
        }


def open_students(folders: Sequence[Path]) -> list[Student]:
    """Opens model folders and distill's run folders, whose name is the run's, and makes conf/student's with random weights.

    The last are for times alone: frames of random weights show nothing, and leave no pixel out.

    Raises: UserError when one is neither, or two have one name.
    """
    students = []
    for given in folders:
        if not given.is_dir() and (conf_dir() / "student" / f"{given}.yaml").is_file():
            config = compose("distill", [f"student={given}", "teacher=puppet"])
            students.append(Student(f"{given}, random weights", given, untrained_student(config, puppet().image), {}))
            continue
        folder = given.resolve()
        model = folder / DISTILLED if (folder / DISTILLED / MANIFEST).is_file() else folder
        run = model.parent if model.name == DISTILLED else model
        found = [place / "metrics.json" for place in (model, run) if (place / "metrics.json").is_file()]
        metrics = json.loads(found[0].read_text()) if found else {}
        students.append(Student(run.name, model, CharacterModel.load(model), metrics))
    names = [student.name for student in students]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"two folders are called {twice}; expected a name each, as rows go by it: rename one")
    return students


def usable(student: Student, runtimes: Sequence[str]) -> list[str]:
    """Those runtimes that this machine has for this student; what is left out is said on stderr."""
    exact, reduced = resolve("exact"), resolve("reduced")
    unbuilt = None if compiler() else "there is no C++ compiler"
    sizes = student.model.body_rotator.sizes
    lacking = {
        "onnx": None if find_spec("onnxruntime") else "onnxruntime is not installed",
        "native": None if exact == "native" else "its kernels cannot be built",
        "int16": None if reduced == "int16" else "no integer products",
        **{
            peer: f"pip install {' '.join(absent)}"
            if (absent := [one for one in packages if not find_spec(one)])
            else (unbuilt if peer == "compile" else None)
            for peer, packages in PACKAGES.items()
        },
    }
    if any(b != 2 * a for a, b in pairwise(sizes)):
        own = {name: f"its levels are {list(sizes)}" for name in runtimes if name not in ("eager", *PACKAGES)}
        lacking = {**lacking, **own}
    for name in runtimes:
        if lacking.get(name):
            print(f"{student.name}: {name} is left out: {lacking[name]}", file=sys.stderr)
    return [name for name in runtimes if not lacking.get(name)]


def default_for(runtime: str) -> str:
    """Which of the names that choose a runtime choose this one here."""
    return " ".join(name for name in ("exact", "reduced") if resolve(name) == runtime)

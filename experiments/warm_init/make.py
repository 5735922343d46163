"""Warm init: learns, from several characters, the weights that a student of any other begins with.

    python experiments/warm_init/make.py --part body_rotator --turns 70
    python experiments/warm_init/make.py --part face_morpher --turns 14 --steps 3000 --falling turn

One network is trained on all characters in turn, some hundred steps of each or a whole small distillation, from where the
one before left it; --mirrored adds their mirror images as characters of their own. Writes OUT/init.safetensors (given to
distillation as init=FILE), which keeps the other part where it is there already, and of each part OUT/record.json and
OUT/PART.csv; --ship also puts the init into the package and the record next to this file. Interrupted, the same command
goes on from the last turn.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import hydra
import torch
from omegaconf import DictConfig

from thadistill.config import compose
from thadistill.console import console
from thadistill.data.character import Character
from thadistill.data.error_map import ErrorMap
from thadistill.data.face_mask import face_mask_from_targets
from thadistill.devices import keep_freed_memory, trainer_device
from thadistill.errors import UserError
from thadistill.files import replacing, write_json
from thadistill.images import STUDENT_FACE_REGION
from thadistill.lit.base import StudentModule
from thadistill.pipeline.report import environment
from thadistill.pipeline.targets import TargetSets
from thadistill.student.face_morpher import FACE_SIZE
from thadistill.student.init import INITS, SUFFIX, Part, apply_init, save_init
from thadistill.tables.characters import TO_LEARN_FROM

HERE = Path(__file__).parent


_SETS: dict[Part, tuple[str, ...]] = {"face_morpher": ("posed", "face"), "body_rotator": ("posed",)}


class Pupil:
    """One character, for one of a student's networks: its image, where the student errs on it, and its endless batches.

    ``mirrored``: its mirror image, which the framing allows as it does the character, and which the teacher poses again.
    """

    def __init__(self, part: Part, config: DictConfig, mirrored: bool) -> None:
        character: Character = hydra.utils.instantiate(config.character)
        image = character.image.flip(-1) if mirrored else character.image
        # channels last in memory, as the module keeps its own
        self.image = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        teacher = hydra.utils.instantiate(config.teacher, device=trainer_device(config.trainer))
        targets = TargetSets(config, teacher, self.image, None).complete(*_SETS[part])
        recipe = config.recipe[part]
        stream = hydra.utils.instantiate(recipe.stream)
        posed, seed = targets["posed"], config.seed
        if part == "face_morpher":
            face = targets["face"]
            mask = STUDENT_FACE_REGION.crop(face_mask_from_targets(face, self.image))
            self.error_map = ErrorMap(FACE_SIZE, stride=1)
            batches = stream(
                face, mask, mask_weight=recipe.mask_weight, also=posed, seed=seed, error_map=self.error_map
            )
        else:
            self.error_map = ErrorMap()
            batches = stream(posed, seed=seed, error_map=self.error_map)
        self.batches: Iterator[Any] = iter(batches)


def learn(
    module: StudentModule,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Any],
    steps: int,
    progress: float | None,
) -> tuple[float, float]:
    """Trains with the rates and loss weights of ``progress``, or of a whole run; mean losses of first and last quarter."""
    losses = []
    for step in range(steps):
        module.progress = step / steps if progress is None else progress
        for group in optimizer.param_groups:
            group["lr"] = module.rate(group["full_lr"])
        loss = module.losses(next(batches))["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    part = max(1, steps // 4)
    return sum(losses[:part]) / part, sum(losses[-part:]) / part


def train(part: Part, module: StudentModule, pupils: dict[str, Pupil], given: argparse.Namespace) -> float:
    """Trains on one pupil after the other for the turns given, earlier runs' included; gives the minutes it took."""
    place = given.out / f"{part}.ckpt"
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    seconds, begin = 0.0, 0
    asked = {
        key: str(getattr(given, key)) for key in ("seed", "steps", "falling", "poses", "faces", "teacher", "student")
    }
    asked |= {"characters": " ".join(pupils)}
    if place.is_file():
        kept = torch.load(place, weights_only=True)
        other = next((key for key, value in asked.items() if kept.get("asked", asked)[key] != value), None)
        if other is not None:
            raise UserError(
                f"{place} was begun with {other} {kept['asked'][other]}; expected the same: or give another --out"
            )
        module.network.load_state_dict(kept["weights"])
        optimizer.load_state_dict(kept["optimizer"])
        seconds, begin = kept["seconds"], kept["turns"]
    names = list(pupils)
    with (given.out / f"{part}.csv").open("a", newline="") as file:
        log = csv.writer(file)
        for turn in range(begin, given.turns):
            started = time.monotonic()
            name = names[turn % len(names)]
            module.error_map = pupils[name].error_map
            if part == "body_rotator":
                module.image = pupils[name].image
            progress = turn / given.turns if given.falling == "whole" else None
            first, last = learn(module, optimizer, pupils[name].batches, given.steps, progress)
            seconds += time.monotonic() - started
            log.writerow([turn + 1, name, round(seconds / 60, 2), round(first, 5), round(last, 5)])
            file.flush()
            console.print(f"{part} turn {turn + 1}, {name}, {seconds / 60:.1f} minutes: loss {first:.4f} -> {last:.4f}")
            state = {"weights": module.network.state_dict(), "optimizer": optimizer.state_dict(), "asked": asked}
            with replacing(place) as temporary:
                torch.save({**state, "seconds": seconds, "turns": turn + 1}, temporary)
    return round(seconds / 60, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", required=True, choices=get_args(Part), help="which of a student's networks")
    parser.add_argument("--turns", type=int, default=70, help="in all; the characters take turns")
    parser.add_argument("--steps", type=int, default=300, help="of a turn")
    parser.add_argument("--falling", default="whole", choices=["whole", "turn"], help="over what the rates fall")
    parser.add_argument("--characters", nargs="+", default=TO_LEARN_FROM)
    parser.add_argument("--mirrored", action="store_true", help="their mirror images take turns too")
    parser.add_argument("--teacher", default="tha3")
    parser.add_argument("--student", default="paper", help="an init fits students of its own sizes only")
    parser.add_argument("--poses", type=int, default=96, help="posed targets of each character")
    parser.add_argument("--faces", type=int, default=96, help="face targets of each character")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ship", action="store_true", help="put the result into the package")
    parser.add_argument("--out", type=Path, default=HERE / "outputs")
    given = parser.parse_args()
    part: Part = given.part
    for name in ("turns", "steps", "poses", "faces"):
        if getattr(given, name) <= 0:
            parser.error(f"--{name} {getattr(given, name)}; expected more than 0")
    if given.mirrored and given.teacher == "puppet":
        parser.error("--mirrored; expected a teacher that poses any image: leave it out with --teacher puppet")
    overrides = {
        name: [f"character={name}", f"teacher={given.teacher}", f"student={given.student}", "recipe=fast"]
        for name in given.characters
    }
    try:  # a mistake comes before the first character's training
        for chosen in overrides.values():
            compose("distill", chosen)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    given.out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    torch.manual_seed(given.seed)
    pupils, config = {}, DictConfig({})
    for mirrored in (False, True) if given.mirrored else (False,):
        for name, chosen in overrides.items():
            own = [f"seed={100 + len(pupils) + given.seed}"]
            own += [f"recipe.targets.posed={given.poses}", f"recipe.targets.face={given.faces}"]
            config = compose("distill", [*chosen, *own])
            pupil = Pupil(part, config, mirrored)
            pupils[f"{name} mirrored" if mirrored else name] = pupil
    path = given.out / "init.safetensors"
    shipped = INITS / f"{given.student}{SUFFIX}"
    networks = {name: hydra.utils.instantiate(config.student[name]) for name in get_args(Part)}
    (other,) = networks.keys() - {part}
    # with --ship the other part stays the package's, unless it was learned here too
    learned_here = (given.out / f"{other}.ckpt").is_file()
    before = [
        place for place in ([path, shipped] if learned_here or not given.ship else [shipped, path]) if place.is_file()
    ]
    apply_init(networks[other], other, str(before[0]) if before else None)
    own = {"image": next(iter(pupils.values())).image} if part == "body_rotator" else {}
    module: StudentModule = hydra.utils.instantiate(config.modules[part], network=networks[part], **own)
    try:
        minutes = train(part, module, pupils, given)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    networks[part] = copy.deepcopy(module.network)
    save_init(path, **networks)
    about = HERE / given.student if given.ship else given.out
    about.mkdir(exist_ok=True)
    record = {
        "method": "one character after the other, each from where the one before left it",
        **{key: getattr(given, key) for key in ("teacher", "student", "poses", "faces", "seed", "turns", "falling")},
        "characters": list(pupils),
        "steps of a turn": given.steps,
        "minutes": minutes,
        "threads": torch.get_num_threads(),
        "recipe": config.recipe.name,
        **environment(),
    }
    note(about / "record.json", part, record, path.stat().st_size)
    if given.ship:
        shipped.write_bytes(path.read_bytes())
        (about / f"{part}.csv").write_bytes((given.out / f"{part}.csv").read_bytes())


def note(place: Path, part: Part, record: dict[str, Any], size: int) -> None:
    """Writes how a part was made, and keeps what is there of the other."""
    found = json.loads(place.read_text()) if place.is_file() else {}
    parts = {name: found[name] for name in get_args(Part) if name in found}
    write_json(place, {**parts, part: record, "bytes": size})


if __name__ == "__main__":
    main()

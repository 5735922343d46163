"""Warm start: learns, from several characters, the weights that a student of any other begins with.

    python experiments/warm_start/make.py --minutes 30

Reptile (Nichol et al. 2018, arXiv 1803.02999): each round trains every character for some steps from the same weights, as
distillation would, and takes the mean of where they end as the next round's weights. Writes OUT/start.safetensors (given
to distillation as init=FILE), OUT/record.json and OUT/log.csv; --ship also puts the start into the package and the record
beside this file. Interrupted, the same command goes on from the last round.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor

from thadistill.cli.app import conf_dir
from thadistill.data.build import PoseSequence, open_cache
from thadistill.data.cache import Kind, Targets
from thadistill.data.character import Character
from thadistill.data.face_mask import face_mask_from_targets
from thadistill.distillation import console, device, fill
from thadistill.images import STUDENT_FACE_REGION
from thadistill.lit.base import StudentModule
from thadistill.memory import keep_freed_memory
from thadistill.report import environment, write_json
from thadistill.student.start import STARTS, SUFFIX, save_start

HERE = Path(__file__).parent
# lambda_00, crypko_00 and crypko_03 are what the start is judged on: it never sees them
CHARACTERS = ("lambda_01", "crypko_01", "crypko_02", "crypko_04", "crypko_05", "crypko_06", "crypko_07")
PHASE = 0.5  # of the recipe's loss weights: motion still counts for much


class Pupil:
    """One character: its module's buffers and its endless batches of both networks."""

    def __init__(self, config: DictConfig, faces: int, poses: int, seed: int) -> None:
        character: Character = hydra.utils.instantiate(config.character)
        teacher = hydra.utils.instantiate(config.teacher, device=device(config))
        sequence = PoseSequence(seed=seed, rotations="sobol")
        found: dict[str, Targets] = {}
        wanted: list[tuple[Kind, int]] = [("face", faces), ("posed", poses)]
        for kind, count in wanted:
            cache = open_cache(kind, teacher, character.image, sequence)
            fill(cache, teacher, character.image, sequence, count, None, f"{character.name}, {kind}")
            found[kind] = cache.open(count)
        mask = STUDENT_FACE_REGION.crop(face_mask_from_targets(found["face"], character.image))
        self.image = character.image
        recipe = config.recipe
        face = hydra.utils.instantiate(recipe.face_morpher.stream)
        body = hydra.utils.instantiate(recipe.body_rotator.stream)
        self.batches: dict[str, Iterator[Any]] = {
            "face_morpher": iter(
                face(found["face"], mask, mask_weight=recipe.face_morpher.mask_weight, also=found["posed"], seed=seed)
            ),
            "body_rotator": iter(body(found["posed"], seed=seed)),
        }


def learn(module: StudentModule, batches: Iterator[Any], steps: int, rate: float) -> tuple[float, float]:
    """Trains for ``steps`` at a rate that ends at a tenth; gives the mean losses of the first and the last quarter."""
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * rate * (1 - 0.9 * step / steps)
        loss = module.losses(next(batches))["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    part = max(1, steps // 4)
    return sum(losses[:part]) / part, sum(losses[-part:]) / part


def mean_of(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several sets of weights."""
    return {key: torch.stack([state[key] for state in states]).mean(0) for key in states[0]}


def weights_of(module: StudentModule) -> dict[str, Tensor]:
    """A copy of a network's weights."""
    return {key: value.clone() for key, value in module.network.state_dict().items()}


def train(
    part: str, module: StudentModule, pupils: dict[str, Pupil], given: argparse.Namespace, minutes: float, steps: int
) -> int:
    """Rounds of Reptile for ``minutes``, earlier runs' included; gives their number."""
    place = given.out / f"{part}.ckpt"
    seconds, rounds = 0.0, 0
    if place.is_file():
        kept = torch.load(place, weights_only=True)
        module.network.load_state_dict(kept["weights"])
        seconds, rounds = kept["seconds"], kept["rounds"]
    module.progress = PHASE
    with (given.out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        while seconds < 60 * minutes:
            started = time.monotonic()
            rate = max(0.1, 1 - seconds / (60 * minutes))
            before, ends, losses = weights_of(module), [], []
            for pupil in pupils.values():
                module.network.load_state_dict(before)
                if part == "body_rotator":
                    module.image = pupil.image
                losses.append(learn(module, pupil.batches[part], steps, rate))
                ends.append(weights_of(module))
            module.network.load_state_dict(mean_of(ends))
            rounds += 1
            seconds += time.monotonic() - started
            first, last = (sum(column) / len(column) for column in zip(*losses, strict=True))
            log.writerow([part, rounds, round(seconds / 60, 2), round(first, 5), round(last, 5)])
            file.flush()
            console.print(f"{part} round {rounds}, {seconds / 60:.1f} minutes: loss {first:.4f} -> {last:.4f}")
            torch.save({"weights": module.network.state_dict(), "seconds": seconds, "rounds": rounds}, place)
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="of training, after the targets are there")
    parser.add_argument("--face-share", type=float, default=0.25, help="of those minutes")
    parser.add_argument("--characters", nargs="+", default=CHARACTERS)
    parser.add_argument("--teacher", default="tha3")
    parser.add_argument("--student", default="paper", help="a start fits students of its own sizes only")
    parser.add_argument("--poses", type=int, default=112, help="posed targets of each character")
    parser.add_argument("--faces", type=int, default=160, help="face targets of each character")
    parser.add_argument("--steps", type=int, default=24, help="of each character in a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ship", action="store_true", help="put the result into the package")
    parser.add_argument("--out", type=Path, default=HERE / "outputs")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    torch.manual_seed(given.seed)
    started = time.monotonic()
    pupils, config = {}, DictConfig({})
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        for index, name in enumerate(given.characters):
            config = compose(
                "distill", overrides=[f"character={name}", f"teacher={given.teacher}", f"student={given.student}"]
            )
            pupils[name] = Pupil(config, given.faces, given.poses, seed=100 + index + given.seed)
    targets_minutes = (time.monotonic() - started) / 60
    face: StudentModule = hydra.utils.instantiate(config.modules.face_morpher)
    body = hydra.utils.instantiate(config.modules.body_rotator, image=next(iter(pupils.values())).image)
    face_minutes = given.face_share * given.minutes
    rounds = {
        "face_morpher": train("face_morpher", face, pupils, given, face_minutes, given.steps),
        "body_rotator": train("body_rotator", body, pupils, given, given.minutes - face_minutes, given.steps),
    }
    path = given.out / "start.safetensors"
    save_start(path, face.network, body.student())
    record = {
        "method": "Reptile, the mean of all characters each round",
        "characters": list(given.characters),
        "teacher": given.teacher,
        "student": given.student,
        "poses": given.poses,
        "faces": given.faces,
        "steps of each character a round": given.steps,
        "rounds": rounds,
        "minutes of training": given.minutes,
        "minutes for targets in the last run": round(targets_minutes, 1),
        "recipe": config.recipe.name,
        "seed": given.seed,
        "bytes": path.stat().st_size,
        **environment(),
    }
    write_json(given.out / "record.json", record)
    if given.ship:
        about = HERE / given.student
        about.mkdir(exist_ok=True)
        (STARTS / f"{given.student}{SUFFIX}").write_bytes(path.read_bytes())
        write_json(about / "record.json", record)
        (about / "log.csv").write_bytes((given.out / "log.csv").read_bytes())


if __name__ == "__main__":
    main()

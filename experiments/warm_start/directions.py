"""Facial directions: along which combinations of the 39 facial values bodies move, as far as that is alike in characters.

    python experiments/warm_start/directions.py --ship

A face moves the whole body a little, in every character elsewhere, so no start can know how; but which faces do it most is
much the same. Of each character, pairs of poses that differ by their faces alone: how the teacher's motion differs, where a pixel
comes from, is regressed on the differences of the values times the six rotations. The directions are the principal ones of
all characters' coefficients, each at the root of its share. Written are OUT/facial_directions.csv and OUT/directions.json,
which says how much of the motion of new pairs such a regression explains along each value on its own, and along the
directions of all other characters; --ship puts them into the package and beside this file.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import hydra
import torch
from hydra import compose, initialize_config_dir
from jaxtyping import Float
from make import CHARACTERS
from torch import Tensor

from thadistill.cli.app import check, conf_dir
from thadistill.console import console
from thadistill.data.character import Character
from thadistill.data.poses import sample_poses
from thadistill.memory import keep_freed_memory
from thadistill.pose import FACIAL_SIZE, POSE_PARAMETERS
from thadistill.report import environment, write_json
from thadistill.student.start import STARTS, save_directions
from thadistill.targets import device
from thadistill.teacher import Teacher
from thadistill.warp import position_grid

HERE = Path(__file__).parent
JUDGED = ("crypko_00", "crypko_03")
CELLS = 64  # of the character image along a side, which pixels are gathered in by where they come from
RIDGES = (10.0, 30.0, 100.0, 300.0)  # of those the best is told, for either kind of regression
LEAST = 1e-4  # share of the strongest direction's that the weakest is given


def pose_pairs(count: int, seed: int) -> tuple[Float[Tensor, "n 45"], Float[Tensor, "n 45"]]:
    """Poses, and the same with other faces."""
    poses = sample_poses(2 * count, seed, "sobol")
    first, second = poses[:count], poses[:count].clone()
    second[:, POSE_PARAMETERS.facial] = poses[count:, POSE_PARAMETERS.facial]
    return first, second


def differences(
    teacher: Teacher, image: Float[Tensor, "4 512 512"], first: Float[Tensor, "n 45"], second: Float[Tensor, "n 45"]
) -> Float[Tensor, "n k"]:
    """How the motion of each pair differs, in pixels, on the cells that nearly all pairs see; often seen ones weigh more."""
    grid = position_grid(512, 512, image.device)[0]
    seen, moved = [], []
    with torch.inference_mode(), teacher.rounded():
        for pair in zip(first, second, strict=True):
            one, other = (teacher(image[None], pose[None].to(image.device)) for pose in pair)
            visible = one.posed[0, 3] > -0.99
            source = grid + (one.grid_change[0] + other.grid_change[0]) / 2
            column, row = ((source[:, visible] + 1) * CELLS / 2).long().clamp(0, CELLS - 1)
            change = (one.grid_change[0] - other.grid_change[0])[:, visible] * 256
            sums = torch.zeros(3, CELLS**2, device=image.device)
            sums.index_add_(1, row * CELLS + column, torch.cat([change, torch.ones_like(change[:1])]))
            seen.append(sums[2].cpu())
            moved.append((sums[:2] / sums[2].clamp(min=1)).cpu())
    counts = torch.stack(seen)
    often = (counts > 0).float().mean(0) > 0.9
    return (torch.stack(moved) * counts.mean(0).sqrt())[:, :, often].flatten(1)


def regressors(
    first: Float[Tensor, "n 45"], second: Float[Tensor, "n 45"], directions: Float[Tensor, "39 39"]
) -> Float[Tensor, "n 234"]:
    """Differences along the directions, times each rotation; of mean square 1 over all."""
    along = (first - second)[:, POSE_PARAMETERS.facial] @ directions.T
    joined = (first[:, POSE_PARAMETERS.rotation, None] * along[:, None]).flatten(1)
    return joined / joined.square().mean().sqrt()


def ridge(x: Float[Tensor, "n p"], y: Float[Tensor, "n k"], weight: float) -> Float[Tensor, "p k"]:
    """Coefficients of y on x, drawn to zero by ``weight``."""
    x = x.double()
    return torch.linalg.solve(x.T @ x + weight * torch.eye(x.shape[1]), x.T @ y.double()).float()


def explained(x: Float[Tensor, "n p"], y: Float[Tensor, "n k"], tested: int) -> float:
    """The share of the last pairs' motion that the others foretell."""
    shares = []
    for weight in RIDGES:
        left = y[-tested:] - x[-tested:] @ ridge(x[:-tested], y[:-tested], weight)
        shares.append(1 - float(left.square().sum() / y[-tested:].square().sum()))
    return round(max(shares), 3)


def moment(
    first: Float[Tensor, "n 45"], second: Float[Tensor, "n 45"], y: Float[Tensor, "n k"], scale: Float[Tensor, " 39"]
) -> Float[Tensor, "39 39"]:
    """Second moment over the facial values, of unit variance, of a character's coefficients; its trace is 1."""
    found = ridge(regressors(first, second, torch.diag(1 / scale)), y, RIDGES[1]).view(-1, FACIAL_SIZE, y.shape[1])
    joined = found.transpose(0, 1).flatten(1)
    product = joined @ joined.T
    return product / product.trace()


def directions_of(moments: list[Tensor], scale: Float[Tensor, " 39"]) -> Float[Tensor, "39 39"]:
    """Principal directions as rows, strongest first; their squares sum to 39, as those of the values on their own."""
    strength, vectors = torch.linalg.eigh(torch.stack(moments).mean(0))
    strength = strength.clamp(min=LEAST * float(strength[-1]))
    rows = (strength.sqrt() * vectors / scale[:, None]).T.flip(0)
    return rows * (FACIAL_SIZE / rows.square().sum()).sqrt()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", nargs="+", default=CHARACTERS)
    parser.add_argument("--judge", nargs="*", default=JUDGED, help="characters that the directions are only tried on")
    parser.add_argument("--teacher", default="tha3")
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--tested", type=int, default=100, help="of the pairs, those that are foretold")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--ship", action="store_true", help="put the result into the package")
    parser.add_argument("--out", type=Path, default=HERE / "outputs")
    given = parser.parse_args()
    if not 0 < given.tested < given.pairs:
        parser.error(
            f"--tested {given.tested}, --pairs {given.pairs}; expected more than 0, and fewer tested than pairs"
        )
    names = [*given.characters, *given.judge]
    overrides = {name: [f"character={name}", f"teacher={given.teacher}"] for name in names}
    for chosen in overrides.values():
        check("distill", chosen)
    given.out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    first, second = pose_pairs(given.pairs, given.seed)
    scale = (first - second)[:, POSE_PARAMETERS.facial].std(0)
    began, moved = time.monotonic(), {}
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        for name, chosen in overrides.items():
            config = compose("distill", overrides=chosen)
            character: Character = hydra.utils.instantiate(config.character)
            teacher = hydra.utils.instantiate(config.teacher, device=device(config))
            moved[name] = differences(teacher, character.image.to(device(config)), first, second)
            console.print(f"{name}: {given.pairs} pairs, {(time.monotonic() - began) / 60:.1f} minutes")
    moments = {name: moment(first, second, moved[name], scale) for name in given.characters}
    shares = {}
    for name, y in moved.items():
        others = [value for other, value in moments.items() if other != name]
        alone = explained(regressors(first, second, torch.diag(1 / scale)), y, given.tested)
        along = explained(regressors(first, second, directions_of(others, scale)), y, given.tested) if others else None
        shares[name] = {"each value on its own": alone, "directions of the other characters": along}
        console.print(
            f"{name}: of the motion of new pairs {alone:.0%} by each value, {along or 0:.0%} along directions"
        )
    directions = directions_of(list(moments.values()), scale)
    save_directions(given.out / "facial_directions.csv", directions)
    sizes = directions.square().sum(1)
    record = {
        **{key: getattr(given, key) for key in ("teacher", "pairs", "tested", "seed")},
        "characters": list(given.characters),
        "share of the strongest 1, 4, 8, 16": [round(float(sizes[:k].sum() / sizes.sum()), 3) for k in (1, 4, 8, 16)],
        "explained of new pairs": shares,
        "minutes": round((time.monotonic() - began) / 60, 1),
        **environment(),
    }
    write_json(given.out / "directions.json", record)
    if given.ship:
        (STARTS / "facial_directions.csv").write_bytes((given.out / "facial_directions.csv").read_bytes())
        (HERE / "directions.json").write_bytes((given.out / "directions.json").read_bytes())


if __name__ == "__main__":
    main()

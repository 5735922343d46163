"""Targets of a distillation: what recipe and budget ask of the teacher, built or found in the cache.

:class:`TargetSets` is the one place that knows which poses a set has and how its targets are made; whoever builds or reads
one asks it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import hydra
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from thadistill.console import console, progress_bar
from thadistill.data.poses import PoseSequence
from thadistill.data.target_builder import build_targets, crowded, open_cache
from thadistill.data.target_cache import POSED_BYTES, SHARD, Kind, TargetCache, Targets
from thadistill.devices import machine_memory, trainer_device
from thadistill.errors import UserError
from thadistill.pipeline.run_folder import RunFolder
from thadistill.teacher import Teacher

_FEW = 4  # poses of a shard of validation and evaluation, and the least of them
_JUDGED_SHARE = 0.1  # of a short budget that may go into the targets that a student is judged by
_PERCEPTUAL_MINUTES = {"lpips": 0.012, "stlpips": 0.035}  # a pose takes on two cores
_OTHER_FACES = 1_000_000  # added to the seed: the face morpher sees the posed targets' faces besides


def budget_of(config: DictConfig) -> float | None:
    """Minutes of wall-clock; None: no clock, as all that is trained counts poses or patches, and ends with the last."""
    return None if config.budget_minutes is None else float(config.budget_minutes)


def training_ends(config: DictConfig, budget: float) -> float:
    """The minute of a budget at which training is over; what comes after it is evaluation."""
    each = 0.007 + sum(_PERCEPTUAL_MINUTES[name] for name in config.evaluation.perceptual)
    last = 0.1 + each * config.evaluation.poses if trainer_device(config.trainer).type == "cpu" else 0.3
    last += 0.15 if config.evaluation.speed else 0
    return budget - min(last, 0.2 * budget)


def training_minutes(budget: float, left: float) -> float:
    """Minutes of a training for which ``left`` are left of the budget: however late it begins, it gets a fiftieth of it."""
    return max(0.02 * budget, left)


def check_targets(config: DictConfig) -> None:
    """Refuses seeds that would share poses between training, validation and evaluation.

    Raises: UserError.
    """
    training: PoseSequence = hydra.utils.instantiate(config.recipe.targets.poses)
    poses = training.limit
    if poses is not None and poses < SHARD:
        raise UserError(f"{training.source} has {poses} poses; expected {SHARD} or more to train on")
    if poses is not None and poses % SHARD:
        console.print(
            f"{training.source}: the last {poses % SHARD} of {poses} poses are left out, as they come in {SHARD}s"
        )
    for name in ("evaluation", "validation"):
        seed = config[name].seed
        if training.source == "random" and seed in (training.seed, training.seed + _OTHER_FACES):
            raise UserError(f"{name}.seed={seed} gives faces that seed={training.seed} trains on; expected another")
    if config.validation.seed == config.evaluation.seed:
        raise UserError(
            f"validation.seed={config.validation.seed} gives poses that evaluation.seed={config.evaluation.seed} reports "
            "on; expected another, as states are chosen on the first and reported on the second"
        )


def faces_of_face_morpher(posed: PoseSequence) -> PoseSequence:
    """The face morpher's own poses: other faces than those of the posed targets, which it sees anyway."""
    return replace(posed, seed=posed.seed + _OTHER_FACES, poses_per_face=1)


def most_posed(config: DictConfig) -> int:
    """The most posed targets: the recipe's, but where time decides not more than half of the machine's memory holds.

    They are read in random order, which from a disk would take longer than making fewer.
    """
    most, memory = config.recipe.targets.posed, machine_memory()
    if config.recipe.body_rotator.progress_by != "minutes" or memory is None:
        return int(most)
    return min(int(most), max(SHARD, memory // 2 // POSED_BYTES))


def validation_poses(config: DictConfig) -> int:
    """How many validation poses are looked at: by the module itself, or by the callback that wants most."""
    callbacks = (config.get("callbacks") or {}).values()
    return max(
        config.validation.poses, *(callback.get("poses", 0) for callback in callbacks if callback is not None), 0
    )


class Wanted(NamedTuple):
    """One of a distillation's target sets, of ``most`` poses; ``minutes``: at most, None for all that it takes.

    ``low_precision``: see :meth:`thadistill.teacher.Teacher.low_precision`. ``shard``: poses of a shard; small where few
    poses are wanted, as whole ones are made.
    """

    kind: Kind
    poses: PoseSequence
    most: int
    minutes: float | None = None
    low_precision: bool = False
    shard: int = SHARD


class TargetSets:
    """The target sets of a distillation by name.

    ``posed`` and ``face`` are trained on, ``validation`` and ``validation_face`` watched and chosen by meanwhile,
    ``evaluation`` reported on at the end.

    Args:
        config: conf/distill.yaml or conf/train.yaml, composed.
        image: the character's.
        budget: minutes of the whole, of which the recipe gives shares to the teacher; None: no clock, all that the recipe
            asks for.
        slower: how many times longer those may take, where a process has a part of the machine.
        say: called with the progress, in place of a progress bar.
    """

    def __init__(
        self,
        config: DictConfig,
        teacher: Teacher,
        image: Float[Tensor, "4 512 512"],
        budget: float | None,
        slower: float = 1.0,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.config, self.teacher, self.image = config, teacher, image
        self.budget, self.say = budget, say
        self._seconds: dict[Kind, float] = {}  # that a pose took
        self._caches: dict[str, TargetCache] = {}  # a key costs a hash of the teacher's weights
        recipe = config.recipe.targets
        training: PoseSequence = hydra.utils.instantiate(recipe.poses)
        faces = faces_of_face_morpher(training)
        validation = PoseSequence(seed=config.validation.seed)
        watched = validation_poses(config)

        def minutes(share: float) -> float | None:
            return None if budget is None else slower * share * budget

        self.wanted = {
            "validation": Wanted("posed", validation, watched, shard=_FEW),
            "validation_face": Wanted("face", validation, max(watched, config.validation.faces), shard=_FEW),
            "evaluation": Wanted(
                "posed", PoseSequence(seed=config.evaluation.seed), config.evaluation.poses, shard=_FEW
            ),
            "face": Wanted("face", faces, recipe.face, minutes(recipe.face_share), recipe.low_precision),
            "posed": Wanted("posed", training, most_posed(config), minutes(recipe.posed_share), recipe.low_precision),
        }

    def cache(self, name: str) -> TargetCache:
        """Where a set lies, or is to lie."""
        if name not in self._caches:
            folder = None if self.config.targets is None else Path(self.config.targets) / name
            wanted = self.wanted[name]
            with self.precision(name):
                made = open_cache(wanted.kind, self.teacher, self.image, wanted.poses, folder, wanted.shard)
            self._caches[name] = made
        return self._caches[name]

    def precision(self, name: str) -> AbstractContextManager[None]:
        """Within it, the teacher computes as this set asks for; its key says so."""
        return self.teacher.low_precision() if self.wanted[name].low_precision else nullcontext()

    def build(
        self, run: RunFolder, names: Sequence[str], left: Callable[[], float] | None = None
    ) -> dict[str, Targets]:
        """Builds sets one after the other, each a step of ``run``; those that an earlier call planned are as they were.

        ``left``: minutes that there are for all of them, which what follows must not lose. Where they are too few, sets
        that take a share of the budget end earlier, and of those that a student is judged by there are fewer poses.
        """
        made = {}
        for number, name in enumerate(names):
            cache, wanted, title = self.cache(name), self.wanted[name], f"targets: {name.replace('_', ' ')}"
            planned = run.state["plan"].get(f"{name}_poses")
            before, count = len(cache), wanted.most if planned is None else planned
            # what was planned was there once: if it is gone, it is made again, however long that takes
            minutes = (
                None if wanted.minutes is None or planned is not None else max(0.0, wanted.minutes - run.spent(title))
            )
            with run.step(title) as step:
                if left is not None and minutes is not None:
                    minutes = min(minutes, left() - self._minutes(names[number + 1 :]))
                    shard = cache.shard * self._seconds.get(wanted.kind, 0.0) / 60
                    minutes = minutes if minutes >= shard else 0.0  # a shard that is begun is finished
                elif left is not None and planned is None:
                    count = self._affordable(name, count, left() - self._minutes(names[number + 1 :], least=True))
                have = self.fill(name, cache, count, minutes)
                used = run.planned(f"{name}_poses", functools.partial(min, have, count))
                why = ", as many as the disk has room for" if have < count and crowded(cache) else ""
                step["detail"] = f"{used} poses, {max(0, have - before)} new{why}"
            made[name] = cache.open(used)
        return made

    def has_room(self, name: str, others: Sequence[str], minutes: float) -> bool:
        """Whether, of so many minutes, those are left for a shard of ``name`` that ``others`` do not need.

        A first few poses of the evaluation are made, to know how long one takes.
        """
        self.fill("evaluation", self.cache("evaluation"), min(_FEW, self.wanted["evaluation"].most), None)
        shard = SHARD * self._seconds.get(self.wanted[name].kind, 0.0) / 60
        return minutes - self._minutes(others) > shard

    def _minutes(self, names: Iterable[str], least: bool = False) -> float:
        """What sets take, as far as is known how long a pose does: a shard, or, of those judged by, all or the least."""
        trained = judged = 0.0
        for name in names:
            wanted = self.wanted[name]
            known = self._seconds.get(wanted.kind, max(self._seconds.values(), default=0.0)) / 60
            new = (SHARD if wanted.minutes is not None else _FEW if least else wanted.most) - len(self.cache(name))
            if wanted.minutes is not None:
                trained += known * max(0, new)
            else:
                judged += known * max(0, new)
        return trained + (judged if self.budget is None else min(judged, _JUDGED_SHARE * self.budget))

    def _affordable(self, name: str, count: int, minutes: float) -> int:
        """How many of ``count`` poses can be made in ``minutes``, in whole shards; those that are there cost nothing."""
        wanted, have = self.wanted[name], len(self.cache(name))
        known = self._seconds.get(wanted.kind, max(self._seconds.values(), default=0.0)) / 60
        if not known or known * max(0, count - have) <= minutes:
            return count
        return min(count, max(_FEW, have, int((have + max(0.0, minutes) / known) // _FEW * _FEW)))

    def complete(self, *names: str) -> dict[str, Targets]:
        """Sets of all the poses that the recipe asks for, however long the missing ones take."""
        made = {}
        for name in names:
            cache, most = self.cache(name), self.wanted[name].most
            self.fill(name, cache, most, None)
            made[name] = cache.open(min(len(cache), most))
        return made

    def fill(self, name: str, cache: TargetCache, count: int, minutes: float | None) -> int:
        """Builds up to ``count`` poses of a set; returns how many there are."""
        if len(cache) >= count:
            return len(cache)
        say, seconds, title = self.say, None if minutes is None else 60 * minutes, name.replace("_", " ")
        given = (cache, self.teacher, self.image, self.wanted[name].poses, count)

        def timed(took: float) -> None:
            self._seconds[self.wanted[name].kind] = took

        with self.precision(name):
            if say is None:
                return _fill(*given, seconds, title, timed)

            def report(done: int) -> None:
                say(f"teacher: {done} poses, {title}")

            return build_targets(*given, seconds=seconds, report=report, timed=timed)


def _fill(
    cache: TargetCache,
    teacher: Teacher,
    image: Float[Tensor, "4 512 512"],
    poses: PoseSequence,
    count: int,
    seconds: float | None,
    name: str,
    timed: Callable[[float], None],
) -> int:
    """:func:`build_targets` under a progress bar; nothing happens where the cache has enough."""
    if len(cache) >= count:
        return len(cache)
    with progress_bar() as bar:
        task = bar.add_task(f"teacher: {name}", total=count, note="")
        started, already = time.monotonic(), len(cache)
        bar.update(task, completed=already)

        def report(done: int) -> None:
            # where time runs out first, the bar shows the time
            share = max(done / count, 0 if seconds is None else (time.monotonic() - started) / seconds)
            bar.update(task, completed=min(1.0, share) * count, note=f"{done} poses")

        return build_targets(cache, teacher, image, poses, count, seconds=seconds, report=report, timed=timed)

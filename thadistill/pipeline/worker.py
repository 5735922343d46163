"""Worker: a second process that runs the teacher, then trains the face morpher, while the first trains the body rotator.

Two processes of one thread each get a third more out of two cores than two threads in one: small networks' operations
are short, and threads meet at the end of each. Neither waits for the other: targets reach the rotator's training a shard
at a time, through the cache on disk. From four threads on, helpers of one thread each run the teacher too: they take
shards from the same cache, and leave their threads to the face morpher when the last is there.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from thadistill.data.character import Character
from thadistill.data.target_cache import Targets
from thadistill.devices import machine_memory
from thadistill.errors import UserError, mistake
from thadistill.pipeline.run_folder import RunFolder
from thadistill.pipeline.targets import TargetSets, training_ends, training_minutes
from thadistill.processes import spawn
from thadistill.teacher import Teacher

_PATIENCE = 10.0  # seconds for an interrupted process to note what it has done
# the rotator's step gets two thirds shorter by threads at the most: of two it has 1.5 times the speed of one
_MOST_FOR_ROTATOR, _MOST_FOR_FACE = 6, 4
_MOST_HELPERS = 16
_HELPERS_BYTES = 2**30  # of memory, each: PyTorch, the teacher, what a pose needs


class Shares(NamedTuple):
    """Who has a machine's threads: the first process, the worker, and how many helpers of one thread there are."""

    rotator: int
    worker: int
    helpers: int
    face: int  # of the worker, when the teacher is through

    @property
    def teacher(self) -> int:
        """Threads that run the teacher."""
        return self.worker + self.helpers


def share_threads(threads: int, memory: int | None = None) -> Shares:
    """Shares out two threads or more.

    Args:
        memory: bytes of the machine, of which helpers take a quarter at the most; None: not known.
    """
    rotator = min(threads - threads // 2, _MOST_FOR_ROTATOR)
    rest = threads - rotator
    worker = 1 if rest < 4 else 2
    room = _MOST_HELPERS if memory is None else memory // 4 // _HELPERS_BYTES
    return Shares(rotator, worker, min(rest - worker, room, _MOST_HELPERS), min(rest, _MOST_FOR_FACE))


@dataclass(frozen=True)
class Work:
    """What the second process, or a helper, is to do.

    Args:
        config: conf/distill.yaml, composed and resolved.
        folder: the face morpher's; its own ``run.json`` lies there.
        budget: minutes of the whole distillation. began: ``time.time()`` at which they began, or would have where this run
            continues another.
        threads: its own. face_threads: those of the face morpher, whose training begins when the helpers are gone.
        slower: by what factor the teacher is, as it has not all of the machine, for which the recipe's shares of the budget
            count.
    """

    config: dict[str, Any]
    folder: Path
    budget: float
    began: float
    threads: int
    face_threads: int
    slower: float


def has_worker(config: DictConfig, device: torch.device) -> bool:
    """Whether a second process pays and may be had: on CPUs of two threads or more, under budgets of minutes.

    Budgets in poses and patches promise the same result on every run, so there all targets are made before.
    """
    recipe = config.recipe
    by_minutes = {recipe.face_morpher.progress_by, recipe.body_rotator.progress_by} == {"minutes"}
    alone = config.trainer.devices in (1, "1", "auto") and config.trainer.get("num_nodes", 1) == 1
    alone = alone and not config.trainer.get("fast_dev_run")
    return bool(
        recipe.background_worker and by_minutes and alone and device.type == "cpu" and torch.get_num_threads() > 1
    )


class Worker:
    """The second process and its helpers, as the first sees them; ``with`` starts and ends them, and shares the threads."""

    def __init__(self, config: DictConfig, folder: Path, budget: float, began: float) -> None:
        content = OmegaConf.to_container(config, resolve=True)
        assert isinstance(content, dict)
        self._all = torch.get_num_threads()
        shares = share_threads(self._all, machine_memory())
        slower = self._all / shares.teacher
        work = Work(content, folder, budget, began, shares.worker, shares.face, slower)  # type: ignore[arg-type]
        self._helpers = [
            spawn("thadistill.pipeline.worker:help_to_teach", replace(work, threads=1)) for _ in range(shares.helpers)
        ]
        self._receiver, tell = multiprocessing.get_context("spawn").Pipe(duplex=False)
        self._process = spawn("thadistill.pipeline.worker:teach", work, pipe=tell)
        tell.close()
        self.processes = 2 + len(self._helpers)  # that run the teacher at the beginning, the first one included
        self._mistake: str | None = None
        self._failure: str | None = None
        self.doing = "starting"
        torch.set_num_threads(shares.rotator)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        processes = (self._process, *self._helpers)
        for process in processes:
            if process.is_alive():
                process.terminate()
        for process in processes:
            process.join(_PATIENCE)
            process.kill()
        torch.set_num_threads(self._all)

    def look(self) -> str:
        """What it is doing, in a few words.

        Raises: UserError, RuntimeError when it has failed.
        """
        try:
            while self._receiver.poll():
                kind, text = self._receiver.recv()
                if kind == "mistake":
                    self._mistake = text
                elif kind == "failed":
                    self._failure = text
                else:
                    self.doing = text
        except EOFError:
            self._process.join()  # it has ended: how, its status says
        if self._process.exitcode not in (None, 0):
            if self._mistake is not None:
                raise UserError(self._mistake)
            if self._failure is not None:
                raise SystemExit(self._failure)
            raise RuntimeError(
                f"the second process (teacher, face morpher) ended with status {self._process.exitcode} "
                f"while {self.doing}; what it saved is kept: the same command continues"
            )
        return self.doing

    def wait(self) -> None:
        """Until it has finished.

        Raises: as :meth:`look`.
        """
        while self._process.is_alive():
            self.look()
            self._process.join(0.2)
        self.look()


def teach(work: Work, tell: Connection) -> None:
    """What the second process does; how it failed, it tells before it ends."""
    with _as_process(work, lambda kind, text: tell.send((kind, text))):
        _teach(work, tell)


@contextmanager
def _as_process(work: Work, report: Callable[[str, str], None] = lambda kind, text: None) -> Iterator[None]:
    """What a process of its own begins and ends with: its threads, how it is interrupted, its status, what failed."""
    signal.signal(signal.SIGTERM, _interrupt)
    torch.set_num_threads(work.threads)
    try:
        yield
    except (UserError, OSError, RuntimeError) as error:
        found = mistake(error)
        if found is None:
            raise
        report("mistake", str(found))
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except SystemExit as ended:  # a training that diverged says so
        report("failed", str(ended.code))
        raise SystemExit(1) from None


def help_to_teach(work: Work) -> None:
    """What a helper does: shards of the targets that are trained on, until all are there or the teacher's time is over.

    What hinders it hinders the worker too, which says so.
    """
    with _as_process(work):
        config = OmegaConf.create(work.config)
        _, sets = _target_sets(work, config, lambda text: None)
        planned = RunFolder(work.folder, config).state["plan"]  # by a run that this one continues
        spent = (time.time() - work.began) / 60
        for name, before in (("posed", spent), ("face", 0.0)):
            wanted = sets.wanted[name]
            assert wanted.minutes is not None
            if f"{name}_poses" not in planned and before < wanted.minutes:
                sets.fill(name, sets.cache(name), wanted.most, wanted.minutes - before)


def _target_sets(work: Work, config: DictConfig, say: Callable[[str], None]) -> tuple[Character, TargetSets]:
    character: Character = hydra.utils.instantiate(config.character)
    teacher: Teacher = hydra.utils.instantiate(config.teacher, device="cpu")
    return character, TargetSets(config, teacher, character.image, work.budget, work.slower, say)


def _interrupt(number: int, frame: object) -> None:
    """As Ctrl-C does: steps note the time that they have had."""
    raise KeyboardInterrupt


def _teach(work: Work, tell: Connection) -> None:
    """All targets, the face mask, the face morpher; each goes on where an earlier run left it."""
    # here, as the process that starts this one imports this module, and Lightning takes seconds
    from lightning import seed_everything

    from thadistill.callbacks import SaidProgress
    from thadistill.pipeline.fit import face_morpher_step

    config = OmegaConf.create(work.config)
    run = RunFolder(work.folder, config)
    seed_everything(config.seed, verbose=False)

    def say(text: str) -> None:
        tell.send(("doing", text))

    character, sets = _target_sets(work, config, say)

    def left() -> float:
        """Minutes until the rotator's training ends."""
        return training_ends(config, work.budget) - (time.time() - work.began) / 60

    def for_targets() -> float:
        """What a slow teacher must not exceed: the face morpher has its share."""
        return left() - config.recipe.face_morpher.share * work.budget

    targets = all_targets(sets, run, for_targets)
    torch.set_num_threads(work.face_threads)

    def minutes() -> float:
        return training_minutes(work.budget, left())

    face_morpher_step(run, config, character, targets, minutes, work.folder, SaidProgress("face morpher", say))


def all_targets(sets: TargetSets, run: RunFolder, left: Callable[[], float]) -> dict[str, Targets]:
    """Every set but the validation poses of the body rotator, which the first process makes, in ``left`` minutes.

    Without the time for a shard of posed targets, those that the first process makes meanwhile are taken.
    """
    others = ("face", "validation_face", "evaluation")
    room = sets.has_room("posed", others, left())
    return sets.build(run, ("posed", *others) if room else (*others, "posed"), left)

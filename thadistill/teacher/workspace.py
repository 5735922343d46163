"""Workspace: the buffers and threads that row-tiled engines run with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import torch
from torch import Tensor

_MOST_THREADS = 16  # an image holds Python's lock for some 5 % of its time: beyond, threads would wait for it

T = TypeVar("T")


class Threads:
    """A few threads that each run torch's operations serially; ``with`` starts and ends them.

    Torch's own threads meet at the end of every operation: thousands of times an image here, which costs more than it
    gains as soon as anything else runs on the machine.
    """

    def __init__(self) -> None:
        self.count = min(torch.get_num_threads(), _MOST_THREADS)
        self._before = torch.get_num_threads()
        self._inference = torch.is_inference_mode_enabled()

    def __enter__(self) -> Threads:
        self._pool = ThreadPoolExecutor(self.count, initializer=torch.set_num_threads, initargs=(1,))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self._before)  # a thread's setting reaches parts of torch that all threads share

    def run(self, work: Callable[..., T], items: Sequence[tuple[int, ...]]) -> list[T]:
        """``work(*item)`` of every item, without gradients."""

        def run_one(item: tuple[int, ...]) -> T:
            with torch.inference_mode(self._inference), torch.no_grad():
                return work(*item)

        return list(self._pool.map(run_one, items))


class Workspace:
    """Buffers kept between calls: the first touch of fresh memory costs as much as the arithmetic on it.

    A buffer is out of the pool while it is in use, so threads may share one. Copies of a network start with none. An
    image of THA3 takes 230 MB in all.
    """

    def __init__(self) -> None:
        self._free: dict[tuple[int, torch.dtype], list[Tensor]] = {}

    def take(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A buffer, its content undefined."""
        size = torch.Size(shape).numel()
        try:
            return self._free[size, dtype].pop().view(shape)
        except (KeyError, IndexError):
            with torch.inference_mode(False):  # an ordinary tensor can be written in every mode
                return torch.empty(shape, dtype=dtype)

    def give_back(self, buffer: Tensor) -> None:
        """Returns a buffer to the pool; nobody may use it any more."""
        self._free.setdefault((buffer.numel(), buffer.dtype), []).append(buffer)

    def __deepcopy__(self, memo: dict[int, object]) -> Workspace:
        return Workspace()

    def __reduce__(self) -> tuple[type[Workspace], tuple[()]]:
        return Workspace, ()

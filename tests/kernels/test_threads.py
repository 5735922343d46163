"""Threads: the loops that kernels share, against the sum of their turns."""

from __future__ import annotations

import ctypes
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from thadistill.kernels.build import NativeUnavailable, load_native

SOURCE = """
#include "threads.hpp"
extern "C" {
// out[i] = i squared; seen[i]: the thread that did it
void squares(int64_t n, int threads, int64_t grain, int64_t *out, int32_t *seen) {
    share(n, threads, grain, [=](int64_t i, int thread) { out[i] = i * i, seen[i] = thread; });
}
// Turns that wait until as many threads are in the loop as there are turns.
int meet(int threads) {
    std::atomic<int> here{0}, met{0};
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    share(threads, threads, 1, [&, end](int64_t, int) {
        here++;
        while (here < threads && std::chrono::steady_clock::now() < end) std::this_thread::yield();
        met += here >= threads;
    });
    return met;
}
}
"""


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    source = tmp_path_factory.mktemp("threads") / "loops.cpp"
    source.write_text(SOURCE)
    try:
        library = load_native(source)
    except NativeUnavailable as error:
        pytest.skip(str(error))
    p, long = ctypes.c_void_p, ctypes.c_int64
    library.squares.argtypes = [long, ctypes.c_int, long, p, p]
    library.squares.restype = None
    return library


def squares(loops: ctypes.CDLL, n: int, threads: int, grain: int = 1) -> np.ndarray:
    """Runs the loop, checks what it gives, and returns which thread did what."""
    out, seen = np.full(n, -1, np.int64), np.full(n, -1, np.int32)
    loops.squares(n, threads, grain, out.ctypes.data, seen.ctypes.data)
    np.testing.assert_array_equal(out, np.arange(n) ** 2)
    assert n == 0 or (seen.min() >= 0 and seen.max() < threads)
    return seen


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_every_turn_is_done_once(loops: ctypes.CDLL, threads: int) -> None:
    for n in (0, 1, 2, 7, 1000):
        for grain in (1, 3, 5000):
            squares(loops, n, threads, grain)


def test_as_many_threads_as_asked_for_work_at_once(loops: ctypes.CDLL) -> None:
    for threads in (2, 4, 3):  # more and fewer than the loop before
        assert loops.meet(threads) == threads


def test_loops_follow_each_other_without_end(loops: ctypes.CDLL) -> None:
    for _ in range(5000):
        squares(loops, 8, 2)


def test_two_callers_at_once(loops: ctypes.CDLL) -> None:
    with ThreadPoolExecutor(4) as callers:
        for _ in callers.map(lambda _: [squares(loops, 50, 2) for _ in range(500)], range(4)):
            pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_child_has_threads_of_its_own(loops: ctypes.CDLL) -> None:
    assert loops.meet(2) == 2
    child = os.fork()
    if not child:
        os._exit(0 if loops.meet(2) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

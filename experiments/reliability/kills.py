"""Kill -9 at random moments: the same command continues, its results are whole, its caches bit-equal, nothing runs on.

    python experiments/reliability/kills.py kills=100 seed=0 [verbs=prepare,cache]

The kills are shared out over the verbs, which run at toy size on the puppet. A verb is killed at random moments of the time
that it takes undisturbed: itself alone, as its children have to notice within five seconds. After the last kill the same
command runs to its end, and what it leaves is held against an undisturbed run. ``kills.csv`` has a row per verb.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from record import record
from verbs import VERBS, damage, difference, finish, orphans, prepare_folder, share_out, start

FULL = 100


def kill(verb: str, kills: int, seed: int) -> dict[str, object]:
    """A row: kills, orphans, files found damaged right after a kill, and whether the end was as an undisturbed one."""
    generator = np.random.default_rng([seed, list(VERBS).index(verb)])
    with tempfile.TemporaryDirectory() as name:
        plain, disturbed, log = Path(name) / "plain", Path(name) / "disturbed", Path(name) / "stderr"
        for folder in (plain, disturbed):
            prepare_folder(folder)
        seconds = finish(verb, plain, log)
        done = left = 0
        wrong = []
        while done < kills:
            process = start(verb, disturbed, log)
            time.sleep(float(generator.uniform(0.1, 0.95)) * seconds)
            if process.poll() is not None:  # it was through, as what was saved is kept: from the beginning
                if process.returncode != 0:
                    wrong.append(log.read_text()[-300:])
                prepare_folder(disturbed)
                continue
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            done += 1
            running = orphans(process.pid)
            left += bool(running)
            wrong += [f"{verb}: runs on: {line}" for line in running]
            wrong += damage(disturbed)
        try:
            finish(verb, disturbed, log)
            wrong += filter(None, [difference(verb, disturbed, plain)])
        except RuntimeError as error:
            wrong.append(str(error))
    print(*wrong, sep="\n", end="\n" if wrong else "", flush=True)
    return {"verb": verb, "kills": done, "orphans": left, "wrong": len(wrong), "seconds": round(seconds, 1)}


def run(kills: int, seed: int, verbs: list[str]) -> bool:
    """Kills and judges; whether all was well."""
    rows = share_out(kills, seed, verbs, kill)
    if kills * len(VERBS) >= FULL * len(verbs):  # as many of each as a whole run has
        record("kills", rows, seed)
    return not any(row["orphans"] or row["wrong"] for row in rows)


if __name__ == "__main__":
    given = dict(argument.split("=") for argument in sys.argv[1:])
    chosen = given.get("verbs", ",".join(VERBS)).split(",")
    sys.exit(not run(int(given.get("kills", FULL)), int(given.get("seed", 0)), chosen))

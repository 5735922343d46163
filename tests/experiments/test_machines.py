"""What the machines table works out from one thread and several."""

from __future__ import annotations

import runpy
from pathlib import Path

RUN = Path(__file__).parents[2] / "experiments" / "machines" / "run.py"


def test_more_cores_are_worked_out_from_one_thread_and_two() -> None:
    scaling = runpy.run_path(str(RUN))["scaling"]
    one = {"instructions": "native", "threads": "1", "teacher_low_ms": "1000", "rotator_step_ms": "400"}
    assert scaling([one]) == []
    halved = {**one, "threads": "2", "teacher_low_ms": "500", "rotator_step_ms": "200"}  # nothing serial
    lines = [[int(cell) for cell in line] for line in scaling([one, halved])]
    assert [line[0] for line in lines] == [2, 4, 8, 16]
    for cores, rotator, worker, helpers, step, poses in lines:
        assert rotator + worker + helpers <= cores
        assert step == round(400 / rotator)
        assert poses == 60 * (worker + helpers)
    serial = {**one, "threads": "2"}  # a second thread brings nothing
    assert {line[4] for line in scaling([one, serial])} == {"400"}

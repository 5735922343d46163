"""Processes: of several, on one node or more, one speaks and writes."""

from __future__ import annotations

import os

import pytest

from thadistill.processes import _Own, is_first, is_first_process, train_alone


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),  # the first of a second node
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "4", "SLURM_LOCALID": "0"}, False),
        ({"SLURM_PROCID": "0"}, True),
        # started by Lightning within an allocation's first task
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),
    ],
)
def test_one_process_of_all_nodes_is_the_first(environment: dict[str, str], first: bool) -> None:
    assert is_first_process(environment) is first


def test_a_task_of_a_slurm_job_that_trains_alone_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setattr(_Own, "first", is_first_process({"SLURM_PROCID": "3"}))
    assert not is_first()
    train_alone()
    assert is_first()
    assert "SLURM_PROCID" not in os.environ  # nor for what it starts

"""Processes: of several, on one node or more, one speaks and writes."""

from __future__ import annotations

import pytest

from thadistill.processes import is_first_process


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

"""Tables: the paper's figures next to ours, from rows that are made once and continued where they were cut short."""

from thadistill.tables.ledger import Claim, Paper, Row, Run, make_rows, read_rows, write_table
from thadistill.tables.runs import (
    Command,
    distilled_row,
    read_command,
    rotator_row,
    run_table,
    speed_rows,
    untrained_student,
)

__all__ = [
    "Claim",
    "Command",
    "Paper",
    "Row",
    "Run",
    "distilled_row",
    "make_rows",
    "read_command",
    "read_rows",
    "rotator_row",
    "run_table",
    "speed_rows",
    "untrained_student",
    "write_table",
]

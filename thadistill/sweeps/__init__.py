"""Sweeps: many runs at once, one process a job, and what came out of them in one table."""

from thadistill.sweeps.collect import COST, QUALITY, collect, markdown_table, pareto_plot, read_runs
from thadistill.sweeps.pareto import pareto_front

__all__ = ["COST", "QUALITY", "collect", "markdown_table", "pareto_front", "pareto_plot", "read_runs"]

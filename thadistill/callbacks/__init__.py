"""Callbacks: budgets, progress, and what a training shows of itself."""

from thadistill.callbacks.budget import Budget
from thadistill.callbacks.grids import ImageGrids
from thadistill.callbacks.progress import BudgetBar

__all__ = ["Budget", "BudgetBar", "ImageGrids"]

"""Callbacks: budgets, progress, and what a training shows of itself and of its teacher."""

from thadistill.callbacks.best import BestCheckpoint
from thadistill.callbacks.budget import Budget
from thadistill.callbacks.checks import Checks
from thadistill.callbacks.comparison import Comparison
from thadistill.callbacks.diverged import StopDiverged
from thadistill.callbacks.frame_rate import FrameRate
from thadistill.callbacks.grids import ImageGrids
from thadistill.callbacks.progress import BudgetBar, SaidProgress
from thadistill.callbacks.student_vs_teacher import StudentVsTeacher

__all__ = [
    "BestCheckpoint",
    "Budget",
    "BudgetBar",
    "Checks",
    "Comparison",
    "FrameRate",
    "ImageGrids",
    "SaidProgress",
    "StopDiverged",
    "StudentVsTeacher",
]

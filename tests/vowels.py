"""The authors' fit of the mouth's vowels: the minimiser that recorded ``blendshapes_to_pose.json``."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize

from thadistill.drive.blendshapes import _SPARSITY, _VOWELS

# Recorded cases where it stopped short: a point within its reach costs 0.04 less
STOPPED_SHORT = [12, 83]


def cost(weights: np.ndarray, shape: np.ndarray) -> float:
    """What the vowels' weights minimise."""
    return float(np.linalg.norm(weights @ _VOWELS - shape) + _SPARSITY * np.sum(weights))


def authors_vowels(shape: np.ndarray) -> np.ndarray:
    """The weights where L-BFGS-B stops on its way from 0."""

    def smooth_cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
        off = weights @ _VOWELS - shape
        distance = math.sqrt(float(off @ off) + 1e-12)
        return distance + _SPARSITY * float(weights.sum()), _VOWELS @ off / distance + _SPARSITY

    return minimize(smooth_cost, np.zeros(4), jac=True, bounds=[(0, 1)] * 4, method="L-BFGS-B").x

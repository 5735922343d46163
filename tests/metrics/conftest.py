"""A face mask for the metrics."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def face_mask() -> Tensor:
    """Two eyes and a mouth, white, with a soft border below 0.5."""
    mask = torch.zeros(1, 512, 512)
    for top, bottom, left, right in ((120, 150, 210, 245), (120, 150, 265, 300), (170, 190, 240, 275)):
        mask[:, top - 3 : bottom + 3, left - 3 : right + 3] = 0.4
        mask[:, top:bottom, left:right] = 1
    return mask

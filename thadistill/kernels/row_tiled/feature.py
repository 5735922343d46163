"""Feature: what passes between the blocks of the row-tiled engine."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class Feature(NamedTuple):
    """A channels-last feature whose normalisation and activation are still to be done: act(raw * scale + shift).

    ``raw`` may be bfloat16; finished rows are float32.
    """

    raw: Float[Tensor, "h w c"]
    scale: Float[Tensor, " c"] | None = None  # None: nothing is to be done
    shift: Float[Tensor, " c"] | None = None
    slope: float = 1.0  # of the leaky ReLU; 0 is ReLU, 1 none

    def write_rows(self, top: int, bottom: int, out: Float[Tensor, "r w c"]) -> None:
        """The finished rows into ``out``."""
        if self.scale is None or self.shift is None:
            out.copy_(self.raw[top:bottom])
            return
        torch.addcmul(self.shift, self.raw[top:bottom].to(out.dtype), self.scale, out=out)
        if self.slope != 1:
            F.leaky_relu_(out, self.slope)

    def rows(self, top: int, bottom: int) -> Float[Tensor, "r w c"]:
        """The finished rows; a view of the raw ones where nothing is to be done."""
        if self.scale is None:
            return self.raw[top:bottom]
        out = torch.empty_like(self.raw[top:bottom], dtype=torch.float32)
        self.write_rows(top, bottom, out)
        return out

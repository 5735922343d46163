"""Optimisers: Muon for the sine layers' matrices, with Adam for what is no matrix.

Library versions (torch.optim.Muon, pytorch_optimizer) orthogonalise in bfloat16, which CPUs without such instructions
emulate at a tenth of their speed, and torch's refuses the 1x1 convolutions that the published files hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from thadistill.native_build import multiplies_bfloat16

# Quintic Newton-Schulz iteration that brings singular values near 1 fast, not exactly (Jordan et al. 2024)
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_LEAST_ROUNDED = 128  # rows and columns; smaller products gain nothing by bfloat16


class Muon(Optimizer):
    """Momentum, orthogonalised, for parameter groups marked ``matrices``; Adam for the others.

    Args:
        params: groups; those with ``matrices=True`` hold weights [out, in, 1, 1] or [out, in].
        lr: of the matrices: the spectral norm of a step (times sqrt(out/in) where out > in).
        adam_lr, betas: of the others.
        momentum: Nesterov's, of the matrices.
        iterations: of the orthogonalisation; in bfloat16 on GPUs and on CPUs that multiply it, else in float32.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 3e-4,
        adam_lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        momentum: float = 0.95,
        iterations: int = 5,
    ) -> None:
        groups = [{**group, "lr": lr if group.get("matrices") else adam_lr} for group in params]
        super().__init__(groups, {"betas": tuple(betas), "momentum": momentum, "iterations": iterations})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step. ``closure``, if given, is called first and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    (self._muon if group.get("matrices") else self._adam)(parameter, group)
        return loss

    def _muon(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad.flatten(1)  # type: ignore[union-attr]
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        step = orthogonalise(gradient.lerp(state["momentum"], group["momentum"]), group["iterations"])
        stretch = max(1.0, step.shape[0] / step.shape[1]) ** 0.5
        parameter.add_(step.view_as(parameter), alpha=-group["lr"] * stretch)

    def _adam(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state.update(step=0, first=torch.zeros_like(parameter), second=torch.zeros_like(parameter))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        state["first"].lerp_(gradient, 1 - beta1)
        state["second"].lerp_(gradient.square(), 1 - beta2)
        size = (state["second"] / (1 - beta2 ** state["step"])).sqrt_().add_(1e-8)
        parameter.addcdiv_(state["first"], size, value=-group["lr"] / (1 - beta1 ** state["step"]))


def orthogonalise(matrix: Float[Tensor, "m n"], iterations: int = 5) -> Float[Tensor, "m n"]:
    """The matrix with its singular values brought near 1 (between 0.7 and 1.2)."""
    slow = matrix.device.type == "cpu" and not (multiplies_bfloat16() and min(matrix.shape) >= _LEAST_ROUNDED)
    dtype = torch.float32 if slow else torch.bfloat16
    x = matrix.to(dtype)
    x = x / (x.norm() + 1e-7)
    tall = len(x) > x.shape[1]
    x = x.T if tall else x
    a, b, c = _COEFFICIENTS
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)

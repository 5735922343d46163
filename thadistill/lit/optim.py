"""Optimisers: Muon, by choice on whitened inputs, for the sine layers' matrices; Adam for what is no matrix.

Library versions (torch.optim.Muon, pytorch_optimizer) orthogonalise in bfloat16, which CPUs without such instructions
emulate at a tenth of their speed, and torch's refuses the 1x1 convolutions that the published files hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from thadistill.errors import check_positive
from thadistill.kernels.build import multiplies_bfloat16

# Quintic Newton-Schulz iteration that brings singular values near 1 fast, not exactly (Jordan et al. 2024)
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_LEAST_ROUNDED = 128  # rows and columns; smaller products gain nothing by bfloat16
# What whitening looks at: every other gradient, a mean over some 20 steps, taken up every 10.
_LOOK, _KEEP, _RENEW = 2, 0.9, 10


class Muon(Optimizer):
    """Momentum, orthogonalised, for parameter groups marked ``matrices``; Adam for the others.

    Args:
        params: groups; those with ``matrices=True`` hold weights [out, in, 1, 1] or [out, in].
        lr: of the matrices: the spectral norm of a step (times sqrt(out/in) where out > in).
        adam_lr, betas: of the others.
        momentum: Nesterov's, of the matrices.
        iterations: of the orthogonalisation; in bfloat16 on GPUs and on CPUs that multiply it, else in float32.
        damping: orthogonalises the matrices' gradients where their second moments over inputs, with this times the mean
            one added to all, are white, and takes the step back from there (Shampoo's right factor, Gupta et al. 2018):
            sine layers see inputs of which one direction, their mean, has up to a hundred times what the others have.
            None: Muon as published.

    Raises: UserError when damping is neither None nor above 0.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 3e-4,
        adam_lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.99),
        momentum: float = 0.95,
        iterations: int = 5,
        damping: float | None = None,
    ) -> None:
        if damping is not None:
            check_positive("Muon: damping", damping)
        groups = [{**group, "lr": lr if group.get("matrices") else adam_lr} for group in params]
        defaults = {"betas": tuple(betas), "momentum": momentum, "iterations": iterations, "damping": damping}
        super().__init__(groups, defaults)

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
        step = gradient.lerp(state["momentum"], group["momentum"]).to(_products_of(gradient))
        if group["damping"] is None:
            step = orthogonalise(step, group["iterations"])
        else:
            whitener = _whitener(state, gradient, group["damping"]).to(step.dtype)
            step = orthogonalise(step @ whitener.T, group["iterations"]) @ whitener
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


def _whitener(state: dict[str, Any], gradient: Float[Tensor, "m n"], damping: float) -> Float[Tensor, "n n"]:
    """K with K^T K near the inverse of the gradients' damped second moments; the identity for white ones.

    Any such K gives the same step. That of Cholesky costs a tenth of the symmetric one.
    """
    if "moments" not in state:
        state.update(seen=0, moments=gradient.T @ gradient)
    elif state["seen"] % _LOOK == 0:
        state["moments"].lerp_(gradient.T @ gradient, 1 - _KEEP)
    if state["seen"] % _RENEW == 0:
        moments = state["moments"] / state["moments"].diagonal().mean().clamp(min=1e-30)
        one = torch.eye(len(moments), device=moments.device)
        factor, failed = torch.linalg.cholesky_ex(moments + damping * one)
        if not failed or "whitener" not in state:  # of gradients that are not finite: as it was, or as theirs are
            state["whitener"] = torch.linalg.solve_triangular(factor, (1 + damping) ** 0.5 * one, upper=False)
    state["seen"] += 1
    whitener: Tensor = state["whitener"]
    return whitener


def _products_of(matrix: Float[Tensor, "m n"]) -> torch.dtype:
    slow = matrix.device.type == "cpu" and not (multiplies_bfloat16() and min(matrix.shape) >= _LEAST_ROUNDED)
    return torch.float32 if slow else torch.bfloat16


def orthogonalise(matrix: Float[Tensor, "m n"], iterations: int = 5) -> Float[Tensor, "m n"]:
    """The matrix with its singular values brought near 1 (between 0.7 and 1.2)."""
    x = matrix.to(_products_of(matrix))
    x = x / (x.norm() + 1e-7)
    tall = len(x) > x.shape[1]
    x = x.T if tall else x
    a, b, c = _COEFFICIENTS
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)

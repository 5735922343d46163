"""Muon against its definition by singular values, and its Adam against torch's."""

from __future__ import annotations

import pytest
import torch

from thadistill.errors import UserError
from thadistill.lit.optim import Muon, orthogonalise


def test_singular_values_come_near_one_and_directions_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((40, 20), (20, 40), (30, 30)):
        matrix = torch.randn(*shape, generator=generator)
        found = orthogonalise(matrix)
        values = torch.linalg.svdvals(found)
        assert float(values.min()) > 0.3
        assert float(values.max()) < 1.3
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        # the same singular vectors: in their basis the result is diagonal
        inside = u.T @ found @ v.T
        torch.testing.assert_close(inside, torch.diag(inside.diagonal()), atol=1e-3, rtol=0)


def test_vectors_follow_torchs_adam() -> None:
    ours, theirs = (torch.nn.Parameter(torch.arange(6.0)) for _ in range(2))
    a = Muon([{"params": [ours]}], adam_lr=0.1, betas=(0.9, 0.99))
    b = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99))
    for step in range(5):
        for parameter, optimizer in ((ours, a), (theirs, b)):
            optimizer.zero_grad()
            (parameter.cos() * (step + 1)).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_a_convolutions_step_has_the_rates_norm() -> None:
    weight = torch.nn.Parameter(torch.zeros(12, 12, 1, 1))
    optimizer = Muon([{"params": [weight], "matrices": True}], lr=0.01)
    (weight * torch.randn(12, 12, 1, 1, generator=torch.Generator().manual_seed(1))).sum().backward()
    optimizer.step()
    norm = float(torch.linalg.matrix_norm(weight.detach()[:, :, 0, 0], 2))
    assert 0.006 < norm < 0.013


def test_a_damped_step_is_orthogonal_where_inputs_are_white() -> None:
    generator = torch.Generator().manual_seed(2)
    gradient = torch.randn(24, 16, generator=generator) + 5.0  # one direction of the inputs has most of it
    weight = torch.nn.Parameter(torch.zeros(24, 16))
    optimizer = Muon([{"params": [weight], "matrices": True}], lr=0.01, iterations=12, damping=0.5)
    (weight * gradient).sum().backward()
    optimizer.step()
    # by the symmetric root, which gives the same step as the optimiser's triangular one
    moments = (gradient.T @ gradient).double()
    values, vectors = torch.linalg.eigh(moments / moments.diagonal().mean() + 0.5 * torch.eye(16))
    root = ((vectors * values**-0.5) @ vectors.T * 1.5**0.5).float()
    u, _, v = torch.linalg.svd(gradient @ root, full_matrices=False)
    expected = -0.01 * (24 / 16) ** 0.5 * (u @ v) @ root
    assert float((weight.detach() - expected).norm() / expected.norm()) < 0.2  # singular values are near 1, not at it
    assert float(torch.nn.functional.cosine_similarity(weight.detach().flatten(), expected.flatten(), dim=0)) > 0.98


def test_much_damping_is_no_whitening() -> None:
    def after(damping: float | None) -> torch.Tensor:
        generator = torch.Generator().manual_seed(3)
        weight = torch.nn.Parameter(torch.zeros(8, 16))
        optimizer = Muon([{"params": [weight], "matrices": True}], lr=0.1, damping=damping)
        for _ in range(12):
            inputs = torch.randn(64, 16, generator=generator) + 1.0
            optimizer.zero_grad()
            (inputs @ (weight - 1.0).T).square().mean().backward()
            optimizer.step()
        return weight.detach()

    torch.testing.assert_close(after(1e6), after(None), atol=1e-3, rtol=0)
    assert float((after(0.5) - after(None)).abs().max()) > 0.05


def test_a_loaded_state_goes_on_as_if_nothing_had_been() -> None:
    def train(weight: torch.nn.Parameter, optimizer: Muon, steps: range) -> None:
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            optimizer.zero_grad()
            (torch.randn(64, 144, generator=generator) @ weight.T).square().mean().backward()
            optimizer.step()

    def begin(values: torch.Tensor) -> tuple[torch.nn.Parameter, Muon]:
        weight = torch.nn.Parameter(values.clone())
        return weight, Muon([{"params": [weight], "matrices": True}], lr=0.01, damping=0.5)

    whole, optimizer = begin(torch.ones(132, 144))  # large enough for products in bfloat16
    train(whole, optimizer, range(25))
    half, optimizer = begin(torch.ones(132, 144))
    train(half, optimizer, range(13))
    rest, continued = begin(half.detach())
    continued.load_state_dict(optimizer.state_dict())
    train(rest, continued, range(13, 25))
    assert torch.equal(rest, whole)


def test_gradients_that_are_no_numbers_do_not_end_a_training() -> None:
    weight = torch.nn.Parameter(torch.zeros(8, 8))
    optimizer = Muon([{"params": [weight], "matrices": True}], lr=0.01, damping=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        (weight * float("nan")).sum().backward()
        optimizer.step()
    assert not bool(weight.isfinite().any())


@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan")])
def test_damping_that_whitens_nothing_is_refused(damping: float) -> None:
    with pytest.raises(UserError, match=f"damping={damping}; expected a number above 0"):
        Muon([{"params": [torch.nn.Parameter(torch.zeros(2, 2))], "matrices": True}], damping=damping)

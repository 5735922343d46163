"""Muon against its definition by singular values, and its Adam against torch's."""

from __future__ import annotations

import torch

from thadistill.optim import Muon, orthogonalise


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

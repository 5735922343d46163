"""Even drawing: nothing is drawn twice before all are, and nothing more or less often than its probability says."""

from __future__ import annotations

from itertools import islice

import torch

from thadistill.data.low_variance import shuffled_epochs, systematic_sample, z_order


def test_each_comes_once_before_any_again_and_new_ones_in_the_next_turn() -> None:
    have = [6]
    batches = shuffled_epochs(lambda: have[0], 4, torch.Generator().manual_seed(0))
    first = torch.cat([*islice(batches, 3)])
    assert first[:6].sort().values.tolist() == first[6:].sort().values.tolist() == [*range(6)]
    assert first[:6].tolist() != first[6:].tolist()
    have[0] = 8
    assert sorted(next(batches).tolist() + next(batches).tolist()) == [*range(8)]
    following = torch.cat([*islice(shuffled_epochs(lambda: 3, 8, torch.Generator().manual_seed(0)), 3)])
    assert torch.bincount(following, minlength=3).tolist() == [8, 8, 8]  # more than there are


def test_counts_are_what_the_probabilities_say() -> None:
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(64, generator=generator)
    probability[10:20] = 0
    wanted = 500 * probability / probability.sum()
    total = torch.zeros(64)
    for _ in range(200):
        found = torch.bincount(systematic_sample(probability, z_order(8), 500, generator), minlength=64)
        assert bool(((found - wanted).abs() < 1).all())
        total += found
    # no place is favoured: over many draws the mean is the probability itself
    assert float((total / 200 - wanted).abs().max()) < 0.2


def test_neighbours_in_z_order_lie_close() -> None:
    order = z_order(8)
    assert order.sort().values.tolist() == [*range(64)]
    for block in order.view(-1, 4):  # each four in a row are a block of two by two
        rows, columns = block // 8, block % 8
        assert int(rows.max() - rows.min()) == int(columns.max() - columns.min()) == 1
    assert sorted(z_order(5).tolist()) == [*range(25)]

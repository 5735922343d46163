"""Schedules and losses against the paper's table and by hand."""

from __future__ import annotations

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from thadistill.config import conf_dir
from thadistill.errors import UserError
from thadistill.lit.losses import RotatorTerms, face_loss, rotator_terms
from thadistill.lit.schedule import PhaseWeights, Steps, WarmupCosine
from thadistill.student.body_rotator import Posed, RotatorOutput


def paper() -> object:
    return OmegaConf.load(conf_dir() / "recipe" / "paper.yaml")


@pytest.mark.parametrize(
    ("examples", "rate"),
    [(0, 1e-4), (199_000, 1e-4), (201_000, 3e-5), (601_000, 1e-5), (1_299_000, 1e-5), (1_301_000, 3e-6)],
)
def test_the_papers_rates_of_the_body_rotator(examples: int, rate: float) -> None:
    recipe = paper().body_rotator  # type: ignore[attr-defined]
    schedule = hydra.utils.instantiate(recipe.learning_rate)
    assert recipe.optimizer.lr * schedule(examples / recipe.patches) == pytest.approx(rate)


@pytest.mark.parametrize(("examples", "rate"), [(0, 1e-4), (201_000, 1e-4 / 3), (501_000, 1e-5), (801_000, 1e-4 / 30)])
def test_the_papers_rates_of_the_face_morpher(examples: int, rate: float) -> None:
    recipe = paper().face_morpher  # type: ignore[attr-defined]
    schedule = hydra.utils.instantiate(recipe.learning_rate)
    assert recipe.optimizer.lr * schedule(examples / recipe.poses) == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize(
    ("examples", "weights"),
    [
        (0, (0.25, 0.25, 0.5, 2)),
        (399_000, (0.25, 0.25, 0.5, 2)),
        (401_000, (1, 2.5, 5, 1)),
        (801_000, (10, 1, 1, 1)),
        (1_500_000, (10, 1, 1, 1)),
    ],
)
def test_the_papers_phases(examples: int, weights: tuple[float, ...]) -> None:
    recipe = paper().body_rotator  # type: ignore[attr-defined]
    assert tuple(hydra.utils.instantiate(recipe.weights)(examples / recipe.patches)) == weights


def test_a_subset_of_phases_shares_the_whole_training_in_proportion() -> None:
    weights = [[phase, 0.0, 0.0, 0.0] for phase in (1.0, 2.0, 3.0)]

    def phase(phases: list[int] | None, progress: float) -> float:
        return float(PhaseWeights([0.2, 0.6], weights, phases)(progress).blended)

    # lengths 0.2, 0.4, 0.4: without the second, the first lasts a third
    assert [phase([1, 3], at) for at in (0.0, 0.33, 0.34, 1.0)] == [1, 1, 3, 3]
    assert [phase([2, 3], at) for at in (0.0, 0.49, 0.51, 1.0)] == [2, 2, 3, 3]
    assert [phase([2], at) for at in (0.0, 0.5, 1.0)] == [2, 2, 2]
    assert all(phase([1, 2, 3], at / 10) == phase(None, at / 10) for at in range(11))
    for wrong in ([], [0], [4, 1]):
        with pytest.raises(UserError, match="expected some of 1 to 3"):
            phase(wrong, 0.5)


def test_warmup_then_cosine() -> None:
    rate = WarmupCosine(warmup=0.1, floor=0.0)
    assert rate(0.0) < 0.02
    assert rate(0.1) == pytest.approx(1.0)
    assert rate(0.55) == pytest.approx(0.5)
    assert rate(1.0) == pytest.approx(0.0, abs=1e-9)
    assert WarmupCosine(0.1, 0.2)(1.0) == pytest.approx(0.2)


def test_schedules_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry less"):
        Steps([0.5], [1.0])
    with pytest.raises(ValueError, match="ascend"):
        PhaseWeights([0.7, 0.3], [[1.0] * 4] * 3)


def test_terms_are_means_and_colour_is_held_against_the_posed_image() -> None:
    ones, zeros = torch.ones(2, 4, 3, 3), torch.zeros(2, 4, 3, 3)
    motion = RotatorOutput(torch.full((2, 2, 3, 3), 0.5), torch.zeros(2, 1, 3, 3), ones * 3)
    terms = rotator_terms(motion, Posed(zeros, ones), ones * 2, ones, torch.zeros(2, 2, 3, 3))
    assert [float(term) for term in terms] == [1.0, 1.0, 0.5, 1.0]
    assert float(terms.weighted(RotatorTerms(1, 2, 4, 8))) == 1 + 2 + 2 + 8


def test_the_masked_face_term_is_a_mean_over_the_whole_crop() -> None:
    painted, target = torch.ones(1, 4, 4), torch.zeros(1, 4, 4)
    mask = torch.tensor([[1.0, 0, 0, 0]])
    assert float(face_loss(painted, target, mask, 20.0)) == pytest.approx(1 + 20 / 4)

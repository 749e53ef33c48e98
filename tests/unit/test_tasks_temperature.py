"""The temperature of logits against scipy, and the loss of each row against the training loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from deeptune.engine.loss import Criterion
from deeptune.spec.tasks import LOSSES
from deeptune.tasks.row_losses import row_losses
from deeptune.tasks.temperature import MAX_TEMPERATURE, MIN_TEMPERATURE, fit_temperature

RNG = np.random.default_rng(3)


def classes(sharpness: float, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Logits (rows, 4), and classes drawn with the probabilities of `logits / sharpness`."""
    logits = RNG.normal(size=(rows, 4)) * 2
    targets = np.array([RNG.choice(4, p=p) for p in softmax(logits, axis=1)])
    return (logits * sharpness).astype(np.float32), targets


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 5.0])
def test_it_is_the_optimum_that_scipy_finds(sharpness):
    logits, targets = classes(sharpness)

    def loss(log: np.ndarray) -> float:
        return -log_softmax(logits.astype(float) / np.exp(log[0]), axis=1)[np.arange(len(targets)), targets].mean()

    expected = float(np.exp(minimize(loss, [0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12}).x[0]))
    assert fit_temperature(logits, targets) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 5.0])
def test_it_finds_how_sharp_the_logits_are(sharpness):
    logits, targets = classes(sharpness, rows=4000)
    assert fit_temperature(logits, targets) == pytest.approx(sharpness, rel=0.1)


def test_it_never_changes_a_prediction():
    logits, targets = classes(7.0)
    temperature = fit_temperature(logits, targets)
    assert ((logits / temperature).argmax(axis=1) == logits.argmax(axis=1)).all()


def test_labels_have_one_temperature():
    logits = RNG.normal(size=(2000, 3)) * 2
    targets = (RNG.random(logits.shape) < expit(logits)).astype(np.float32)
    assert fit_temperature(logits * 4, targets, loss="bce") == pytest.approx(4, rel=0.1)


def test_ranks_have_one_temperature():
    score, thresholds = RNG.normal(size=(3000, 1)) * 2, np.array([[-1.0, 0.5, 2.0]])
    odds = score - thresholds
    ranks = (RNG.random((3000, 1)) < expit(odds)).sum(axis=1)
    assert fit_temperature(odds * 3, ranks, loss="cumulative_link") == pytest.approx(3, rel=0.1)


def test_rows_that_are_all_right_end_at_the_bound():
    logits = np.eye(4)[np.arange(40) % 4]
    assert fit_temperature(logits, np.arange(40) % 4) == pytest.approx(MIN_TEMPERATURE, rel=1e-3)


def test_logits_that_say_nothing_end_at_the_other_bound():
    logits, targets = classes(1.0)
    assert fit_temperature(-logits, targets) == pytest.approx(MAX_TEMPERATURE, rel=1e-3)


def test_a_weight_of_two_is_the_row_twice():
    logits, targets = classes(2.0)
    weights = 1.0 + (targets == 1)
    twice = np.concatenate([np.arange(len(targets)), np.flatnonzero(targets == 1)])
    expected = fit_temperature(logits[twice], targets[twice])
    assert fit_temperature(logits, targets, weights=weights) == pytest.approx(expected, rel=1e-4)


def test_no_rows_have_a_temperature_of_one():
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1.0


def test_numbers_have_no_temperature():
    with pytest.raises(ValueError, match="no temperature"):
        fit_temperature(np.zeros((3, 1)), np.zeros(3), loss="mse")


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_mean_over_rows_is_the_training_loss(loss):
    outputs = RNG.normal(size=(50, 3)).astype(np.float32)
    targets = {
        "cross_entropy": RNG.integers(0, 3, 50),
        "bce": RNG.integers(0, 2, (50, 3)).astype(np.float32),
        "cumulative_link": RNG.integers(0, 4, 50),
        "poisson": RNG.poisson(1.0, (50, 3)).astype(np.float32),
    }.get(loss, RNG.normal(size=(50, 3)).astype(np.float32))
    if loss == "cumulative_link":
        outputs = -np.sort(-outputs, axis=1)
    criterion, own = Criterion(loss), torch.from_numpy(targets)
    expected = criterion.sum(torch.from_numpy(outputs), own) / criterion.count(own)
    assert row_losses(loss, outputs, targets).mean() == pytest.approx(float(expected), rel=1e-5)


def test_a_missing_target_counts_for_nothing():
    outputs, targets = np.array([[1.0, 5.0]]), np.array([[0.0, np.nan]])
    assert row_losses("mse", outputs, targets).tolist() == [1.0]


def test_one_target_may_be_a_vector():
    assert row_losses("mse", np.array([[1.0], [2.0]]), np.array([0.0, 0.0])).tolist() == [1.0, 4.0]

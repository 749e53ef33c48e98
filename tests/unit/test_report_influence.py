"""Metrics and the influence of rows on them: values as scikit-learn's, variances as those of a bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from deeptune.report.influence import (
    Estimates,
    class_estimates,
    label_estimates,
    number_estimates,
    target_estimates,
    variance,
)
from deeptune.spec.tasks import TASKS
from deeptune.tasks.confidence.held_out import units_of
from deeptune.tasks.metric_functions import classification_metrics, multilabel_metrics
from deeptune.tasks.number_metrics import number_metrics

ROWS = 1200


def classes(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.choice(count, ROWS, p=rng.dirichlet(np.full(count, 5.0)))
    logits = rng.normal(size=(ROWS, count)) + 1.2 * np.eye(count)[truth]
    chances = np.exp(2 * logits)
    return truth, np.round(chances / chances.sum(axis=1, keepdims=True), 3)  # with ties


def of_classes(truth: np.ndarray, chances: np.ndarray) -> Estimates:
    return class_estimates(truth, chances.argmax(axis=1), chances.shape[1], chances)


def labels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.random((ROWS, 4)) < np.array([0.05, 0.2, 0.5, 0.8])
    return truth, np.round(1 / (1 + np.exp(-1.5 * (truth - 0.5) - rng.normal(size=truth.shape))), 2)


def of_labels(truth: np.ndarray, chances: np.ndarray) -> Estimates:
    return label_estimates(truth, chances >= 0.5, chances)


def numbers(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.normal(size=ROWS)
    return np.round(truth, 1), np.round(truth + rng.normal(size=ROWS), 1)


def counts(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rate = rng.gamma(2.0, 2.0, ROWS)
    return rng.poisson(rate).astype(float), rate * rng.uniform(0.5, 1.5, ROWS)


def of_counts(truth: np.ndarray, rates: np.ndarray) -> Estimates:
    return number_estimates(truth, rates, TASKS["count"].metrics)


def targets(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.normal(size=(ROWS, 3))
    prediction = truth + rng.normal(size=truth.shape) * np.array([0.3, 1, 2])
    return np.where(rng.random(truth.shape) < 0.2, np.nan, truth), prediction


CASES = {
    "two classes": (lambda rng: classes(rng, 2), of_classes),
    "five classes": (lambda rng: classes(rng, 5), of_classes),
    "labels": (labels, of_labels),
    "numbers": (numbers, number_estimates),
    "counts": (counts, of_counts),
    "targets": (targets, target_estimates),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("grouped", [False, True])
def test_standard_errors_are_those_of_a_bootstrap(case: str, grouped: bool) -> None:
    rng = np.random.default_rng(1)
    draw, estimate = CASES[case]
    truth, said = draw(rng)
    group = np.arange(ROWS)
    if grouped:  # rows of one group are alike
        first = rng.integers(0, ROWS, 300)
        truth, said, group = (np.repeat(part, 4, axis=0) for part in (truth[first], said[first], np.arange(300)))
    found = estimate(truth, said)
    members = [np.flatnonzero(group == one) for one in range(group.max() + 1)] if grouped else None
    drawn: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(400):
        if members is None:
            rows = rng.integers(0, ROWS, ROWS)
        else:
            rows = np.concatenate([members[one] for one in rng.integers(0, len(members), len(members))])
        for name, one in estimate(truth[rows], said[rows]).items():
            drawn[name].append(one.value)
    for name, one in found.items():
        assert one.influence.sum() == pytest.approx(0, abs=1e-6 * ROWS), name
        expected = np.std(drawn[name])
        error = np.sqrt(variance(one.influence, units_of(group, ROWS))[0])
        assert error == pytest.approx(expected, rel=0.25 if name == "ece" else 0.13), name


@pytest.mark.parametrize("count", [2, 3, 7])
def test_values_of_classes_are_those_of_the_metrics(count: int) -> None:
    rng = np.random.default_rng(count)
    truth, chances = classes(rng, count)
    found, expected = of_classes(truth, chances), classification_metrics(truth, chances, range(count))
    expected["quadratic_weighted_kappa"] = sk.cohen_kappa_score(truth, chances.argmax(axis=1), weights="quadratic")
    expected["rank_mae"] = np.abs(truth - chances.argmax(axis=1)).mean()
    for name, one in found.items():
        assert one.value == pytest.approx(expected[name], abs=1e-9), name
    assert len(found) == 11


def test_values_of_labels_and_numbers_are_those_of_the_metrics() -> None:
    rng = np.random.default_rng(0)
    truth, chances = labels(rng)
    expected = multilabel_metrics(truth, chances, "abcd", (0.5,) * 4)
    for name, one in of_labels(truth, chances).items():
        assert one.value == pytest.approx(expected[name]), name
    values, guesses = numbers(rng)
    expected = number_metrics(values, guesses)
    for name, one in number_estimates(values, guesses).items():
        assert one.value == pytest.approx(expected[name]), name
    assert number_estimates(values, guesses)["spearman"].value == pytest.approx(stats.spearmanr(values, guesses)[0])

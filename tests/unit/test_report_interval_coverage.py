"""Simulated coverage: intervals of the report hold the truth in about 95 of 100 drawn samples."""

from __future__ import annotations

import numpy as np
import pytest
from reports import ERRORS, PROPORTIONS
from scipy import stats
from sklearn import metrics as sk

from deeptune.report.intervals import (
    MIN_GROUPS,
    MIN_UNITS_RMSE,
    classification_intervals,
    label_intervals,
    regression_intervals,
)

LOW, HIGH = 0.92, 0.98


def confusion(classes: int, accuracy: float, prior: np.ndarray) -> np.ndarray:
    """Chances (C, C) of true and predicted class; classes are harder the later they come."""
    hard = np.clip(accuracy + 0.1 * np.linspace(1, -1, classes), 0.05, 0.99)
    chances = np.repeat((1 - hard)[:, None] / (classes - 1), classes, axis=1)
    np.fill_diagonal(chances, hard)
    return chances * prior[:, None]


def population(chances: np.ndarray) -> dict[str, float]:
    truth, prediction = np.indices(chances.shape).reshape(2, -1)
    weights = chances.ravel()
    labels = range(len(chances))
    return {
        "accuracy": float(chances.trace()),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, prediction, sample_weight=weights),
        "macro_f1": sk.f1_score(truth, prediction, labels=labels, average="macro", sample_weight=weights),
        "weighted_f1": sk.f1_score(truth, prediction, labels=labels, average="weighted", sample_weight=weights),
        "macro_f1_present": sk.f1_score(truth, prediction, labels=labels, average="macro", sample_weight=weights),
        "mcc": sk.matthews_corrcoef(truth, prediction, sample_weight=weights),
        "quadratic_weighted_kappa": sk.cohen_kappa_score(truth, prediction, weights="quadratic", sample_weight=weights),
        "rank_mae": float((np.abs(truth - prediction) * weights).sum()),
    }


def coverage(found: list[dict[str, tuple[float, float]]], true: dict[str, float]) -> dict[str, float]:
    names = {name for intervals in found for name in intervals}
    shares = {}
    for name in names:
        ends = np.array([intervals[name] for intervals in found if name in intervals])
        assert len(ends) > 0.5 * len(found)
        shares[name] = float(((ends[:, 0] <= true[name]) & (true[name] <= ends[:, 1])).mean())
    return shares


@pytest.mark.parametrize(
    ("n", "classes", "accuracy", "skewed"),
    [
        (10, 2, 0.9, False),
        (20, 2, 0.9, False),
        (20, 3, 0.7, False),
        (50, 2, 0.8, True),
        (50, 5, 0.9, False),
        (200, 3, 0.9, True),
        (200, 10, 0.7, False),
        (600, 60, 0.8, False),
        (1000, 10, 0.9, False),
    ],
)
def test_intervals_of_scores_cover_the_truth(n: int, classes: int, accuracy: float, skewed: bool) -> None:
    rng = np.random.default_rng(n + classes)
    prior = np.array([0.8, *np.full(classes - 1, 0.2 / (classes - 1))]) if skewed else np.full(classes, 1 / classes)
    chances = confusion(classes, accuracy, prior)
    found = []
    for _ in range(600):
        truth, prediction = np.divmod(rng.choice(chances.size, n, p=chances.ravel()), classes)
        found.append(classification_intervals(truth, prediction, classes).intervals)
    shares = coverage(found, population(chances))
    assert set(shares) == set(PROPORTIONS)
    if n == 10:
        shares.pop("rank_mae")  # of so few numbers 0, 1 it holds the truth more often, 99.8%
    assert all(LOW - 0.02 <= share <= HIGH + 0.015 for share in shares.values()), shares  # two standard errors


@pytest.mark.parametrize("n", [10, 20, 50, 100, 1000])
@pytest.mark.parametrize("accuracy", [0.7, 0.9])
def test_intervals_of_accuracy_cover_the_truth_exactly_as_often_as_wilsons(n: int, accuracy: float) -> None:
    hits = np.arange(n + 1)
    ends = np.array(
        [
            classification_intervals(np.ones(n, int), (np.arange(n) < k).astype(int), 2).intervals["accuracy"]
            for k in hits
        ]
    )
    for k in (0, 1, n // 2, n):
        expected = stats.binomtest(k, n).proportion_ci(method="wilson")
        assert ends[k] == pytest.approx((expected.low, expected.high), abs=1e-9)
    covered = (ends[:, 0] <= accuracy) & (accuracy <= ends[:, 1])
    assert LOW <= stats.binom.pmf(hits, n, accuracy)[covered].sum() <= HIGH


@pytest.mark.parametrize("accuracy", [0.7, 0.9])
@pytest.mark.parametrize("correlation", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("groups", [10, 30])
def test_intervals_of_dependent_rows_cover_the_truth(groups: int, correlation: float, accuracy: float) -> None:
    """Groups of 20 rows whose accuracies differ; with correlation 1 all rows of a group are right, or none."""
    rng = np.random.default_rng(groups)
    group = np.repeat(np.arange(groups), 20)
    strength = (1 - correlation) / correlation
    found = []
    for _ in range(400):
        if correlation == 1:
            own = (rng.random(groups) < accuracy).astype(float)
        else:
            own = rng.beta(accuracy * strength, (1 - accuracy) * strength, groups)
        truth = rng.integers(0, 2, len(group))
        prediction = np.where(rng.random(len(group)) < own[group], truth, 1 - truth)
        found.append(classification_intervals(truth, prediction, 2, group).intervals)
    expected = {"mcc": 2 * accuracy - 1, "quadratic_weighted_kappa": 2 * accuracy - 1, "rank_mae": 1 - accuracy}
    shares = coverage(found, dict.fromkeys(PROPORTIONS, accuracy) | expected)
    assert all(LOW - 0.02 <= share <= HIGH + 0.02 for share in shares.values()), shares


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("n", [10, 30, 200, 1000])
def test_intervals_of_errors_cover_the_truth(n: int, grouped: bool) -> None:
    """Normal errors; in groups of 5 rows, half of the variance of labels and errors is the group's own."""
    rng = np.random.default_rng(n)
    group = np.repeat(np.arange(max(MIN_GROUPS, n // 5)), 5) if grouped else np.arange(n)

    def drawn() -> np.ndarray:
        own, shared = rng.normal(size=len(group)), rng.normal(size=len(group))
        return (own + shared[group]) / 2**0.5 if grouped else own

    found = []
    for _ in range(600):
        truth = drawn()
        found.append(regression_intervals(truth, truth + 0.5 * drawn(), group if grouped else None).intervals)
    shares = coverage(
        found,
        {
            "mae": 0.5 * (2 / np.pi) ** 0.5,
            "rmse": 0.5,
            "r2": 0.75,
            "spearman": 6 / np.pi * np.arcsin(1 / np.sqrt(1.25) / 2),
        },
    )
    assert set(shares) == set(ERRORS) - ({"rmse"} if group.max() + 1 < MIN_UNITS_RMSE else set())
    assert all(LOW - 0.02 <= share <= HIGH + 0.015 for share in shares.values()), shares


def two_normals(rng: np.random.Generator, n: int, distance: float, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of which the probabilities are those of the truth: the log odds of two normal distributions."""
    truth = (rng.random(n) < share).astype(int)
    odds = distance * (distance * (truth - 0.5) + rng.normal(size=n)) + np.log(share / (1 - share))
    chance = 1 / (1 + np.exp(-odds))
    return truth, np.stack([1 - chance, chance], axis=1)


@pytest.mark.parametrize(("n", "distance", "share"), [(30, 1, 0.5), (60, 2, 0.3), (300, 1, 0.1), (300, 3, 0.5)])
def test_intervals_of_metrics_of_probabilities_cover_the_truth(n: int, distance: float, share: float) -> None:
    rng = np.random.default_rng(n)
    truth, chances = two_normals(rng, 400_000, distance, share)
    true = {
        "roc_auc": float(stats.norm.cdf(distance / np.sqrt(2))),
        "log_loss": sk.log_loss(truth, chances),
        "ece": 0.0,
    }
    found = []
    for _ in range(400):
        truth, chances = two_normals(rng, n, distance, share)
        found.append(classification_intervals(truth, chances.argmax(axis=1), 2, None, chances).intervals)
    shares = coverage([{name: one[name] for name in true if name in one} for one in found], true)
    assert shares.pop("ece") >= 0.95  # wider than need be
    assert all(LOW - 0.02 <= share <= HIGH + 0.01 for share in shares.values()), shares


def test_the_interval_of_a_calibration_error_covers_the_truth_of_an_overconfident_model() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        sure = rng.choice([0.65, 0.85, 0.99], 200)
        prediction = np.zeros(200, int)
        truth = (rng.random(200) > sure - 0.1).astype(int)
        chances = np.stack([sure, 1 - sure], axis=1)
        found.append(classification_intervals(truth, prediction, 2, None, chances).intervals)
    assert coverage([{"ece": one["ece"]} for one in found], {"ece": 0.1})["ece"] >= 0.94


@pytest.mark.parametrize(("n", "grouped"), [(40, False), (300, False), (300, True)])
def test_intervals_of_labels_cover_the_truth(n: int, grouped: bool) -> None:
    rng = np.random.default_rng(n)
    share, distance = np.array([0.2, 0.5, 0.4]), np.array([1.0, 2.0, 0.5])

    def drawn(rows: int) -> tuple[np.ndarray, np.ndarray]:
        truth = rng.random((rows, 3)) < share
        return truth, 1 / (1 + np.exp(-(distance * (truth - 0.5) + rng.normal(size=truth.shape))))

    truth, chances = drawn(300_000)
    said = chances >= 0.5
    true = {
        "macro_f1": sk.f1_score(truth, said, average="macro"),
        "micro_f1": sk.f1_score(truth, said, average="micro"),
        "hamming_loss": sk.hamming_loss(truth, said),
        "macro_roc_auc": sk.roc_auc_score(truth, chances, average="macro"),
        "macro_average_precision": sk.average_precision_score(truth, chances, average="macro"),
    }
    found = []
    for _ in range(300):
        truth, chances = drawn(n // 5 if grouped else n)
        group = None
        if grouped:
            truth, chances, group = (np.repeat(part, 5, axis=0) for part in (truth, chances, np.arange(n // 5)))
        found.append(label_intervals(truth, chances >= 0.5, chances, group).intervals)
    shares = coverage(found, true)
    assert set(shares) == set(true)
    assert all(LOW - 0.02 <= share <= HIGH + 0.015 for share in shares.values()), shares


@pytest.mark.parametrize("n", [50, 300])
def test_intervals_of_means_over_targets_cover_the_truth(n: int) -> None:
    rng = np.random.default_rng(n)
    scale = np.array([0.5, 1.0])
    found = []
    for _ in range(400):
        shared = rng.normal(size=(n, 1))
        truth = rng.normal(size=(n, 2))
        prediction = truth + scale * (shared + rng.normal(size=(n, 2))) / 2**0.5
        found.append(regression_intervals(np.where(rng.random((n, 2)) < 0.2, np.nan, truth), prediction).intervals)
    spearman = np.mean(6 / np.pi * np.arcsin(1 / np.sqrt(1 + scale**2) / 2))
    true = {"mae": 0.75 * (2 / np.pi) ** 0.5, "rmse": 0.75, "r2": 1 - 1.25 / 2, "spearman": spearman}
    shares = coverage(found, true)
    assert set(shares) == set(true)
    assert all(LOW - 0.02 <= share <= HIGH + 0.015 for share in shares.values()), shares

"""Intervals of the report: they contain their estimate, and a sentence says why where there is none."""

from __future__ import annotations

import time

import numpy as np
import pytest
from reports import ERRORS, PROPORTIONS
from scipy import stats
from sklearn import metrics as sk

from deeptune.report.influence import number_estimates
from deeptune.report.interval_methods import distance_interval
from deeptune.report.intervals import (
    MIN_GROUPS,
    classification_intervals,
    label_intervals,
    regression_intervals,
)


def scores(truth: np.ndarray, prediction: np.ndarray, classes: int) -> dict[str, float]:
    labels = range(classes)
    return {
        "accuracy": sk.accuracy_score(truth, prediction),
        "balanced_accuracy": sk.recall_score(truth, prediction, labels=np.unique(truth), average="macro"),
        "macro_f1": sk.f1_score(truth, prediction, labels=labels, average="macro", zero_division=0),
        "weighted_f1": sk.f1_score(truth, prediction, labels=labels, average="weighted", zero_division=0),
        "macro_f1_present": sk.f1_score(truth, prediction, average="macro", zero_division=0),
        "mcc": sk.matthews_corrcoef(truth, prediction),
        "quadratic_weighted_kappa": sk.cohen_kappa_score(truth, prediction, labels=list(labels), weights="quadratic"),
        "rank_mae": float(np.abs(truth - prediction).mean()),
    }


def errors(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    return {
        "mae": sk.mean_absolute_error(truth, prediction),
        "rmse": sk.root_mean_squared_error(truth, prediction),
        "r2": sk.r2_score(truth, prediction),
        "spearman": float(stats.spearmanr(truth, prediction)[0]),
    }


# The estimate is inside.


def test_every_interval_contains_its_estimate_on_random_tables() -> None:
    rng = np.random.default_rng(0)
    seen = dict.fromkeys((*PROPORTIONS, *ERRORS), 0)
    for _ in range(300):
        n, classes = int(rng.integers(1, 150)), int(rng.integers(2, 12))
        groups = rng.integers(0, rng.integers(2, 60), n) if rng.random() < 0.3 else None
        truth = rng.choice(classes, n, p=rng.dirichlet(np.full(classes, 0.7)))
        right = rng.random(n) < rng.choice([0, 0.2, 0.5, 0.9, 0.99, 1])
        prediction = np.where(right, truth, rng.integers(0, classes, n))
        values = rng.standard_t(2, n)
        guesses = values + rng.choice([0, 1e-9, 0.3, 5]) * rng.standard_t(2, n)
        found = [
            (
                classification_intervals(truth, prediction, classes, groups).intervals,
                scores(truth, prediction, classes),
            ),
            (regression_intervals(values, guesses, groups).intervals, errors(values, guesses) if n > 1 else {}),
        ]
        for intervals, estimates in found:
            for name, (low, high) in intervals.items():
                seen[name] += 1
                assert low - 1e-12 <= estimates[name] <= high + 1e-12, (name, n, classes)
                assert np.isfinite([low, high]).all()
                worst = -1 if name in ("mcc", "quadratic_weighted_kappa", "spearman", "r2") else 0
                assert low >= worst or name == "r2"
                assert high <= 1 or name in ("mae", "rmse", "rank_mae")
    assert min(seen.values()) > 50  # the tables were not too small for most of them


# Where there is none, a sentence says why.


def test_too_few_rows_have_no_interval() -> None:
    metric_intervals = classification_intervals(np.array([0, 1]), np.array([0, 1]), 2)
    assert metric_intervals.intervals == {}
    assert metric_intervals.reasons == ("No interval is given: 2 rows are too few (at least 10).",)
    assert (
        regression_intervals(np.zeros(1), np.zeros(1)).reasons[0].startswith("No interval is given: 1 row is too few")
    )


def test_too_few_groups_have_no_interval() -> None:
    truth = np.arange(200) % 2
    metric_intervals = classification_intervals(truth, truth, 2, np.arange(200) % (MIN_GROUPS - 1))
    assert metric_intervals.intervals == {}
    assert "9 groups are too few (at least 10)" in metric_intervals.reasons[0]


def test_one_group_that_holds_nearly_all_rows_leaves_no_interval() -> None:
    truth = np.arange(200) % 2
    group = np.where(np.arange(200) < 180, 0, np.arange(200))
    assert "one group holds 90% of the rows" in classification_intervals(truth, truth, 2, group).reasons[0]


def test_averages_over_classes_of_two_rows_have_no_interval() -> None:
    truth = np.repeat(np.arange(60), 2)
    metric_intervals = classification_intervals(truth, truth, 60)
    assert not set(metric_intervals.intervals) & {"balanced_accuracy", "macro_f1", "macro_f1_present", "roc_auc"}
    assert {"accuracy", "weighted_f1", "mcc"} <= set(metric_intervals.intervals)
    assert metric_intervals.intervals["accuracy"][1] == 1
    assert "60 of 60 classes have fewer than 3 rows" in metric_intervals.reasons[0]


def test_groups_may_be_of_any_type() -> None:
    truth = np.arange(200) % 2
    prediction = np.where(np.arange(200) % 7 == 0, 1 - truth, truth)
    codes = np.arange(200) // 10
    named = np.array([f"patient {code}" for code in codes])
    by_name, by_code = (classification_intervals(truth, prediction, 2, group) for group in (named, codes))
    assert by_name.method == by_code.method
    for name, ends in by_name.intervals.items():
        assert ends == pytest.approx(by_code.intervals[name]), name


def test_rows_that_depend_on_one_another_have_a_wider_interval() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(10), 20)
    truth = rng.integers(0, 2, 200)
    prediction = np.where(group < 7, truth, 1 - truth)
    low, high = classification_intervals(truth, prediction, 2, group).intervals["accuracy"]
    alone = classification_intervals(truth, prediction, 2).intervals["accuracy"]
    assert high - low > 3 * (alone[1] - alone[0])


@pytest.mark.parametrize(("groups", "rows"), [(20, 2000), (400, 500), (2000, 20)])
def test_large_groups_of_independent_rows_cost_little(groups: int, rows: int) -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(groups), rows)
    truth = rng.integers(0, 2, len(group))
    prediction = np.where(rng.random(len(group)) < 0.8, truth, 1 - truth)
    low, high = classification_intervals(truth, prediction, 2, group).intervals["accuracy"]
    alone = classification_intervals(truth, prediction, 2).intervals["accuracy"]
    assert high - low < 1.5 * (alone[1] - alone[0])


@pytest.mark.parametrize("grouped", [False, True])
def test_a_target_that_few_rows_or_groups_have_leaves_the_means_without_intervals(grouped: bool) -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(12), 10)
    truth = rng.normal(size=(120, 2))
    truth[group > 0 if grouped else np.arange(120) > 3, 1] = np.nan
    found = regression_intervals(truth, truth + rng.normal(size=(120, 2)), group if grouped else None)
    assert found.intervals == {}
    assert "of one target" in found.reasons[0]
    assert found.details[0]["mae"][0] < found.details[0]["mae"][1]
    assert found.details[1] == {}


def test_a_perfect_regression_has_an_interval_of_no_width() -> None:
    truth = np.arange(30.0)
    assert regression_intervals(truth, truth).intervals == {
        "mae": (0.0, 0.0),
        "rmse": (0.0, 0.0),
        "spearman": (1.0, 1.0),
    }


def test_a_perfect_ranking_has_an_interval_below_1() -> None:
    truth = np.arange(40) % 2
    chances = np.stack([1 - (0.2 + 0.6 * truth), 0.2 + 0.6 * truth], axis=1)
    low, high = classification_intervals(truth, truth, 2, None, chances).intervals["roc_auc"]
    assert high == 1
    assert 0.8 < low < 0.95


def test_a_label_of_two_rows_leaves_no_average_over_labels() -> None:
    truth = np.arange(60)[:, None] % np.array([2, 40]) == 0
    metric_intervals = label_intervals(truth, truth, truth.astype(float))
    assert set(metric_intervals.intervals) == {"micro_f1", "hamming_loss"}
    assert "Macro F1 has no interval: 1 of 2 labels has fewer than 3 rows" in metric_intervals.reasons[0]
    assert "f1" in metric_intervals.details[0]
    assert "f1" not in metric_intervals.details[1]


def test_ten_thousand_rows_of_ten_classes_take_less_than_two_seconds() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 10, 10_000)
    chances = rng.dirichlet(np.ones(10), 10_000)
    began = time.perf_counter()
    classification_intervals(truth, chances.argmax(axis=1), 10, rng.integers(0, 900, 10_000), chances)
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize("grouped", [False, True])
def test_a_metric_with_influences_has_the_interval_of_its_jackknife(grouped: bool) -> None:
    """MAE and R² have a jackknife of their own, which that of any other metric must come close to."""
    rng = np.random.default_rng(4)
    truth = rng.normal(size=240)
    prediction = truth + 0.5 * rng.normal(size=240)
    unit = np.repeat(np.arange(40), 6) if grouped else np.arange(240)
    own = regression_intervals(truth, prediction, unit if grouped else None).intervals
    found = number_estimates(truth, prediction)
    assert distance_interval(found["mae"], 0.0, unit) == pytest.approx(own["mae"], rel=1e-9)
    assert distance_interval(found["r2"], 1.0, unit) == pytest.approx(own["r2"], abs=0.02)
    assert distance_interval(found["rmse"], 0.0, unit) == pytest.approx(own["rmse"], rel=0.03)

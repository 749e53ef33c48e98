"""Paired differences: tests as statsmodels', SciPy's and a published formula, intervals that cover the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from deeptune.report.influence import class_estimates, number_estimates
from deeptune.report.paired_tests import delong, differences, holm, mcnemar
from deeptune.tasks.confidence.held_out import units_of


@pytest.mark.parametrize("counts", [(0, 0), (0, 3), (7, 2), (12, 12), (20, 4), (10, 15), (40, 60), (3, 100)])
def test_mcnemar_is_that_of_statsmodels(counts: tuple[int, int]) -> None:
    table = [[50, counts[0]], [counts[1], 30]]
    exact = sum(counts) < 25
    if not sum(counts):
        assert mcnemar(*counts) == 1
        return
    assert mcnemar(*counts) == pytest.approx(reference_mcnemar(table, exact=exact, correction=True).pvalue)


def test_holm_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 9, 30):
        values = list(rng.random(n) ** 3)
        assert holm(values) == pytest.approx(list(multipletests(values, method="holm")[1]))
    assert holm([]) == []


def mann_whitney(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """All comparisons of a positive with a negative row, by count: 1, 1/2 for a tie, 0."""
    above, below = score[positive][:, None], score[~positive][None, :]
    return (above > below) + 0.5 * (above == below)


@pytest.mark.parametrize("seed", range(5))
def test_delong_is_the_formula_of_the_paper_by_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(60) < 0.4
    scores = [np.round(rng.normal(size=60) + shift * positive, 1) for shift in (0.4, 1.2)]
    kernels = [mann_whitney(positive, score) for score in scores]
    areas = np.array([kernel.mean() for kernel in kernels])
    by_positive = np.cov([kernel.mean(axis=1) for kernel in kernels])
    by_negative = np.cov([kernel.mean(axis=0) for kernel in kernels])
    covariance = by_positive / positive.sum() + by_negative / (~positive).sum()
    contrast = np.array([-1, 1])
    z = (areas @ contrast) / np.sqrt(contrast @ covariance @ contrast)
    assert delong(positive, *scores) == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_delong_of_the_same_scores_finds_no_difference() -> None:
    score = np.arange(20.0)
    assert delong(score > 12, score, score) == 1


def two_models(
    rng: np.random.Generator, n: int, grouped: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and predictions of two models that err alike in part; in groups of five, half of it is the group's."""
    unit = np.arange(n) // 5 if grouped else np.arange(n)
    own, shared = rng.normal(size=(3, n)), rng.normal(size=(3, n))[:, unit]
    noise = (own + shared) / 2**0.5 if grouped else own
    truth = rng.integers(0, 2, n)
    right = [noise[0] + noise[at] > bar for at, bar in ((1, -1.2), (2, -1.6))]
    return truth, *(np.where(one, truth, 1 - truth) for one in right), unit


@pytest.mark.parametrize(("n", "grouped"), [(30, False), (200, False), (200, True), (1000, True)])
def test_intervals_of_differences_cover_the_truth(n: int, grouped: bool) -> None:
    rng = np.random.default_rng(n)
    true = stats.norm.cdf(1.6 / 2**0.5) - stats.norm.cdf(1.2 / 2**0.5)
    covered: dict[str, list[bool]] = {"accuracy": [], "macro_f1": [], "mcc": []}
    for _ in range(500):
        truth, one, other, unit = two_models(rng, n, grouped)
        found = differences(class_estimates(truth, one, 2), class_estimates(truth, other, 2), units_of(unit, n))
        for name, hits in covered.items():
            low, high = found[name].interval or (0, 0)
            assert low <= found[name].difference <= high
            hits.append(low <= true * (2 if name == "mcc" else 1) <= high)
    shares = {name: np.mean(hits) for name, hits in covered.items()}
    assert all(0.92 <= share <= 0.995 for share in shares.values()), shares


def test_p_values_of_models_that_are_equally_good_are_small_rarely() -> None:
    rng = np.random.default_rng(0)
    small = {"mae": 0, "rmse": 0, "r2": 0, "spearman": 0}
    for _ in range(600):
        truth, noise = rng.normal(size=80), rng.normal(size=(3, 80))
        one, other = (number_estimates(truth, truth + noise[0] + noise[at]) for at in (1, 2))
        for name, found in differences(one, other, np.arange(80)).items():
            small[name] += found.p is not None and found.p < 0.05
    assert all(0.02 <= count / 600 <= 0.08 for count in small.values()), small


def test_the_interval_of_an_error_is_that_of_a_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    truth, one, other = rng.normal(size=(3, 50))
    found = differences(number_estimates(truth, one), number_estimates(truth, other), np.arange(50))["mae"]
    expected = stats.ttest_rel(np.abs(other - truth), np.abs(one - truth))
    assert found.p == pytest.approx(expected.pvalue)
    ends = expected.confidence_interval(0.95)
    assert found.interval == pytest.approx((ends.low, ends.high))


def test_a_bootstrap_of_groups_gives_the_same_interval() -> None:
    rng = np.random.default_rng(3)
    truth, one, other, unit = two_models(rng, 1500, True)
    found = differences(class_estimates(truth, one, 2), class_estimates(truth, other, 2), unit)["macro_f1"]
    members = np.arange(1500).reshape(-1, 5)
    drawn = []
    for _ in range(800):
        rows = members[rng.integers(0, len(members), len(members))].ravel()
        pair = (class_estimates(truth[rows], guess[rows], 2)["macro_f1"].value for guess in (one, other))
        drawn.append(-next(pair) + next(pair))
    assert found.interval == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.004)


def test_models_that_differ_in_no_row_are_not_known_to_be_equal() -> None:
    truth = np.arange(20) % 2
    found = differences(class_estimates(truth, truth, 2), class_estimates(truth, truth, 2), np.arange(20))["accuracy"]
    assert found.difference == 0
    assert found.p == 1
    assert found.interval is not None
    assert 0.05 < found.interval[1] < 0.2

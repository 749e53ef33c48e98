"""Expected errors, conformal sets and intervals: against brute force, and by what they cover in simulated splits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, softmax

from deeptune.engine.inference import Outputs
from deeptune.engine.row_order import Window
from deeptune.engine.writers import Said, prediction_table
from deeptune.errors import SpecError
from deeptune.spec.calibration_spec import CalibrationSpec
from deeptune.tasks import Task
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.confidence.conformal import (
    Quantiles,
    Scale,
    class_scores,
    conformal_quantile,
    in_set,
    rank_scores,
    rows_needed,
)
from deeptune.tasks.confidence.expected_error import ExpectedError
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.confidence.of_classes import area_under_risk, risk_curve
from deeptune.tasks.count import CountTask
from deeptune.tasks.multilabel import MultiLabelTask
from deeptune.tasks.multitarget import MultiTargetTask
from deeptune.tasks.ordinal import OrdinalTask
from deeptune.tasks.regression import RegressionTask

SPLITS = 200
COVERAGE = 0.9

# Quantiles


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("rows", [9, 10, 19, 57, 200])
def test_a_quantile_is_the_rank_that_the_theorem_names(rows: int, coverage: float):
    scores = np.random.default_rng(rows).random(rows)
    rank = math.ceil(round((rows + 1) * coverage, 9))
    expected = sorted(scores)[rank - 1] if rank <= rows else math.inf
    assert conformal_quantile(scores, coverage) == expected


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95, 0.99, 0.999])
def test_the_rows_that_a_coverage_needs(coverage: float):
    needed = rows_needed(coverage)
    scores = np.arange(needed, dtype=float)
    assert conformal_quantile(scores, coverage) == needed - 1
    assert conformal_quantile(scores[:-1], coverage) == math.inf


def test_groups_of_one_row_are_rows():
    scores = np.random.default_rng(0).random(50)
    assert conformal_quantile(scores, 0.9, np.arange(50) * 7) == conformal_quantile(scores, 0.9)


def test_each_group_weighs_the_same():
    """By repeating the rows of each group until all groups are equally large."""
    rng = np.random.default_rng(0)
    sizes = [1, 2, 3, 4, 6, 12] * 4
    groups = np.repeat(np.arange(len(sizes)), sizes)
    scores = rng.random(len(groups))
    repeated = np.sort(np.concatenate([np.repeat(scores[groups == at], 12 // size) for at, size in enumerate(sizes)]))
    rank = math.ceil(0.9 * (len(sizes) + 1) * 12)
    assert conformal_quantile(scores, 0.9, groups) == repeated[rank - 1]


def test_a_coverage_in_between_takes_the_next_one():
    found = Quantiles.fit(np.random.default_rng(0).random(500), 0.9)
    assert found.at(0.901) == found.at(0.91) == conformal_quantile(np.random.default_rng(0).random(500), 0.91)
    assert found.at(0.9995) == math.inf


# Sets


def test_a_set_of_classes_holds_those_of_low_scores():
    chances = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]])
    assert in_set(class_scores(chances), chances, 0.7).tolist() == [[True, False, False], [True, True, False]]


def test_no_set_is_empty():
    chances = np.array([[0.4, 0.35, 0.25]])
    assert in_set(class_scores(chances), chances, 0.1).tolist() == [[True, False, False]]


def test_sets_of_ranks_have_no_gap():
    """Each set is the shortest run of ranks that grows from the most probable one, by brute force."""
    rng = np.random.default_rng(0)
    chances = softmax(rng.normal(size=(200, 5)) * 2, axis=1)
    scores = rank_scores(chances)
    for row, own in zip(chances, scores, strict=True):
        low = high = int(row.argmax())
        for size in range(1, 5):
            inside = np.argsort(own, kind="stable")[:size]
            assert set(inside) == set(range(low, high + 1))
            mass = row[low : high + 1].sum()
            left, right = (row[at] if 0 <= at < 5 else -1 for at in (low - 1, high + 1))
            low, high = (low - 1, high) if left > right else (low, high + 1)
            assert own[low if left > right else high] == pytest.approx(mass)


def test_too_few_rows_give_every_class_and_a_sentence():
    some = classes(8, 0)
    task = CLASSES.with_confidence(some, CalibrationSpec(coverage=0.9))
    assert task.predictions(some.logits)["prediction_set"][0].as_py() == ["a", "b", "c", "d"]
    assert "which need 9 of them" in task.confidence_notes[-1]


def test_too_few_rows_give_every_number_and_a_sentence():
    some = numbers(8, 0)
    task = NUMBER.with_confidence(some, CalibrationSpec(coverage=0.9))
    found = task.predictions(some.logits)
    assert found["lower"][0].as_py() == -math.inf
    assert found["upper"][0].as_py() == math.inf
    assert "each interval holds every number" in task.confidence_notes[0]


# Coverage over simulated splits

CLASSES = ClassificationTask(("a", "b", "c", "d"))
TWO = ClassificationTask((False, True))
RANKS = OrdinalTask((0, 1, 2, 3))
LABELS = MultiLabelTask(tuple("abcde"), (0.5,) * 5)
NUMBER = RegressionTask(5.0, 2.0)
COUNT = CountTask(4.0, 3.0)
SEVERAL = MultiTargetTask(0.0, 1.0, ("a", "b"), (RegressionTask(5.0, 2.0), RegressionTask(0.0, 1.0)))


def classes(rows: int, seed: int) -> HeldOut:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, rows)
    logits = rng.normal(size=(rows, 4))
    logits[np.arange(rows), truth] += 1.2
    return HeldOut((3 * logits).astype(np.float32), truth, seed=seed)


def two(rows: int, seed: int) -> HeldOut:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, rows)
    return HeldOut((rng.normal(size=(rows, 2)) + truth[:, None] * [-0.7, 0.7]).astype(np.float32), truth, seed=seed)


def ranks(rows: int, seed: int) -> HeldOut:
    rng = np.random.default_rng(seed)
    score = rng.normal(size=rows) * 2
    truth = np.digitize(score + rng.normal(size=rows) * 1.5, [-2, 0, 2])
    return HeldOut((2 * np.stack([score + 2, score, score - 2], axis=1)).astype(np.float32), truth, seed=seed)


def labels(rows: int, seed: int) -> HeldOut:
    """Labels that occur together, some of them rare; a few rows have none."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(rows, 1))
    logits = 1.5 * rng.normal(size=(rows, 5)) + common + [1.0, 0.0, -0.5, -1.0, -2.0]
    return HeldOut((2 * logits).astype(np.float32), (rng.random((rows, 5)) < expit(logits)).astype(np.int8), seed=seed)


def numbers(rows: int, seed: int) -> HeldOut:
    """Errors that grow with the predicted number."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 1)).astype(np.float32)
    error = rng.standard_t(4, size=rows) * np.exp(logits[:, 0])
    return HeldOut(logits, NUMBER.numbers(logits) + error, seed=seed)


def counts(rows: int, seed: int) -> HeldOut:
    """Counts that vary more than those of a Poisson distribution, many of them 0."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 1)).astype(np.float32)
    rates = COUNT.numbers(logits)
    return HeldOut(logits, rng.poisson(rates * rng.gamma(3, 1 / 3, rows)).astype(np.float64), seed=seed)


def several(rows: int, seed: int) -> HeldOut:
    """Two numbers whose errors go together; a third of the second ones is missing."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 2)).astype(np.float32)
    shared = rng.standard_t(4, size=(rows, 1))
    truth = SEVERAL.numbers(logits) + (shared + rng.normal(size=(rows, 2))) * np.exp(logits)
    truth[rng.random(rows) < 1 / 3, 1] = np.nan
    return HeldOut(logits, truth, seed=seed)


def covered(task: Task, new: HeldOut) -> np.ndarray:
    found = task.predictions(new.logits)
    if isinstance(task, MultiLabelTask):
        pairs = zip(task.decode(new.truth).to_pylist(), found["prediction_set"].to_pylist(), strict=True)
        return np.array([set(own) <= set(some) for own, some in pairs])
    if "prediction_set" in found:
        truth = task.decode(new.truth).to_pylist()
        return np.array([one in some for one, some in zip(truth, found["prediction_set"].to_pylist(), strict=True)])
    return (found["lower"].to_numpy() <= new.truth) & (new.truth <= found["upper"].to_numpy())


def misses(hits: int, trials: int) -> bool:
    """Whether so few hits have less than one chance in ten thousand where the coverage holds."""
    return bool(stats.binom.cdf(hits, trials, COVERAGE) < 1e-4)


@pytest.mark.parametrize(
    ("task", "draw", "rows", "method"),
    [
        (CLASSES, classes, 40, "auto"),
        (RANKS, ranks, 40, "auto"),
        (TWO, two, 60, "isotonic"),
        (LABELS, labels, 40, "auto"),
        (LABELS, labels, 60, "platt"),
    ],
    ids=["classes", "ranks", "isotonic", "labels", "labels-platt"],
)
def test_sets_hold_the_truth_as_often_as_they_say(
    task: Task, draw: Callable[[int, int], HeldOut], rows: int, method: str
):
    """One new row for each of 200 val splits, so that the hits are independent."""
    hits, shares = 0, []
    for seed in range(SPLITS):
        fitted = task.with_confidence(draw(rows, seed), CalibrationSpec(method=method, coverage=COVERAGE))
        new = covered(fitted, draw(200, 10_000 + seed))
        hits += int(new[0])
        shares.append(new.mean())
    assert not misses(hits, SPLITS)
    assert np.mean(shares) > COVERAGE - 0.01


@pytest.mark.parametrize("rows", [20, 150])
def test_intervals_hold_the_truth_as_often_as_they_say(rows: int):
    hits, shares = 0, []
    for seed in range(SPLITS):
        fitted = NUMBER.with_confidence(numbers(rows, seed), CalibrationSpec(coverage=COVERAGE))
        new = covered(fitted, numbers(200, 10_000 + seed))
        hits += int(new[0])
        shares.append(new.mean())
    assert not misses(hits, SPLITS)
    assert COVERAGE - 0.01 < np.mean(shares) < COVERAGE + 0.05


@pytest.mark.parametrize("rows", [20, 150])
def test_intervals_hold_counts_as_often_as_they_say(rows: int):
    """More often, because a count is whole and no interval goes below 0."""
    hits, shares = 0, []
    for seed in range(SPLITS):
        fitted = COUNT.with_confidence(counts(rows, seed), CalibrationSpec(coverage=COVERAGE))
        new = covered(fitted, counts(200, 10_000 + seed))
        hits += int(new[0])
        shares.append(new.mean())
    assert not misses(hits, SPLITS)
    assert COVERAGE - 0.01 < np.mean(shares) < COVERAGE + 0.05


@pytest.mark.parametrize("rows", [30, 150])
def test_intervals_hold_each_of_several_numbers_as_often_as_they_say(rows: int):
    hits, trials, shares = np.zeros(2, int), np.zeros(2, int), []
    for seed in range(SPLITS):
        fitted = SEVERAL.with_confidence(several(rows, seed), CalibrationSpec(coverage=COVERAGE))
        new = several(200, 10_000 + seed)
        found = fitted.predictions(new.logits)
        lower, upper = (np.array(found[name].to_pylist()) for name in ("lower", "upper"))
        known = np.isfinite(new.truth)
        inside = (lower <= new.truth) & (new.truth <= upper)
        hits, trials = hits + inside[0], trials + known[0]
        shares.append(inside.sum(axis=0) / known.sum(axis=0))
    assert not any(misses(int(hit), int(trial)) for hit, trial in zip(hits, trials, strict=True))
    assert (np.mean(shares, axis=0) > COVERAGE - 0.01).all()
    assert (np.mean(shares, axis=0) < COVERAGE + 0.05).all()


def test_intervals_of_groups_hold_rows_of_a_new_group():
    """Groups share an error. A quantile over all rows would follow the few large groups."""

    def draw(seed: int, groups: int) -> HeldOut:
        rng = np.random.default_rng(seed)
        sizes = np.where(rng.random(groups) < 0.1, 40, 2)
        group = np.repeat(np.arange(groups), sizes)
        shared = np.where(sizes == 40, 0.2, 2.0) * rng.normal(size=groups)
        logits = rng.normal(size=(len(group), 1)).astype(np.float32)
        return HeldOut(logits, NUMBER.numbers(logits) + shared[group], group, seed)

    hits = blind = 0
    for seed in range(SPLITS):
        val, new = draw(seed, 40), draw(10_000 + seed, 1)
        for groups in (val.groups, None):
            some = HeldOut(val.logits, val.truth, groups, seed)
            fitted = NUMBER.with_confidence(some, CalibrationSpec(coverage=COVERAGE))
            hit = bool(covered(fitted, new)[0])
            hits, blind = (hits + hit, blind) if groups is not None else (hits, blind + hit)
    assert not misses(hits, SPLITS)
    assert misses(blind, SPLITS)  # so the simulation can tell


def test_intervals_are_wider_where_errors_are_larger():
    fitted = NUMBER.with_confidence(numbers(600, 0), CalibrationSpec())
    new = numbers(20_000, 1)
    found = fitted.predictions(new.logits)
    width = found["upper"].to_numpy() - found["lower"].to_numpy()
    low, high = new.logits[:, 0] < -1, new.logits[:, 0] > 1
    assert width[high].mean() > 3 * width[low].mean()
    hit = covered(fitted, new)
    assert hit[low].mean() > 0.8
    assert hit[high].mean() > 0.8


def test_each_target_has_intervals_of_its_own():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2000, 2)).astype(np.float32)
    truth = SEVERAL.numbers(logits) + rng.normal(size=(2000, 2)) * [0.1, 3.0]
    truth[::2, 1] = np.nan
    fitted = SEVERAL.with_confidence(HeldOut(logits[:1000], truth[:1000]), CalibrationSpec())
    found = fitted.predictions(logits[1000:])
    lower, upper = (np.array(found[name].to_pylist()) for name in ("lower", "upper"))
    known = np.isfinite(truth[1000:])
    inside = (lower <= truth[1000:]) & (truth[1000:] <= upper)
    assert 0.87 < inside[known[:, 0], 0].mean() < 0.93
    assert 0.86 < inside[known[:, 1], 1].mean() < 0.94
    width = (upper - lower).mean(axis=0)
    assert width[1] > 20 * width[0]


def test_another_coverage_gives_larger_sets():
    some = classes(300, 0)
    fitted = CLASSES.with_confidence(some, CalibrationSpec(coverage=0.8))
    new = classes(4000, 1)
    sizes = []
    for coverage in (0.8, 0.9, 0.97):
        own = fitted.at_coverage(coverage)
        assert covered(own, new).mean() > coverage - 0.04
        sizes.append(np.mean([len(one) for one in own.predictions(new.logits)["prediction_set"].to_pylist()]))
    assert sizes[0] < sizes[1] < sizes[2]


def test_a_model_without_val_rows_has_no_sets():
    with pytest.raises(SpecError, match="no sets or intervals"):
        LABELS.at_coverage(0.9)


def test_a_set_of_labels_holds_those_from_the_quantile_on_and_the_predicted_ones():
    """By brute force: the smallest limit at which the sets of ⌈(n + 1) · coverage⌉ val rows hold all labels."""
    some = labels(60, 0)
    fitted = LABELS.with_confidence(some, CalibrationSpec(method="none", coverage=0.8))
    chances = expit(some.logits.astype(np.float64))
    limits = sorted(max((1 - chance for chance, has in zip(*row, strict=True) if has), default=0.0)
                    for row in zip(chances, some.truth, strict=True))  # fmt: skip
    limit = limits[math.ceil(61 * 0.8) - 1]
    new = labels(50, 1)
    found = fitted.predictions(new.logits)
    expected = [
        [name for name, own, threshold in zip("abcde", row, fitted.thresholds, strict=True)
         if 1 - own <= limit or own >= threshold]
        for row in expit(new.logits.astype(np.float64))
    ]  # fmt: skip
    assert found["prediction_set"].to_pylist() == expected
    assert any(len(some) > len(said) for some, said in zip(expected, found["prediction"].to_pylist(), strict=True))
    scores = fitted.confidence_metrics(new.logits, new.truth)["confidence"]
    held = [set(has) <= set(some) for has, some in zip(LABELS.decode(new.truth).to_pylist(), expected, strict=True)]
    assert scores["covered"] == pytest.approx(np.mean(held))
    assert scores["mean_set_size"] == pytest.approx(np.mean([len(some) for some in expected]))
    assert LABELS.from_json(fitted.to_json()).predictions(new.logits)["prediction_set"] == found["prediction_set"]


def test_too_few_rows_give_every_label_and_a_sentence():
    some = labels(8, 0)
    task = LABELS.with_confidence(some, CalibrationSpec(coverage=0.9))
    assert task.predictions(some.logits)["prediction_set"][0].as_py() == list("abcde")
    assert "each set holds every label" in task.confidence_notes[-1]


def test_labels_of_an_earlier_version_have_no_sets():
    some = labels(60, 0)
    stored = LABELS.with_confidence(some, CalibrationSpec()).to_json()
    stored["confidence"]["quantiles"] = None
    task = LABELS.from_json(stored)
    assert "prediction_set" not in task.predictions(some.logits)
    assert "covered" not in task.confidence_metrics(some.logits, some.truth)["confidence"]
    with pytest.raises(SpecError, match="no sets or intervals"):
        task.at_coverage(0.9)


def test_a_scale_of_few_rows_is_one_number():
    found = Scale.fit(np.arange(20.0), np.arange(20.0))
    assert found.at(np.array([0.0, 100.0])).tolist() == [9.5, 9.5]


# Expected errors


def test_bins_hold_equal_numbers_of_rows():
    rng = np.random.default_rng(0)
    confidence = rng.random(400)
    found = ExpectedError.fit(confidence, rng.random(400) < confidence)
    assert [one.rows for one in found.bins] == pytest.approx([400 / 15] * 15, abs=1)
    for one in found.bins:
        inside = (
            (confidence > one.low) & (confidence <= one.high) if one is not found.bins[0] else confidence <= one.high
        )
        assert inside.sum() == one.rows
        assert one.confidence == pytest.approx(confidence[inside].mean())


def test_expected_errors_fall_with_confidence_and_come_true():
    rng = np.random.default_rng(0)

    def draw(rows: int) -> tuple[np.ndarray, np.ndarray]:
        confidence = rng.uniform(0.3, 1, rows)
        return confidence, rng.random(rows) < confidence**2

    found = ExpectedError.fit(*draw(3000))
    confidence, correct = draw(20_000)
    expected = found.at(confidence)
    assert (np.diff(expected[np.argsort(confidence)]) <= 1e-12).all()
    assert np.abs(expected - (1 - confidence**2)).mean() < 0.03
    assert expected.mean() == pytest.approx((~correct).mean(), abs=0.02)


def test_no_number_of_right_rows_makes_an_error_impossible():
    found = ExpectedError.fit(np.linspace(0.5, 1, 30), np.ones(30, bool))
    assert found.at(np.array([0.99]))[0] == pytest.approx(0.5 / 31)


def test_equal_confidences_are_in_one_bin():
    found = ExpectedError.fit(np.full(200, 0.9), np.arange(200) < 180)
    assert [one.rows for one in found.bins] == [200]
    assert found.at(np.array([0.2, 0.9])) == pytest.approx([20.5 / 201] * 2)


# Risk and coverage


def test_the_area_under_the_risk_curve_is_the_mean_over_the_rows_kept():
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(60), rng.random(60) < 0.7
    order = np.argsort(-confidence)
    expected = np.mean([(~correct[order[:kept]]).mean() for kept in range(1, 61)])
    assert area_under_risk(confidence, correct) == pytest.approx(expected)


def test_rows_of_equal_confidence_are_kept_together():
    confidence, correct = np.array([0.9, 0.5, 0.5, 0.5]), np.array([True, False, True, False])
    share, risk = risk_curve(confidence, correct)
    assert share.tolist() == [0.25, 1.0]
    assert risk.tolist() == [0.0, 0.5]
    for order in itertools.permutations(range(4)):
        again = area_under_risk(confidence[list(order)], correct[list(order)])
        assert again == area_under_risk(confidence, correct)


# Abstaining


def table_of(task: Task, logits: np.ndarray, below: float | None):
    rows = np.arange(len(logits))
    return prediction_table(Window(0, rows, Outputs(rows, logits)), Said(task, below))


def test_rows_below_a_confidence_have_no_prediction():
    logits = np.array([[3.0, 0.0, 0.0, 0.0], [0.1, 0.0, 0.0, 0.0]], np.float32)
    found = table_of(CLASSES, logits, 0.5)
    assert found["prediction"].to_pylist() == ["a", None]
    assert found["abstained"].to_pylist() == [False, True]
    assert found["probabilities"].null_count == 0


def test_without_a_limit_nothing_is_said_of_abstaining():
    assert "abstained" not in table_of(CLASSES, np.zeros((1, 4), np.float32), None).column_names


def test_labels_abstain_by_the_least_sure_one():
    task = MultiLabelTask(("x", "y"), (0.5, 0.5))
    found = table_of(task, np.array([[4.0, -4.0], [4.0, 0.1]], np.float32), 0.9)
    assert found["prediction"].to_pylist() == [["x"], None]
    assert found["abstained"].to_pylist() == [False, True]

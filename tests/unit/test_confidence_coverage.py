"""Sets and intervals hold the truth as often as they say: in simulated splits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from simulated import (
    CLASSES,
    COUNT,
    LABELS,
    NUMBER,
    RANKS,
    SEVERAL,
    TWO,
    classes,
    counts,
    labels,
    numbers,
    ranks,
    several,
    two,
)

from deeptune.errors import SpecError
from deeptune.spec.calibration_spec import CalibrationSpec
from deeptune.tasks import Task
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.multilabel import MultiLabelTask

SPLITS = 200
COVERAGE = 0.9


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

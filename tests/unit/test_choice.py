"""Which epoch is the best, and whether fine-tuning is better than its head: on numbers alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from deeptune.engine.choice import HeadComparison, ValLosses, choose, compare, never_better
from deeptune.engine.history import Best, TrainingHistory

RNG = np.random.default_rng(5)


def losses(values: np.ndarray, weights: np.ndarray | None = None) -> ValLosses:
    return ValLosses(values, np.ones(len(values)) if weights is None else weights)


def test_the_comparison_is_scipys_paired_test():
    head, tuned = RNG.exponential(size=60), RNG.exponential(size=60)
    found = compare(losses(head), losses(tuned))
    assert found.p == pytest.approx(ttest_rel(head, tuned, alternative="greater").pvalue)
    assert found.difference == pytest.approx((head - tuned).mean())


@pytest.mark.parametrize(("errors", "better"), [(0.45, False), (0.6, True)])
def test_more_than_half_a_standard_error_is_better(errors, better):
    noise = RNG.normal(size=400)
    noise -= noise.mean()
    gain = errors * noise.std(ddof=1) / np.sqrt(len(noise))
    assert compare(losses(noise + gain), losses(np.zeros(400))).better is better


def test_rows_of_a_group_count_once():
    gains = np.repeat(RNG.normal(0.1, 1, size=12), 50)
    alone, grouped = (
        compare(losses(gains), losses(np.zeros(600)), groups) for groups in (None, np.repeat(np.arange(3, 15), 50))
    )
    assert grouped.error > 5 * alone.error
    assert grouped.p == pytest.approx(compare(losses(gains[::50]), losses(np.zeros(12))).p)


def test_a_row_counts_by_its_weight():
    head, weights = np.array([1.0, 0.0, 0.5]), np.array([3.0, 1.0, 2.0])
    found = compare(losses(head, weights), losses(np.zeros(3), weights))
    assert found.difference == pytest.approx(losses(head, weights).mean)


def test_one_row_decides_nothing():
    assert not compare(losses(np.array([9.0])), losses(np.array([0.0]))).better


def test_equal_models_are_not_better():
    same = losses(RNG.exponential(size=30))
    assert not compare(same, same).better


def test_the_same_gain_of_every_row_is_better():
    assert compare(losses(np.full(30, 1.0)), losses(np.full(30, 0.5))).better


def test_fine_tuning_that_is_no_better_by_more_than_chance_leaves_the_head():
    best = Best("val/tempered_loss", 3, 0.5)
    assert choose(best, 0.51, HeadComparison(0.01, 0.02, 0.3)).head_is_model
    assert not choose(best, 0.6, HeadComparison(0.1, 0.02, 0.001)).head_is_model


def test_a_metric_that_is_no_mean_over_rows_decides_by_its_value():
    assert not choose(Best("val/macro_f1", 3, 0.8), 0.7, None).head_is_model


def test_a_mean_that_is_behind_the_head_leaves_it_though_an_epoch_is_better():
    mean = Best("val/macro_f1", 3, 0.6, mean=[2, 3, 5])
    assert "of the mean of epochs 2, 3 and 5" in choose(mean, 0.7, None).said
    assert choose(mean, 0.7, None).head_is_model
    assert not choose(mean, 0.5, None).head_is_model


def test_the_best_of_the_trained_epochs_is_named_where_none_beats_the_head():
    epochs = [{"epoch": n, "val": {"loss": 1.0, "macro_f1": f1}} for n, f1 in ((1, 0.2), (2, 0.4), (3, None))]
    history = TrainingHistory(Best("val/macro_f1", 0, 0.6), epochs=epochs)
    found = never_better(history, 0.6)
    assert (found.head_is_model, found.epoch) == (True, 2)
    assert "0.400 at best, 0.600 of the head" in found.said


def test_the_start_competes():
    best = Best("val/loss")
    assert not best.found
    assert best.offer(0, 0.5)
    assert best.found
    assert [best.offer(epoch, value) for epoch, value in ((1, 0.7), (2, 0.4))] == [False, True]
    assert (best.epoch, best.value) == (2, 0.4)


def test_patience_counts_from_the_best_trained_epoch():
    best = Best("val/loss")
    best.offer(0, 0.1)
    since = []
    for epoch, value in enumerate((0.9, 0.7, 0.5, 0.6, math.nan, 0.4), start=1):
        best.offer(epoch, value)
        since.append(best.since)
    assert since == [0, 0, 0, 1, 2, 0]
    assert best.epoch == 0


def test_a_start_without_a_value_is_not_the_best():
    best = Best("val/loss")
    assert not best.offer(0, None)
    assert not best.found
    assert best.offer(1, 0.9)


def test_a_best_epoch_of_an_earlier_version_keeps_its_patience():
    best = Best("val/loss", 2, 0.5, since=1)
    best.offer(4, 0.6)
    assert best.since == 2

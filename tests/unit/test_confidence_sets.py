"""Conformal quantiles, the sets they make, expected errors and abstaining: against brute force and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.special import expit, softmax
from simulated import CLASSES, LABELS, NUMBER, classes, labels, numbers

from deeptune.engine.inference import Outputs
from deeptune.engine.row_order import Window
from deeptune.engine.writers import PredictionColumns, prediction_table
from deeptune.errors import SpecError
from deeptune.spec.calibration_spec import CalibrationSpec
from deeptune.tasks import Task
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
from deeptune.tasks.confidence.of_classes import area_under_risk, risk_curve
from deeptune.tasks.multilabel import MultiLabelTask

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
    return prediction_table(Window(0, rows, Outputs(rows, logits)), PredictionColumns(task, below))


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

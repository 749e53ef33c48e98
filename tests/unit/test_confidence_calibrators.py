"""Calibrators against scikit-learn and SciPy, and the choice between them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from deeptune.spec.calibration_spec import CalibrationSpec
from deeptune.tasks import Task, task_from_json
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.confidence.calibrator_choice import MAX_CHANGED, CalibratorChoice, ClassLink, LabelLink, choose
from deeptune.tasks.confidence.calibrators import Calibrator, Method, against_rest, fit_classes, fit_labels
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.multilabel import MultiLabelTask
from deeptune.tasks.multitarget import MultiTargetTask
from deeptune.tasks.ordinal import OrdinalTask
from deeptune.tasks.regression import RegressionTask
from deeptune.tasks.temperature_prior import Prior

ALL: tuple[Method, ...] = ("none", "temperature", "platt", "beta", "isotonic")


def drawn(rows: int, classes: int, seed: int = 0, *, too_sure: float = 2.5) -> HeldOut:
    """Rows whose classes are drawn from probabilities of which the logits claim too much."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)) * 1.5
    chances = softmax(logits, axis=1)
    truth = (chances.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
    return HeldOut((logits * too_sure).astype(np.float32), truth, seed=seed)


def test_a_temperature_is_the_optimum_of_scipy():
    some = drawn(600, 4)
    rows = np.arange(len(some))

    def loss(log_temperature: np.ndarray) -> float:
        return -log_softmax(some.logits / np.exp(log_temperature[0]), axis=1)[rows, some.truth].mean()

    expected = np.exp(minimize(loss, [0.0], method="Nelder-Mead", options={"xatol": 1e-6}).x[0])
    assert fit_classes("temperature", some.logits, some.truth).parameters[0][0] == pytest.approx(expected, rel=1e-3)


def test_platt_is_that_of_scikit_learn():
    """Of CalibratedClassifierCV, whose sigmoid has the targets of Platt as well."""
    from sklearn.calibration import _SigmoidCalibration

    some = drawn(400, 2)
    margin = (some.logits[:, 1] - some.logits[:, 0]).astype(np.float64)
    expected = _SigmoidCalibration().fit(margin, some.truth).predict(margin)
    found = fit_classes("platt", some.logits, some.truth).of_classes(some.logits)[:, 1]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_isotonic_is_that_of_scikit_learn_inside_of_0_and_1():
    some = drawn(400, 2)
    margin = (some.logits[:, 1] - some.logits[:, 0]).astype(np.float64)
    expected = IsotonicRegression(out_of_bounds="clip").fit(margin, some.truth).predict(margin)
    found = fit_classes("isotonic", some.logits, some.truth).of_classes(some.logits)[:, 1]
    np.testing.assert_allclose(found, np.clip(expected, 1 / 402, 401 / 402), atol=1e-6)


def test_beta_is_a_logistic_regression_of_two_logarithms():
    some = drawn(2000, 2)
    chance = softmax(some.logits.astype(np.float64), axis=1)[:, 1]
    features = np.stack([np.log(chance), -np.log(1 - chance)], axis=1)
    expected = LogisticRegression(C=1e9, max_iter=1000).fit(features, some.truth).predict_proba(features)[:, 1]
    found = fit_classes("beta", some.logits, some.truth).of_classes(some.logits)[:, 1]
    np.testing.assert_allclose(found, expected, atol=5e-3)  # Platt's targets are not quite 0 and 1


def test_log_odds_against_the_rest_are_those_of_probabilities():
    scores = np.random.default_rng(0).normal(size=(50, 5)) * 3
    np.testing.assert_allclose(against_rest(scores), logit(softmax(scores, axis=1)), atol=1e-9)


def test_log_odds_of_a_sure_class_keep_their_digits():
    assert against_rest(np.array([[100.0, 0.0, 0.0]]))[0] == pytest.approx([100 - np.log(2), -100, -100])


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("method", ALL)
def test_probabilities_sum_to_1(method, classes):
    some = drawn(300, classes)
    found = fit_classes(method, some.logits, some.truth).of_classes(some.logits)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("method", ALL[1:])
def test_calibration_comes_true_on_new_rows(method):
    """By scikit-learn's calibration_curve, in bins of equal numbers of rows."""
    some, new = drawn(3000, 2), drawn(20_000, 2, seed=1)
    found = fit_classes(method, some.logits, some.truth).of_classes(new.logits)[:, 1]
    share, claimed = calibration_curve(new.truth, found, n_bins=8, strategy="quantile")
    assert np.abs(share - claimed).max() < 0.05
    before, claim = calibration_curve(new.truth, softmax(new.logits, axis=1)[:, 1], n_bins=8, strategy="quantile")
    assert np.abs(before - claim).max() > 0.1


@pytest.mark.parametrize("method", ALL)
def test_labels_are_calibrated_each_by_itself(method):
    rng = np.random.default_rng(0)
    log_odds = rng.normal(size=(4000, 2)) * 2
    has = rng.random((4000, 2)) < expit(log_odds * [0.5, 1.0])  # only the first claims too much
    found = fit_labels(method, log_odds, has).of_labels(log_odds)
    if method == "temperature":
        calibrator = fit_labels(method, log_odds, has)
        assert [one[0] for one in calibrator.parameters] == pytest.approx([2.0, 1.0], rel=0.15)
    if method != "none":
        for label in range(2):
            share, claimed = calibration_curve(has[:, label], found[:, label], n_bins=6, strategy="quantile")
            assert np.abs(share - claimed).max() < 0.06


def test_rows_that_are_all_right_get_a_finite_temperature():
    logits = np.array([[2.0, 0.0]] * 30 + [[0.0, 1.0]] * 30)
    truth = np.array([0] * 30 + [1] * 30)
    found = fit_classes("temperature", logits, truth)
    assert 0.1 < found.parameters[0][0] < 1  # surer than before, but not as sure as can be


@pytest.mark.parametrize("seed", range(5))
def test_a_temperature_changes_no_prediction(seed):
    some = drawn(2000, 6, seed)
    calibrator = fit_classes("temperature", some.logits, some.truth)
    assert (calibrator.of_classes(some.logits).argmax(axis=1) == some.logits.argmax(axis=1)).all()


def test_a_prior_counts_as_much_as_its_spread_says():
    few, many = drawn(12, 3), drawn(4000, 3)
    sure, vague = Prior(0.0, 0.02), Prior(0.0, 0.3)  # of a temperature of 1
    assert fit_classes("temperature", few.logits, few.truth, sure).parameters[0][0] == pytest.approx(1, rel=0.05)
    free = fit_classes("temperature", many.logits, many.truth).parameters[0][0]
    assert fit_classes("temperature", many.logits, many.truth, vague).parameters[0][0] == pytest.approx(free, rel=0.05)
    right = few.at(np.flatnonzero(few.logits.argmax(axis=1) == few.truth))
    assert fit_classes("temperature", right.logits, right.truth, Prior(0.9, 0.6)).parameters[0][0] > 1


# The choice


def chosen(some: HeldOut, classes: int, method: str = "auto") -> CalibratorChoice:
    return choose(ClassLink(classes), some, method)


def test_with_a_prior_few_rows_do_not_turn_a_temperature_down():
    some = drawn(30, 3, 1)
    some = replace(some, logits=some.logits / 2.5)  # right as they are
    prior = Prior(0.9, 0.6)
    assert chosen(some, 3).calibrator.method == "none"
    found = choose(ClassLink(3, prior), some, "auto")
    assert found.losses["none"] < found.losses["temperature"]
    assert found.calibrator == fit_classes("temperature", some.logits, some.truth, prior)


def test_logits_that_claim_too_much_get_a_temperature():
    found = chosen(drawn(400, 3), 3)
    assert found.calibrator.method == "temperature"
    assert found.calibrator.parameters[0][0] == pytest.approx(2.5, rel=0.25)
    assert set(found.losses) == set(ALL)


def bent(rows: int, seed: int) -> HeldOut:
    """Probabilities of the second of two classes that are off by a step, which no temperature mends."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(size=rows) * 4
    chance = np.where(log_odds > 0, 0.97, np.where(log_odds > -3, 0.3, 0.01))
    truth = (rng.random(rows) < chance).astype(int)
    return HeldOut(np.stack([np.zeros(rows), log_odds], axis=1).astype(np.float32), truth, seed=seed)


def test_a_method_with_more_parameters_is_chosen_where_it_is_clearly_better():
    found = chosen(bent(3000, 0), 2)
    assert found.calibrator.method == "isotonic"
    assert found.losses["isotonic"] < found.losses["temperature"] - 0.01


def shifted(rows: int = 2000) -> HeldOut:
    """Log odds that are too high by 1: Platt would move many predictions to the other class."""
    rng = np.random.default_rng(0)
    log_odds = rng.normal(size=rows) * 1.5
    truth = (rng.random(rows) < expit(log_odds - 1)).astype(int)
    return HeldOut(np.stack([np.zeros(rows), log_odds], axis=1).astype(np.float32), truth)


def test_a_calibrator_that_changes_predictions_is_not_chosen():
    some = shifted()
    platt = fit_classes("platt", some.logits, some.truth)
    assert ClassLink(2).changed(platt, some.logits) > MAX_CHANGED
    found = chosen(some, 2)
    assert found.losses["platt"] < found.losses["temperature"]
    assert found.calibrator.method == "temperature"
    assert "changes" in found.notes[0]
    assert "temperature scaling is used instead" in found.notes[0]


def test_a_method_that_a_person_asks_for_is_kept_and_its_changes_are_told():
    found = chosen(shifted(), 2, "platt")
    assert found.calibrator.method == "platt"
    assert "Platt scaling changes" in found.notes[0]


def test_few_rows_get_a_temperature_at_most():
    found = chosen(drawn(40, 3), 3)
    assert set(found.losses) == {"none", "temperature"}
    assert "40 rows" in found.notes[0]


def test_very_few_rows_get_no_calibrator():
    found = chosen(drawn(8, 3), 3)
    assert found.calibrator == Calibrator("none")
    assert "8 rows, too few to calibrate" in found.notes[0]


def test_groups_count_as_rows_do():
    some = drawn(400, 3)
    few = HeldOut(some.logits, some.truth, np.arange(400) % 8)
    assert "8 groups" in chosen(few, 3).notes[0]


def test_a_rare_class_allows_no_parameters_of_its_own():
    some = drawn(400, 3)
    truth = np.where(some.truth == 2, 0, some.truth)
    truth[:3] = 2
    assert set(chosen(HeldOut(some.logits, truth), 3).losses) == {"none", "temperature"}
    found = chosen(HeldOut(some.logits, truth), 3, "isotonic")
    assert found.calibrator.method == "temperature"
    assert "one has 3" in found.notes[0]


def test_rows_of_a_group_are_in_one_fold():
    groups = np.repeat(np.arange(40), 5)
    folds = HeldOut(np.zeros((200, 2)), np.zeros(200, int), groups).folds()
    assert all(len(np.unique(folds[groups == one])) == 1 for one in range(40))
    assert len(np.unique(folds)) == 5


def test_classes_are_spread_over_the_folds():
    truth = np.array([0] * 90 + [1] * 10)
    folds = HeldOut(np.zeros((100, 2)), truth).folds()
    assert np.bincount(folds[truth == 1]).tolist() == [2] * 5


def test_probabilities_for_the_rest_come_from_other_rows():
    """Isotonic regression of pure noise finds nothing in rows that it was not fitted to."""
    rng = np.random.default_rng(0)
    some = HeldOut(rng.normal(size=(100, 2)), rng.integers(0, 2, 100))
    found = chosen(some, 2, "isotonic")
    fitted = found.calibrator.of_classes(some.logits)
    rows = np.arange(100)
    assert np.log(fitted[rows, some.truth]).mean() > np.log(found.probabilities[rows, some.truth]).mean() + 0.05


# Tasks


def classes(rows: int = 400) -> tuple[Task, HeldOut]:
    return ClassificationTask(("a", "b", "c")), drawn(rows, 3)


def two(rows: int = 400) -> tuple[Task, HeldOut]:
    return ClassificationTask((0, 1)), drawn(rows, 2)


def ranks(rows: int = 400) -> tuple[Task, HeldOut]:
    rng = np.random.default_rng(0)
    score = rng.normal(size=rows) * 2
    truth = np.digitize(score + rng.logistic(size=rows), [-1, 1])
    logits = (np.stack([score + 1, score - 1], axis=1) * 3).astype(np.float32)
    return OrdinalTask((1, 2, 3)), HeldOut(logits, truth)


def labels(rows: int = 400) -> tuple[Task, HeldOut]:
    rng = np.random.default_rng(0)
    log_odds = rng.normal(size=(rows, 3)) * 2 - 0.5
    has = (rng.random((rows, 3)) < expit(log_odds)).astype(np.int8)
    task = MultiLabelTask(("x", "y", "z"), (0.5, 0.5, 0.5)).with_thresholds(log_odds * 2, has)
    return task, HeldOut((log_odds * 2).astype(np.float32), has)


def number(rows: int = 400) -> tuple[Task, HeldOut]:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(rows, 1)).astype(np.float32)
    task = RegressionTask(10.0, 4.0)
    return task, HeldOut(logits, task.numbers(logits) + rng.normal(size=rows))


def several(rows: int = 400) -> tuple[Task, HeldOut]:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(rows, 2)).astype(np.float32)
    task = MultiTargetTask(0.0, 1.0, ("a", "b"), (RegressionTask(1.0, 2.0), RegressionTask(3.0, 4.0)))
    truth = task.numbers(logits) + rng.normal(size=(rows, 2))
    truth[::3, 1] = np.nan
    return task, HeldOut(logits, truth)


KINDS = pytest.mark.parametrize("make", [classes, two, ranks, labels, number, several])
Make = Callable[..., tuple[Task, HeldOut]]


@KINDS
def test_what_is_stored_gives_the_same_bits(make: Make):
    task, some = make()
    fitted = task.with_confidence(some, CalibrationSpec())
    again = task_from_json(json.loads(json.dumps(fitted.to_json())))
    assert again == fitted
    before, after = fitted.predictions(some.logits), again.predictions(some.logits)
    assert list(before) == list(after)
    assert all(before[name].equals(after[name]) for name in before)
    assert again.confidence_metrics(some.logits, some.truth) == fitted.confidence_metrics(some.logits, some.truth)


@KINDS
def test_a_task_without_confidence_says_nothing_of_it(make: Make):
    task, some = make(30)
    assert "confidence" not in json.dumps(task.to_json())
    assert task.confidence_metrics(some.logits, some.truth) == {}
    new = {"expected_error", "prediction_set", "lower", "upper"}
    assert not new & set(task.predictions(some.logits))


@KINDS
@pytest.mark.parametrize("rows", [1, 3, 12, 60])
def test_any_number_of_val_rows_will_do(make: Make, rows: int):
    task, some = make(max(rows, 3))
    fitted = task.with_confidence(some.at(np.arange(rows)), CalibrationSpec())
    found = fitted.confidence_metrics(some.logits, some.truth)
    json.dumps(found, allow_nan=False)
    json.dumps(fitted.to_json(), allow_nan=False)
    assert len(fitted.predictions(some.logits)["prediction"]) == len(some)


@pytest.mark.parametrize("make", [classes, two, ranks, labels])
def test_a_temperature_leaves_every_prediction_as_it_was(make: Make):
    task, some = make()
    fitted = task.with_confidence(some, CalibrationSpec(method="temperature"))
    before, after = (one.predictions(some.logits) for one in (task, fitted))
    assert before["prediction"].equals(after["prediction"])
    assert not before["probabilities"].equals(after["probabilities"])
    for name in set(task.info.metrics) & {"accuracy", "macro_f1", "hamming_loss", "quadratic_weighted_kappa"}:
        assert task.score(some.logits, some.truth)[name] == fitted.score(some.logits, some.truth)[name]


@pytest.mark.parametrize("make", [classes, two, ranks])
def test_metrics_tell_both_log_losses(make: Make):
    task, some = make()
    fitted = task.with_confidence(some, CalibrationSpec())
    found = fitted.score(some.logits, some.truth) | fitted.confidence_metrics(some.logits, some.truth)
    plain: dict[str, Any] = task.score(some.logits, some.truth)
    assert found["uncalibrated"] == pytest.approx({name: plain[name] for name in ("log_loss", "ece")})
    assert found["log_loss"] < plain["log_loss"]
    assert found["ece"] < plain["ece"]


def test_labels_move_their_thresholds():
    task, some = labels()
    for method in ("temperature", "platt", "beta"):
        fitted = task.with_confidence(some, CalibrationSpec(method=method))
        assert fitted.predictions(some.logits)["prediction"].equals(task.predictions(some.logits)["prediction"])
    assert LabelLink(task.thresholds).changed(Calibrator("none"), some.logits) == 0


def test_scikit_learn_calibrates_as_well():
    """A check from outside: its temperature gives the same log loss on new rows, where it has one."""
    some, new = drawn(1500, 3), drawn(5000, 3, seed=1)
    sigmoid = CalibratedClassifierCV(LogisticRegression(), method="sigmoid", cv=5).fit(some.logits, some.truth)
    expected = -np.log(sigmoid.predict_proba(new.logits)[np.arange(5000), new.truth]).mean()
    found = chosen(some, 3).calibrator.of_classes(new.logits)
    assert -np.log(found[np.arange(5000), new.truth]).mean() < expected + 0.01

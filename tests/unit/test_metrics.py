"""Metrics against scikit-learn and against plain loops, on random data."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn import metrics as sk

from deeptune.errors import TrainingError
from deeptune.tasks.metric_functions import calibration_bins, classification_metrics
from deeptune.tasks.number_metrics import number_metrics

pytestmark = pytest.mark.filterwarnings("error")


@dataclass(frozen=True)
class Labels:
    values: tuple[Any, ...]
    names: tuple[str, ...] | None = None


def random_predictions(
    rows: int, classes: int, seed: int, absent: tuple[int, ...] = (), dtype: type = np.float64
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.choice([index for index in range(classes) if index not in absent], size=rows)
    logits = rng.normal(size=(rows, classes))
    logits[np.arange(rows), truth] += 1.2
    logits = np.round(logits, 1)  # rounding makes ties, which the ROC curve has to get right
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth.astype(np.int64), probabilities.astype(dtype)


def ece_by_loop(truth: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    edges = np.linspace(0, 1, bins + 1)
    total = 0.0
    for low, high in itertools.pairwise(edges):
        confidences, corrects = [], []
        for row, target in zip(probabilities.astype(float), truth, strict=True):
            if low < row.max() <= high:
                confidences.append(row.max())
                corrects.append(row.argmax() == target)
        if confidences:
            gap = abs(sum(corrects) / len(corrects) - sum(confidences) / len(confidences))
            total += len(confidences) / len(truth) * gap
    return total


@pytest.mark.parametrize(
    ("rows", "classes", "absent", "dtype"),
    [
        (400, 2, (), np.float64),
        (401, 2, (), np.float32),
        (500, 3, (), np.float32),
        (500, 7, (), np.float64),
        (300, 7, (0, 4), np.float64),
        (60, 40, (), np.float32),
        (900, 120, (), np.float64),
        (50, 2, (1,), np.float64),
        (1, 3, (), np.float64),
    ],
)
def test_classification_equals_scikit_learn(rows: int, classes: int, absent: tuple[int, ...], dtype: type) -> None:
    truth, probabilities = random_predictions(rows, classes, seed=rows, absent=absent, dtype=dtype)
    everything = list(range(classes))
    ours = classification_metrics(truth, probabilities, everything)
    prediction = probabilities.argmax(axis=1)
    present = np.unique(truth)

    recalls = [np.mean(prediction[truth == index] == index) for index in present]
    expected = {
        "accuracy": sk.accuracy_score(truth, prediction),
        "balanced_accuracy": np.mean(recalls),
        "macro_f1": sk.f1_score(truth, prediction, labels=everything, average="macro", zero_division=0),
        "weighted_f1": sk.f1_score(truth, prediction, labels=everything, average="weighted", zero_division=0),
        "log_loss": sk.log_loss(truth, probabilities, labels=everything),
        "ece": ece_by_loop(truth, probabilities),
    }
    if rows > 1:  # scikit-learn warns of a single row
        expected["mcc"] = sk.matthews_corrcoef(truth, prediction)
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, abs=1e-6), name
    if len(present) > 1 and set(prediction) <= set(present):  # scikit-learn warns otherwise, with the same value
        assert ours["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, prediction), abs=1e-6)

    areas = [
        sk.roc_auc_score(truth == index, probabilities[:, index]) if 0 < np.sum(truth == index) < rows else None
        for index in everything
    ]
    if None in areas:
        assert ours["roc_auc"] is None
        assert any("roc_auc" in note for note in ours["notes"])
    else:
        whole = (
            sk.roc_auc_score(truth, probabilities[:, 1])
            if classes == 2
            else sk.roc_auc_score(
                truth,
                probabilities.astype(float) / probabilities.astype(float).sum(axis=1, keepdims=True),
                multi_class="ovr",
                labels=everything,
            )
        )
        assert ours["roc_auc"] == pytest.approx(whole, abs=1e-6)
        assert ours["notes"] == []

    precision, recall, f1, support = sk.precision_recall_fscore_support(
        truth, prediction, labels=everything, zero_division=0
    )
    assert [row["class"] for row in ours["per_class"]] == everything
    for index, row in enumerate(ours["per_class"]):
        assert row["precision"] == pytest.approx(precision[index], abs=1e-6)
        assert row["recall"] == pytest.approx(recall[index], abs=1e-6)
        assert row["f1"] == pytest.approx(f1[index], abs=1e-6)
        assert row["support"] == support[index]
        assert row["roc_auc"] == (None if areas[index] is None else pytest.approx(areas[index], abs=1e-6))
    assert ours["confusion_matrix"] == sk.confusion_matrix(truth, prediction, labels=everything).tolist()
    assert ours["n"] == rows
    json.dumps(ours, allow_nan=False)


def test_certain_and_wrong_is_clipped_as_scikit_learn_clips() -> None:
    truth = np.array([0, 1, 1])
    for dtype in (np.float32, np.float64):
        probabilities = np.array([[0, 1], [1, 0], [0, 1]], dtype=dtype)
        ours = classification_metrics(truth, probabilities, [False, True])
        assert ours["log_loss"] == pytest.approx(sk.log_loss(truth, probabilities), abs=1e-6)
        assert ours["ece"] == pytest.approx(2 / 3)


def test_confidence_on_a_bin_edge_belongs_to_the_lower_bin() -> None:
    edges = np.linspace(0, 1, 16)
    count, _, _ = calibration_bins(edges[1:], np.ones(15, dtype=bool))
    assert count.tolist() == [1] * 15
    count, confidence, accuracy = calibration_bins(np.array([1.0, 1.0 + 1e-9]), np.array([True, False]))
    assert count[-1] == 2
    assert accuracy[-1] == 0.5
    assert confidence[-1] == pytest.approx(1.0)


def test_classes_keep_their_own_value_and_name() -> None:
    truth, probabilities = random_predictions(50, 3, seed=1)
    labelled = classification_metrics(truth, probabilities, Labels(("a", "b", "c"), ("ant", "bee", "cow")))
    assert [(row["class"], row["name"]) for row in labelled["per_class"]] == [("a", "ant"), ("b", "bee"), ("c", "cow")]
    plain = classification_metrics(truth, probabilities, Labels((3, 5, 9)))
    assert [(row["class"], row["name"]) for row in plain["per_class"]] == [(3, None), (5, None), (9, None)]
    numpy_values = classification_metrics(truth, probabilities, list(np.array([3, 5, 9])))
    json.dumps(numpy_values, allow_nan=False)


def test_an_absent_class_is_named_in_the_notes() -> None:
    truth, probabilities = random_predictions(80, 3, seed=2, absent=(1,))
    metrics = classification_metrics(truth, probabilities, Labels((3, 5, 9), ("ant", "bee", "cow")))
    assert metrics["notes"] == ["roc_auc is not defined: no row here is of class 5 (bee)"]
    assert metrics["per_class"][1]["roc_auc"] is None
    assert metrics["per_class"][0]["roc_auc"] == pytest.approx(sk.roc_auc_score(truth == 0, probabilities[:, 0]))


def test_no_rows_is_not_an_error() -> None:
    metrics = classification_metrics(np.zeros(0, dtype=np.int64), np.zeros((0, 3)), [1, 2, 3])
    assert metrics["n"] == 0
    assert metrics["accuracy"] is None
    assert metrics["log_loss"] is None
    assert metrics["notes"]
    metrics = number_metrics(np.zeros(0), np.zeros(0))
    assert metrics["n"] == 0
    assert metrics["mae"] is None
    assert metrics["notes"]


def test_diverged_predictions_are_one_clear_error() -> None:
    truth, probabilities = random_predictions(10, 3, seed=3)
    probabilities[4, 1] = math.nan
    with pytest.raises(TrainingError, match="1 of 10 rows"):
        classification_metrics(truth, probabilities, [0, 1, 2])
    with pytest.raises(TrainingError, match="2 of 3 rows"):
        number_metrics(np.zeros(3), np.array([math.nan, 1, math.inf]))


@pytest.mark.parametrize("rows", [2, 3, 500])
def test_regression_equals_scikit_learn(rows: int) -> None:
    rng = np.random.default_rng(rows)
    truth = np.round(rng.normal(50, 20, size=rows), 0)
    prediction = np.round(truth + rng.normal(0, 10, size=rows), 0)
    ours = number_metrics(truth, prediction)
    assert ours["mae"] == pytest.approx(sk.mean_absolute_error(truth, prediction), abs=1e-6)
    assert ours["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, prediction), abs=1e-6)
    assert ours["r2"] == pytest.approx(sk.r2_score(truth, prediction), abs=1e-6)
    assert ours["spearman"] == pytest.approx(spearmanr(truth, prediction).statistic, abs=1e-6)
    assert ours["n"] == rows
    assert ours["notes"] == []
    json.dumps(ours, allow_nan=False)


def test_regression_of_constants_is_null_with_the_reason() -> None:
    varied, constant = np.array([1.0, 2.0, 4.0]), np.full(3, 7.0)
    metrics = number_metrics(varied, constant)
    assert metrics["spearman"] is None
    assert metrics["r2"] == pytest.approx(sk.r2_score(varied, constant))
    assert metrics["notes"] == ["spearman is not defined: the prediction is one and the same number in every row"]
    metrics = number_metrics(constant, varied)
    assert metrics["spearman"] is None
    assert metrics["r2"] is None
    assert len(metrics["notes"]) == 2
    assert metrics["mae"] == pytest.approx(14 / 3)


def test_scikit_learns_macro_f1_is_a_headline_only_where_it_is_another_number() -> None:
    from deeptune.engine.run_metadata import headline

    truth = np.array([0, 0, 1, 1])
    whole = classification_metrics(truth, np.eye(2)[[0, 1, 1, 1]], ["a", "b"])
    assert "macro_f1_present" not in headline(whole)
    lacking = classification_metrics(truth, np.eye(3)[[0, 1, 1, 1]], ["a", "b", "c"])
    expected = sk.f1_score(truth, [0, 1, 1, 1], average="macro")
    assert headline(lacking)["macro_f1_present"] == pytest.approx(expected)
    assert headline(lacking)["macro_f1"] == pytest.approx(expected * 2 / 3)


@pytest.mark.parametrize(("truth", "predicted"), [((0, 1, 1, 2), (1, 1, 1, 1)), ((1, 1, 1, 1), (0, 1, 1, 2))])
def test_a_single_class_or_prediction_has_no_matthews_correlation(
    truth: tuple[int, ...], predicted: tuple[int, ...]
) -> None:
    ours = classification_metrics(np.array(truth), np.eye(3)[list(predicted)], ["a", "b", "c"])
    assert ours["mcc"] == sk.matthews_corrcoef(truth, predicted) == 0.0

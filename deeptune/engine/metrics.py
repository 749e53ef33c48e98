"""Metrics of classification and regression, by scikit-learn's names and equal to its values.

Everything follows from the confusion matrix, from ranks and from one pass over the confidences, so
that scoring val after each epoch costs milliseconds, with many classes too. A value that is not
defined on these rows is None, with the reason in `notes`; NaN never leaves this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from deeptune.errors import TrainingError, listed

ECE_BINS = 15


class Classes(Protocol):
    """What is needed of `ClassLabels`: the classes' own values and the names shown beside them."""

    @property
    def values(self) -> Sequence[Any]: ...
    @property
    def names(self) -> Sequence[str] | None: ...


def classification_metrics(
    truth: np.ndarray, probabilities: np.ndarray, labels: Classes | Sequence[Any]
) -> dict[str, Any]:
    """The metrics of N predictions over C classes, ready for JSON.

    truth: int64 (N,), class indices. probabilities: float (N, C), rows sum to 1. labels: the C classes in
    index order; every class counts in the macro averages, also one with no row here (scikit-learn's
    `labels=`, `zero_division=0`). `macro_f1_present` is scikit-learn's default: the mean over the classes that occur
    in the truth or the predictions. The prediction is the most probable class, the first one of equals.

    `roc_auc` is that of the second class for two classes, else the macro average of one-vs-rest.
    `balanced_accuracy` averages recall over the classes that have rows. `ece` is the expected calibration
    error of Guo et al. 2017 (https://arxiv.org/abs/1706.04599), 15 bins.

    Raises TrainingError when a probability is not a finite number.
    """
    values, names = _values_and_names(labels)
    truth = np.asarray(truth, dtype=np.int64)
    probabilities = np.asarray(probabilities)
    n, size = len(truth), len(values)
    if probabilities.shape != (n, size):
        raise ValueError(f"expected probabilities of shape {(n, size)}, got {probabilities.shape}")
    _require_finite(probabilities)
    shown = [str(value) if name is None else f"{value} ({name})" for value, name in zip(values, names, strict=True)]
    notes: list[str] = []

    prediction = probabilities.argmax(axis=1) if n else np.zeros(0, dtype=np.int64)
    confusion = np.bincount(truth * size + prediction, minlength=size * size).reshape(size, size)
    hits, support, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    precision = _ratio(hits, predicted)
    recall = _ratio(hits, support)
    f1 = _ratio(2 * hits, support + predicted)

    areas = [_roc_auc(truth == index, probabilities[:, index]) for index in range(size)]
    roc_auc = None
    if n == 0:
        notes.append("there are no rows, so no metric is defined")
    elif size == 2:
        roc_auc = areas[1]
    elif None not in areas:
        roc_auc = float(np.mean(np.array(areas, dtype=float)))
    if n and None in areas:
        absent = [name for name, count in zip(shown, support, strict=True) if count == 0]
        notes.append(f"roc_auc is not defined: no row here is of class {listed(absent)}")

    metrics: dict[str, Any] = dict.fromkeys(
        ("accuracy", "balanced_accuracy", "macro_f1", "macro_f1_present", "weighted_f1", "roc_auc", "log_loss", "ece")
    )
    if n:
        tiny = np.finfo(np.result_type(probabilities.dtype, np.float32)).eps  # where scikit-learn clips
        true_probability = np.clip(probabilities[np.arange(n), truth].astype(np.float64), tiny, 1 - tiny)
        metrics |= {
            "accuracy": float(hits.sum() / n),
            "balanced_accuracy": float(recall[support > 0].mean()),
            "macro_f1": float(f1.mean()),
            "macro_f1_present": float(f1[support + predicted > 0].mean()),
            "weighted_f1": float(f1 @ support / n),
            "roc_auc": roc_auc,
            "log_loss": float(-np.log(true_probability).mean()),
            "ece": calibration_error(probabilities.max(axis=1), prediction == truth),
        }
    metrics["per_class"] = [
        {
            "class": values[index],
            "name": names[index],
            "precision": float(precision[index]),
            "recall": float(recall[index]),
            "f1": float(f1[index]),
            "support": int(support[index]),
            "roc_auc": areas[index],
        }
        for index in range(size)
    ]
    return metrics | {"confusion_matrix": confusion.tolist(), "n": n, "notes": notes}


def regression_metrics(truth: np.ndarray, prediction: np.ndarray) -> dict[str, Any]:
    """MAE, RMSE, R² and Spearman's rank correlation of N numbers, ready for JSON.

    truth, prediction: float (N,) in the label's own unit. R² is None when the truth does not vary,
    Spearman when either does not. Raises TrainingError when a prediction is not a finite number.
    """
    truth = np.asarray(truth, dtype=np.float64)
    prediction = np.asarray(prediction, dtype=np.float64)
    if truth.shape != prediction.shape or truth.ndim != 1:
        raise ValueError(f"expected two vectors of one length, got {truth.shape} and {prediction.shape}")
    _require_finite(prediction)
    metrics: dict[str, Any] = dict.fromkeys(("mae", "rmse", "r2", "spearman"))
    notes: list[str] = []
    if len(truth) == 0:
        notes.append("there are no rows, so no metric is defined")
        return metrics | {"n": 0, "notes": notes}
    error = prediction - truth
    metrics["mae"] = float(np.abs(error).mean())
    metrics["rmse"] = float(np.sqrt(np.square(error).mean()))
    truth_varies, prediction_varies = bool(np.ptp(truth) > 0), bool(np.ptp(prediction) > 0)
    if truth_varies:
        metrics["r2"] = float(1 - np.square(error).sum() / np.square(truth - truth.mean()).sum())
    else:
        notes.append("r2 is not defined: the truth is one and the same number in every row")
    if truth_varies and prediction_varies:
        metrics["spearman"] = float(np.corrcoef(_ranks(truth), _ranks(prediction))[0, 1])
    else:
        what = "prediction" if truth_varies else "truth"
        notes.append(f"spearman is not defined: the {what} is one and the same number in every row")
    return metrics | {"n": len(truth), "notes": notes}


def calibration_bins(
    confidence: np.ndarray, correct: np.ndarray, bins: int = ECE_BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, mean confidence and accuracy of each equal-width bin (low, high] of confidence.

    confidence: float (N,) in 0 … 1; correct: bool (N,). Returns int64 (bins,) and two float64 (bins,), which
    are 0 in an empty bin.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    edges = np.linspace(0, 1, bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    return (
        count,
        _ratio(np.bincount(index, weights=confidence, minlength=bins), count),
        _ratio(np.bincount(index, weights=np.asarray(correct, dtype=np.float64), minlength=bins), count),
    )


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = ECE_BINS) -> float:
    """Expected calibration error: mean |accuracy - confidence| over bins, weighted by their rows (N > 0)."""
    count, mean_confidence, accuracy = calibration_bins(confidence, correct, bins)
    return float(np.abs(accuracy - mean_confidence) @ count / count.sum())


def _values_and_names(labels: Classes | Sequence[Any]) -> tuple[list[Any], list[str | None]]:
    given: Any = labels
    values = [value.item() if isinstance(value, np.generic) else value for value in getattr(given, "values", given)]
    names = getattr(given, "names", None)
    return values, list(names) if names is not None else [None] * len(values)


def _require_finite(predictions: np.ndarray) -> None:
    finite = np.isfinite(predictions)
    if finite.all():
        return
    rows = finite if finite.ndim == 1 else finite.all(axis=1)
    raise TrainingError(
        f"the model predicts no finite number for {int((~rows).sum()):,} of {len(rows):,} rows: training has diverged",
        hint="Lower train.learning_rate, or set train.precision to 'fp32'.",
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 where whole is 0: scikit-learn's zero_division=0."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _roc_auc(positive: np.ndarray, score: np.ndarray) -> float | None:
    """Area under the ROC curve as the Mann-Whitney U statistic (Hanley & McNeil 1982); ties count half."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return None
    ranks = _ranks(score)
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties by their mean; `scipy.stats` would take a second to import for it."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[places]

"""The metrics of classes and of labels in `spec.metrics`, by scikit-learn's names and equal to its values.

Everything follows from the confusion matrix, from ranks and from one pass over the confidences, so
that scoring val after each epoch costs milliseconds, with many classes too. A value that is not
defined on these rows is None, with the reason in `notes`; NaN never leaves this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from deeptune.errors import TrainingError, listed
from deeptune.spec.metrics import METRICS
from deeptune.spec.tasks import TASKS

ECE_BINS = 15


class Classes(Protocol):
    """The classes' own values and the names shown beside them."""

    @property
    def values(self) -> Sequence[Any]: ...
    @property
    def names(self) -> Sequence[str] | None: ...


# Classes


class ClassScores:
    """N predictions over C classes, and what the metrics of classes have in common.

    truth: int64 (N,), class indices. probabilities: float (N, C), rows sum to 1. The prediction is the most probable
    class, the first one of equals. `notes` collects why a metric is not defined.
    """

    def __init__(self, truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> None:
        self.truth, self.probabilities, self.classes = truth, probabilities, classes
        self.notes: list[str] = []
        size = len(classes)
        self.prediction = probabilities.argmax(axis=1) if len(truth) else np.zeros(0, dtype=np.int64)
        self.confusion = np.bincount(truth * size + self.prediction, minlength=size * size).reshape(size, size)
        self.hits = self.confusion.diagonal()
        self.support, self.predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        self.precision = ratio(self.hits, self.predicted)
        self.recall = ratio(self.hits, self.support)
        self.f1 = ratio(2 * self.hits, self.support + self.predicted)
        self.areas = [area_under_roc(truth == index, probabilities[:, index]) for index in range(size)]

    def __len__(self) -> int:
        return len(self.truth)


def classification_metrics(
    truth: np.ndarray, probabilities: np.ndarray, labels: Classes | Sequence[Any], task: str = "classification"
) -> dict[str, Any]:
    """Return the metrics of N predictions over C classes, ready for JSON.

    truth: int64 (N,), class indices. probabilities: float (N, C), rows sum to 1. labels: the C classes in index order.
    `per_class` and `confusion_matrix` follow the metrics of the task. Raises TrainingError when a probability is not a
    finite number.
    """
    values, names = _values_and_names(labels)
    truth = np.asarray(truth, dtype=np.int64)
    probabilities = np.asarray(probabilities)
    n, size = len(truth), len(values)
    if probabilities.shape != (n, size):
        raise ValueError(f"expected probabilities of shape {(n, size)}, got {probabilities.shape}")
    require_finite(probabilities)
    shown = [str(value) if name is None else f"{value} ({name})" for value, name in zip(values, names, strict=True)]
    scored = ClassScores(truth, probabilities, shown)
    metrics = computed(task, scored)
    metrics["per_class"] = [
        {
            "class": values[index],
            "name": names[index],
            "precision": float(scored.precision[index]),
            "recall": float(scored.recall[index]),
            "f1": float(scored.f1[index]),
            "support": int(scored.support[index]),
            "roc_auc": scored.areas[index],
        }
        for index in range(size)
    ]
    return metrics | {"confusion_matrix": scored.confusion.tolist(), "n": n, "notes": scored.notes}


def accuracy(scored: ClassScores) -> float:
    """Return the share of rows whose prediction is right."""
    return float(scored.hits.sum() / len(scored))


def balanced_accuracy(scored: ClassScores) -> float:
    """Return the mean recall of the classes that have rows."""
    return float(scored.recall[scored.support > 0].mean())


def macro_f1(scored: ClassScores | LabelScores) -> float:
    """Return the mean F1 of all classes.

    One with no row here counts as 0 (scikit-learn's `labels=`, `zero_division=0`).
    """
    return float(scored.f1.mean())


def mcc(scored: ClassScores) -> float:
    """Return the correlation of truth and prediction (Matthews 1975; for several classes Gorodkin 2004).

    It is 0 where all rows have one class or one prediction, as in scikit-learn.
    """
    support, predicted, rows = scored.support.astype(float), scored.predicted.astype(float), float(len(scored))
    spread = (rows**2 - (support**2).sum()) * (rows**2 - (predicted**2).sum())
    return float((scored.hits.sum() * rows - support @ predicted) / np.sqrt(spread)) if spread else 0.0


def macro_f1_present(scored: ClassScores) -> float:
    """Return the mean F1 of the classes that occur in the truth or the predictions: scikit-learn's default."""
    return float(scored.f1[scored.support + scored.predicted > 0].mean())


def weighted_f1(scored: ClassScores) -> float:
    """Return the mean F1 of the classes, weighted by their rows."""
    return float(scored.f1 @ scored.support / len(scored))


def roc_auc(scored: ClassScores) -> float | None:
    """Return the area of the second class for two classes, else the macro average of one-vs-rest."""
    if None in scored.areas:
        absent = [name for name, count in zip(scored.classes, scored.support, strict=True) if count == 0]
        scored.notes.append(f"roc_auc is not defined: no row here is of class {listed(absent)}")
    if len(scored.areas) == 2:
        return scored.areas[1]
    return None if None in scored.areas else float(np.mean(np.array(scored.areas, dtype=float)))


def log_loss(scored: ClassScores) -> float:
    """Return the mean of -log(probability of the true class), clipped where scikit-learn clips."""
    return float(class_log_losses(scored.probabilities, scored.truth).mean())


def ece(scored: ClassScores) -> float:
    """Return the expected calibration error of Guo et al. 2017 (https://arxiv.org/abs/1706.04599), 15 bins."""
    return calibration_error(scored.probabilities.max(axis=1), scored.prediction == scored.truth)


def quadratic_weighted_kappa(scored: ClassScores) -> float | None:
    """Return Cohen's kappa of ranks, with weights that grow with the square of the distance (Cohen 1968)."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.unique(scored.truth)) == 1 and (scored.prediction == scored.truth).all():
        scored.notes.append("quadratic_weighted_kappa is not defined: truth and predictions are one and the same class")
        return None
    ranks = np.arange(len(scored.classes))
    return float(cohen_kappa_score(scored.truth, scored.prediction, labels=ranks, weights="quadratic"))


def rank_mae(scored: ClassScores) -> float:
    """Return the mean distance between the rank of the prediction and that of the true class."""
    return float(np.abs(scored.prediction - scored.truth).mean())


# Labels, of which a sample has any number


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide counts, 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


class LabelScores:
    """N rows of L labels, and what the metrics of labels have in common.

    truth: bool (N, L). probabilities: float64 (N, L). A label is predicted where its probability reaches its threshold.
    Ranking metrics of a label that no row has, or every row, are None. `notes` says why a metric is not defined.
    """

    def __init__(self, truth: np.ndarray, probabilities: np.ndarray, thresholds: Sequence[float]) -> None:
        from sklearn.metrics import average_precision_score

        self.truth, self.probabilities = truth, probabilities
        self.prediction = probabilities >= np.array(thresholds)
        self.notes: list[str] = []
        # scikit-learn takes a table of one label for two classes, so the counts are made here.
        hits, said = (truth & self.prediction).sum(axis=0), self.prediction.sum(axis=0)
        self.support = truth.sum(axis=0)
        self.precision, self.recall = _ratio(hits, said), _ratio(hits, self.support)
        self.f1 = _ratio(2 * hits, said + self.support)
        some = np.logical_and(truth.any(axis=0), ~truth.all(axis=0)) if len(truth) else np.zeros(truth.shape[1], bool)
        self.areas = [area_under_roc(truth[:, label], probabilities[:, label]) for label in range(truth.shape[1])]
        self.average_precision = [
            float(average_precision_score(truth[:, label], probabilities[:, label])) if defined else None
            for label, defined in enumerate(some)
        ]

    def __len__(self) -> int:
        return len(self.truth)

    def mean(self, values: Sequence[float | None], name: str) -> float | None:
        """Return the mean over the labels that have a value."""
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            absent = f"{len(values) - len(known):,} of {len(values):,} labels"
            self.notes.append(f"{name} is the mean without {absent}, which no row here has, or every row")
        return float(np.mean(known)) if known else None


def multilabel_metrics(
    truth: np.ndarray, probabilities: np.ndarray, labels: Sequence[Any], thresholds: Sequence[float]
) -> dict[str, Any]:
    """Return the metrics of N rows of L labels, ready for JSON.

    truth: bool (N, L). probabilities: float64 (N, L). `per_class` has a row for each label. Raises TrainingError when a
    probability is not a finite number.
    """
    require_finite(probabilities)
    scored = LabelScores(truth, probabilities, thresholds)
    metrics = computed("multilabel", scored)
    metrics["per_class"] = [
        {
            "class": label,
            "name": None,
            "precision": float(scored.precision[index]),
            "recall": float(scored.recall[index]),
            "f1": float(scored.f1[index]),
            "support": int(scored.support[index]),
            "roc_auc": scored.areas[index],
            "average_precision": scored.average_precision[index],
            "threshold": float(thresholds[index]),
        }
        for index, label in enumerate(labels)
    ]
    return metrics | {"n": len(truth), "notes": scored.notes}


def micro_f1(scored: LabelScores) -> float:
    """Return F1 over all decisions of all labels."""
    hits = (scored.truth & scored.prediction).sum()
    return float(2 * hits / max(1, scored.truth.sum() + scored.prediction.sum()))


def macro_roc_auc(scored: LabelScores) -> float | None:
    """Return the mean area under the ROC curve of the labels."""
    return scored.mean(scored.areas, "macro_roc_auc")


def macro_average_precision(scored: LabelScores) -> float | None:
    """Return the mean average precision of the labels."""
    return scored.mean(scored.average_precision, "macro_average_precision")


def hamming_loss(scored: LabelScores) -> float:
    """Return the share of decisions that are wrong."""
    return float((scored.truth != scored.prediction).mean())


# Shared


class Scored(Protocol):
    """Rows with their predictions, of which metrics are computed."""

    notes: list[str]

    def __len__(self) -> int: ...


def computed(task: str, scored: Scored) -> dict[str, Any]:
    """Return the metrics of a task's row in `TASKS`; all are None where there are no rows."""
    names = TASKS[task].metrics
    if len(scored) == 0:
        scored.notes.append("there are no rows, so no metric is defined")
        return dict.fromkeys(names)
    return {name: METRICS[name].compute(scored) for name in names}


def calibration_bins(
    confidence: np.ndarray, correct: np.ndarray, bins: int = ECE_BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, mean confidence and accuracy of each equal-width bin (low, high] of confidence.

    confidence: float (N,) in 0 … 1; correct: bool (N,). Returns int64 (bins,) and two float64 (bins,), which
    are 0 in an empty bin.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    edges = np.linspace(0, 1, bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    return (
        count,
        ratio(np.bincount(index, weights=confidence, minlength=bins), count),
        ratio(np.bincount(index, weights=np.asarray(correct, dtype=np.float64), minlength=bins), count),
    )


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = ECE_BINS) -> float:
    """Return the expected calibration error: mean |accuracy - confidence| over bins, weighted by their rows (N > 0)."""
    count, mean_confidence, accuracy = calibration_bins(confidence, correct, bins)
    return float(np.abs(accuracy - mean_confidence) @ count / count.sum())


def _values_and_names(labels: Classes | Sequence[Any]) -> tuple[list[Any], list[str | None]]:
    given: Any = labels
    values = [value.item() if isinstance(value, np.generic) else value for value in getattr(given, "values", given)]
    names = getattr(given, "names", None)
    return values, list(names) if names is not None else [None] * len(values)


def require_finite(predictions: np.ndarray) -> None:
    """Raise TrainingError where a prediction is not a finite number."""
    finite = np.isfinite(predictions)
    if finite.all():
        return
    rows = finite if finite.ndim == 1 else finite.all(axis=1)
    raise TrainingError(
        f"the model predicts no finite number for {int((~rows).sum()):,} of {len(rows):,} rows: training has diverged",
        hint="Lower train.learning_rate, or set train.precision to 'fp32'.",
    )


def class_log_losses(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the log loss of each row, float64 (N,), of probabilities (N, C) against class indices (N,)."""
    return log_losses(probabilities[np.arange(len(truth)), truth])


def log_losses(chance: np.ndarray) -> np.ndarray:
    """Return -log(chance) in float64, of the probabilities of what is true.

    They are clipped where scikit-learn clips: at the precision of their own type.
    """
    tiny = np.finfo(np.result_type(chance.dtype, np.float32)).eps
    return np.asarray(-np.log(np.clip(chance.astype(np.float64), tiny, 1 - tiny)))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, and 0 where whole is 0: scikit-learn's zero_division=0."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def area_under_roc(positive: np.ndarray, score: np.ndarray) -> float | None:
    """Return the area under the ROC curve as the Mann-Whitney U statistic (Hanley & McNeil 1982); ties count half."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return None
    of_score = ranks(score)
    return float((of_score[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def ranks(values: np.ndarray) -> np.ndarray:
    """Give ranks from 1, ties by their mean; `scipy.stats` would take a second to import for it."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[places]

"""Baselines: the best constant predictions, which a model has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deeptune.tasks.metric_functions import Classes, classification_metrics
from deeptune.tasks.number_metrics import number_metrics

_OF_ONE_CLASS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_f1_present", "weighted_f1")


@dataclass(frozen=True)
class Baseline:
    """`metrics` of constant predictions by name, None where not defined; `constant` says what is predicted, by name."""

    metrics: dict[str, Any]
    constant: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the single numbers and the constants, for metrics.json.

        A constant is calibrated by itself: no `ece`.
        """
        numbers = {
            name: value
            for name, value in self.metrics.items()
            if (value is None or isinstance(value, float)) and name != "ece"
        }
        return {**numbers, **self.constant}


def classification_baseline(truth: np.ndarray, train: np.ndarray, labels: Classes) -> Baseline:
    """Return the metrics of constant predictions on `truth`; `train` holds training labels (int64 indices, N > 0).

    Accuracy and F1 are those of the one class that is right most often on these rows (the "no information rate"), so
    that no constant does better. Metrics of probabilities are those of the class frequencies of train, as of
    scikit-learn's DummyClassifier(strategy="prior"). `constant` has that `class`, and the most frequent of train.
    """
    size = len(labels.values)
    frequency = np.bincount(train, minlength=size) / len(train)
    metrics = classification_metrics(truth, np.tile(frequency, (len(truth), 1)), labels)
    here = np.bincount(truth, minlength=size)
    usual = int(frequency.argmax())
    best = usual if here[usual] == here.max() else int(here.argmax())
    if best != usual:
        always = classification_metrics(truth, np.tile(np.eye(size)[best], (len(truth), 1)), labels)
        metrics |= {name: always[name] for name in _OF_ONE_CLASS}
    value, frequent = (metrics["per_class"][index]["class"] for index in (best, usual))
    return Baseline(metrics, {"class": value, "train_class": frequent})


def number_baseline(truth: np.ndarray, train: np.ndarray, task: str = "regression") -> Baseline:
    """Return the metrics of constant predictions on `truth`, by the row of a task.

    MAE is that of the median of train, which is the constant with the least absolute error there; the others are those
    of its mean, the one with the least squared error.
    """
    mean, median = float(np.mean(train)), float(np.median(train))
    metrics = number_metrics(truth, np.full(len(truth), mean), task)
    metrics["mae"] = number_metrics(truth, np.full(len(truth), median), task)["mae"]
    return Baseline(metrics, {"median": median, "mean": mean})

"""The scores of a cell, by the same functions for every recipe and peer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, log_loss, mean_squared_error, r2_score

from deeptune.tasks.metric_functions import calibration_error

METRICS = ("accuracy", "macro_f1", "log_loss", "ece", "r2", "rmse")
MAIN = {"classification": "accuracy", "regression": "r2"}


@dataclass(frozen=True)
class Predicted:
    """Predictions of a model on the test rows: `probabilities` (N, C) over `classes`, or `numbers` (N,)."""

    numbers: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    classes: Sequence[Any] = ()


def scores(truth: np.ndarray, predicted: Predicted) -> dict[str, float]:
    """Score predictions of test rows. A class that the model does not know has probability 0."""
    if predicted.numbers is not None:
        numbers = np.asarray(predicted.numbers, dtype=np.float64)
        return {
            "r2": float(r2_score(truth, numbers)),
            "rmse": float(mean_squared_error(truth, numbers) ** 0.5),
        }
    assert predicted.probabilities is not None
    truth = truth.astype(str)
    known = [str(one) for one in predicted.classes]
    classes = sorted({*known, *truth})
    chances = np.zeros((len(truth), len(classes)))
    chances[:, [classes.index(name) for name in known]] = predicted.probabilities
    chances /= chances.sum(axis=1, keepdims=True)
    chosen = np.array(classes)[chances.argmax(axis=1)]
    return {
        "accuracy": float(accuracy_score(truth, chosen)),
        "macro_f1": float(f1_score(truth, chosen, labels=classes, average="macro", zero_division=0)),
        "log_loss": float(log_loss(truth, chances, labels=classes)),
        "ece": calibration_error(chances.max(axis=1), chosen == truth),
    }


def standard_error(truth: np.ndarray, predicted: Predicted) -> float:
    """Return the standard error of the accuracy or R² on these rows.

    That of R², a ratio of two means, is the linear approximation of a ratio's.
    """
    found = scores(truth, predicted)
    if "accuracy" in found:
        return float((found["accuracy"] * (1 - found["accuracy"]) / len(truth)) ** 0.5)
    error, total = (truth - np.asarray(predicted.numbers)) ** 2, (truth - truth.mean()) ** 2
    return float(np.std(error - (1 - found["r2"]) * total, ddof=1) / total.mean() / len(truth) ** 0.5)

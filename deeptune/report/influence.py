"""Metrics with the influence of each row on them, from which the variance of a metric or of a difference follows.

The influence of a row is N times the first-order change of the metric when the row is counted once more (Hampel 1974).
The influences of all rows add up to 0, and the sum of their squares over N² estimates the variance of the metric. Rows
that depend on one another are summed first. `tests/unit/test_report_influence.py` compares both with a bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeptune.spec.metrics import METRICS
from deeptune.spec.tasks import TASKS, USUAL_TASKS
from deeptune.tasks.metric_functions import ECE_BINS, class_log_losses, ranks, ratio
from deeptune.tasks.number_metrics import NumberScores


@dataclass(frozen=True)
class Estimate:
    """The value of a metric, and the influence of each row on it: float64 (N,)."""

    value: float
    influence: np.ndarray


Estimates = dict[str, Estimate]


# Classes


def class_estimates(
    truth: np.ndarray, prediction: np.ndarray, classes: int, probabilities: np.ndarray | None = None
) -> Estimates:
    """Estimate all metrics of classes that are defined on these rows; those of probabilities only where given.

    truth, prediction: int64 (N,) class indices; probabilities: float (N, C).
    """
    counts = ClassCounts(truth, prediction, classes)
    found = {
        "accuracy": counts.accuracy(),
        "balanced_accuracy": counts.balanced_accuracy(),
        "macro_f1": counts.mean_f1(np.full(classes, 1 / classes)),
        "macro_f1_present": counts.mean_f1(counts.present / counts.present.sum()),
        "weighted_f1": counts.weighted_f1(),
        "mcc": counts.correlation(),
        "quadratic_weighted_kappa": counts.kappa(),
        "rank_mae": _mean(np.abs(prediction - truth).astype(float)),
    }
    if probabilities is not None:
        chance = np.asarray(probabilities, float)
        found["log_loss"] = _mean(class_log_losses(probabilities, truth))
        found["ece"] = calibration_estimate(chance.max(axis=1), truth == prediction)
        found["roc_auc"] = _area_of_classes(truth, chance)
    return {name: one for name, one in found.items() if one is not None}


class ClassCounts:
    """Counts of true and predicted classes, and the metrics that follow from them."""

    def __init__(self, truth: np.ndarray, prediction: np.ndarray, classes: int) -> None:
        self.truth, self.prediction, self.rows, self.classes = truth, prediction, len(truth), classes
        self.hit = truth == prediction
        self.support, self.predicted = (np.bincount(part, minlength=classes) for part in (truth, prediction))
        self.hits = np.bincount(truth[self.hit], minlength=classes)
        self.precision, self.recall = ratio(self.hits, self.predicted), ratio(self.hits, self.support)
        self.f1 = ratio(2 * self.hits, self.support + self.predicted)
        self.present = (self.support + self.predicted > 0).astype(float)

    def accuracy(self) -> Estimate:
        return _mean(self.hit.astype(float))

    def balanced_accuracy(self) -> Estimate:
        seen = self.support > 0
        moved = (self.hit - self.recall[self.truth]) * (self.rows / (seen.sum() * self.support[self.truth]))
        return Estimate(float(self.recall[seen].mean()), moved)

    def mean_f1(self, weights: np.ndarray) -> Estimate:
        """Estimate the F1 of the classes, averaged with fixed weights (C,) (linearised by Takahashi et al. 2022)."""
        each = weights * ratio(np.full(self.classes, self.rows), self.support + self.predicted)
        moved = 2 * self.hit * each[self.truth] - (each * self.f1)[self.truth] - (each * self.f1)[self.prediction]
        return Estimate(float(self.f1 @ weights), moved)

    def weighted_f1(self) -> Estimate:
        found = self.mean_f1(self.support / self.rows)
        return Estimate(found.value, found.influence + self.f1[self.truth] - found.value)

    def correlation(self) -> Estimate:
        """Estimate the correlation of Matthews (1975), for several classes by Gorodkin (2004)."""
        true, guessed = self.support / self.rows, self.predicted / self.rows
        shared, left, right = true @ guessed, 1 - true @ true, 1 - guessed @ guessed
        if left <= 0 or right <= 0:
            return Estimate(0.0, np.zeros(self.rows))
        together = self.hit.mean() - shared
        value = together / np.sqrt(left * right)
        of_true, of_guessed = true[self.truth], guessed[self.prediction]
        moved = self.hit - self.hit.mean() - guessed[self.truth] - true[self.prediction] + 2 * shared
        scale = (of_true - true @ true) / left + (of_guessed - guessed @ guessed) / right
        return Estimate(float(min(value, 1.0)), moved / np.sqrt(left * right) + value * scale)

    def kappa(self) -> Estimate | None:
        """Estimate Cohen's kappa with quadratic weights; None where truth and predictions are one class."""
        distance = np.square(np.subtract.outer(np.arange(self.classes), np.arange(self.classes))).astype(float)
        true, guessed = self.support / self.rows, self.predicted / self.rows
        of_true, of_guessed = distance @ guessed, distance @ true
        expected = true @ of_true
        if expected <= 0:
            return None
        apart = distance[self.truth, self.prediction]
        value = 1 - apart.mean() / expected
        moved = -(apart - apart.mean()) / expected
        chance = of_true[self.truth] + of_guessed[self.prediction] - 2 * expected
        return Estimate(float(value), moved + (1 - value) * chance / expected)

    def of_class(self, index: int) -> Estimates:
        """Estimate precision, recall and F1 of one class, where they are defined."""
        found = {}
        for name, value, of in (("precision", self.precision, self.prediction), ("recall", self.recall, self.truth)):
            inside = of == index
            if inside.any():
                moved = inside * (self.hit - value[index]) * (self.rows / inside.sum())
                found[name] = Estimate(float(value[index]), moved)
        if self.present[index]:
            found["f1"] = self.mean_f1(np.eye(self.classes)[index])
        return found


def calibration_estimate(confidence: np.ndarray, correct: np.ndarray) -> Estimate:
    """Estimate the expected calibration error in `ECE_BINS` bins of equal width."""
    index = calibration_bin(confidence)
    gap = np.bincount(index, weights=correct - confidence, minlength=ECE_BINS)
    return _mean(np.sign(gap)[index] * (correct - confidence))


def calibration_bin(confidence: np.ndarray) -> np.ndarray:
    """Find the bin (low, high] of each confidence, int64 (N,)."""
    edges = np.linspace(0, 1, ECE_BINS + 1)
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, ECE_BINS - 1)


def _area_of_classes(truth: np.ndarray, probabilities: np.ndarray) -> Estimate | None:
    """Estimate the area of the second class for two classes, else the mean of one-vs-rest."""
    classes = probabilities.shape[1]
    indices = [1] if classes == 2 else range(classes)
    found = [area_estimate(truth == index, probabilities[:, index]) for index in indices]
    known = [one for one in found if one is not None]
    return average(known) if len(known) == len(found) else None


def area_estimate(positive: np.ndarray, score: np.ndarray) -> Estimate | None:
    """Estimate the area under the ROC curve, with the structural components of DeLong et al. (1988).

    None where no row is positive, or all are.
    """
    above = placements(positive, score)
    if above is None:
        return None
    value = float(above[positive].mean())
    share = positive.mean()
    return Estimate(value, (above - value) / np.where(positive, share, 1 - share))


def placements(positive: np.ndarray, score: np.ndarray) -> np.ndarray | None:
    """Find the share of rows of the other kind that each row is ranked rightly against, float64 (N,); ties count half.

    None where no row is positive, or all are.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return None
    own = np.empty(len(score))
    own[positive], own[~positive] = ranks(score[positive]), ranks(score[~positive])
    below = ranks(score) - own
    return np.where(positive, below / negatives, 1 - below / positives)


# Labels, of which a row has any number


def label_estimates(truth: np.ndarray, prediction: np.ndarray, probabilities: np.ndarray) -> Estimates:
    """Estimate the metrics of labels; truth and prediction: bool (N, L); probabilities: float64 (N, L)."""
    each = [label_estimates_of_one(*columns) for columns in zip(truth.T, prediction.T, probabilities.T, strict=True)]
    decisions = (truth.sum(axis=1) + prediction.sum(axis=1)).astype(float)
    hits = (truth & prediction).sum(axis=1)
    total = max(1.0, decisions.sum())
    micro = 2 * hits.sum() / total
    found = {
        "macro_f1": average([one["f1"] for one in each]),
        "micro_f1": Estimate(float(micro), (2 * hits - micro * decisions) * (len(truth) / total)),
        "hamming_loss": _mean((truth != prediction).mean(axis=1)),
    }
    for name, of in (("macro_roc_auc", "roc_auc"), ("macro_average_precision", "average_precision")):
        known = [one[of] for one in each if of in one]
        if known:
            found[name] = average(known)
    return found


def label_estimates_of_one(positive: np.ndarray, predicted: np.ndarray, chance: np.ndarray) -> Estimates:
    """Estimate F1 of one label; precision, recall and the ranking metrics where they are defined."""
    counts = ClassCounts(positive.astype(np.int64), predicted.astype(np.int64), 2)
    found = {"f1": Estimate(0.0, np.zeros(len(positive))), **counts.of_class(1)}
    area, precision = area_estimate(positive, chance), average_precision_estimate(positive, chance)
    return found | {name: one for name, one in (("roc_auc", area), ("average_precision", precision)) if one is not None}


def average_precision_estimate(positive: np.ndarray, score: np.ndarray) -> Estimate | None:
    """Estimate average precision: the mean precision at the scores of the positive rows, as scikit-learn's.

    None where no row is positive, or all are.
    """
    n, positives = len(positive), int(positive.sum())
    if positives in (0, n):
        return None
    levels, place = np.unique(-score, return_inverse=True)  # the highest score first
    hits = np.bincount(place, weights=positive, minlength=len(levels))
    misses = np.bincount(place, weights=~positive, minlength=len(levels))
    found, wrong = np.cumsum(hits) / n, np.cumsum(misses) / n
    precision = found / (found + wrong)
    value = float(hits @ precision / positives)
    # A row changes the precision at its own score and at every lower one.
    weights = hits / n / np.square(found + wrong)
    gain, loss = (np.cumsum((weights * part)[::-1])[::-1] for part in (wrong, found))
    moved = np.where(positive, precision[place] - value + gain[place], -loss[place])
    return Estimate(value, moved * n / positives)


# Numbers


def number_estimates(
    truth: np.ndarray, prediction: np.ndarray, metrics: Sequence[str] = TASKS[USUAL_TASKS["numbers"]].metrics
) -> Estimates:
    """Estimate the metrics of numbers that are defined on these rows; truth and prediction: float64 (N,)."""
    scored = NumberScores(truth, prediction)
    found = {name: METRICS[name].compute(scored) for name in metrics}
    return {
        name: Estimate(value, METRICS[name].influence_on(scored)) for name, value in found.items() if value is not None
    }


def target_estimates(truth: np.ndarray, prediction: np.ndarray) -> Estimates:
    """Estimate the means over several targets; truth and prediction: float64 (N, T), a missing truth is NaN."""
    n = len(truth)
    each = []
    for column, guess in zip(truth.T, prediction.T, strict=True):
        known = np.isfinite(column)
        found = number_estimates(column[known], guess[known]) if known.any() else {}
        each.append({name: _spread_over(one, known, n) for name, one in found.items()})
    names = dict.fromkeys(name for found in each for name in found)
    return {name: average([found[name] for found in each if name in found]) for name in names}


def _spread_over(estimate: Estimate, known: np.ndarray, n: int) -> Estimate:
    """Give rows that a metric does not see no influence on it."""
    influence = np.zeros(n)
    influence[known] = estimate.influence * (n / known.sum())
    return Estimate(estimate.value, influence)


# Shared


def _mean(values: np.ndarray) -> Estimate:
    return Estimate(float(values.mean()), values - values.mean())


def average(estimates: list[Estimate]) -> Estimate:
    """Average metrics of the same rows."""
    value = float(np.mean([one.value for one in estimates]))
    return Estimate(value, np.mean([one.influence for one in estimates], axis=0))


def effective_units(rows: np.ndarray) -> float:
    """Return Kish's number of units: as many of one size would vary as much as these of `rows` rows each."""
    return float(np.square(rows.sum()) / np.square(rows).sum())


def variance(influence: np.ndarray, unit: np.ndarray) -> tuple[float, float]:
    """Return the variance of a metric over independent units, and the degrees of freedom of that estimate."""
    rows = np.bincount(unit)
    effective = effective_units(rows)
    sums = np.bincount(unit, weights=influence)
    return float(np.square(sums).sum() / len(unit) ** 2 * effective / max(effective - 1, 1e-9)), effective - 1

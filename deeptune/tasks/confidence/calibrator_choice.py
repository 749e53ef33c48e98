"""Choose a model's calibrator: the best in cross-validation on val that leaves nearly all predictions unchanged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported where they are first used

from deeptune.tasks.confidence.calibrators import (
    METHODS,
    PER_CLASS,
    Calibrator,
    Method,
    fit_classes,
    fit_labels,
)
from deeptune.tasks.confidence.held_out import HeldOut, out_of_fold
from deeptune.tasks.metric_functions import class_log_losses, log_losses
from deeptune.tasks.temperature_prior import Prior

MIN_ROWS = 10  # rows of val, or groups, below which nothing is fitted
MIN_ROWS_TO_CHOOSE = 50  # rows below which only a temperature is fitted
MIN_CLASS_ROWS = 10  # rows of each class that parameters of its own need
MAX_CLASSES = 50  # classes up to which each has parameters of its own
MAX_ROWS = 5_000  # rows that the methods are compared on, at most
MAX_CHANGED = 0.02  # share of the predictions that calibration may change


class Link(ABC):
    """A map from scores to probabilities: of one of several classes (softmax), or of any number of labels (sigmoid).

    `prior` is what is known of a temperature before any row is seen.
    """

    prior: Prior | None = None

    @abstractmethod
    def fit(self, method: Method, scores: np.ndarray, truth: np.ndarray) -> Calibrator: ...

    @abstractmethod
    def apply(self, calibrator: Calibrator, scores: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def losses(self, probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return the log loss of each row, float64 (N,)."""

    @abstractmethod
    def changed(self, calibrator: Calibrator, scores: np.ndarray) -> float:
        """Return the share of predictions that a calibrator changes."""

    @abstractmethod
    def fewest(self, truth: np.ndarray) -> int:
        """Return the rows of the rarest class, or on the rarer side of any label."""

    @abstractmethod
    def curves(self, scores: np.ndarray) -> int:
        """Count the classes or labels that would have parameters of their own."""


class ClassLink(Link):
    """One of several classes. Truth is class indices, int64 (N,)."""

    def fit(self, method: Method, scores: np.ndarray, truth: np.ndarray) -> Calibrator:
        return fit_classes(method, scores, truth, self.prior)

    def apply(self, calibrator: Calibrator, scores: np.ndarray) -> np.ndarray:
        return calibrator.of_classes(scores)

    def losses(self, probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return class_log_losses(probabilities, truth)

    def changed(self, calibrator: Calibrator, scores: np.ndarray) -> float:
        before = scipy.special.softmax(scores, axis=1).argmax(axis=1)
        after = calibrator.of_classes(scores).argmax(axis=1)
        return float((before != after).mean())

    def fewest(self, truth: np.ndarray) -> int:
        return int(np.bincount(truth, minlength=self.classes).min())

    def curves(self, scores: np.ndarray) -> int:
        return scores.shape[1]

    def __init__(self, classes: int, prior: Prior | None = None) -> None:
        self.classes = classes
        self.prior = prior


class LabelLink(Link):
    """Any number of labels, each predicted from a threshold (probability) on. Truth is bool (N, L)."""

    def __init__(self, thresholds: Sequence[float]) -> None:
        self.thresholds = np.array(thresholds)

    def fit(self, method: Method, scores: np.ndarray, truth: np.ndarray) -> Calibrator:
        return fit_labels(method, scores, truth)

    def apply(self, calibrator: Calibrator, scores: np.ndarray) -> np.ndarray:
        return calibrator.of_labels(scores)

    def losses(self, probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.asarray(log_losses(np.where(truth, probabilities, 1 - probabilities)).mean(axis=1))

    def changed(self, calibrator: Calibrator, scores: np.ndarray) -> float:
        before = scipy.special.expit(scores.astype(np.float64)) >= self.thresholds
        after = calibrator.of_labels(scores) >= moved_thresholds(calibrator, self.thresholds)
        return float((before != after).mean())

    def fewest(self, truth: np.ndarray) -> int:
        has = truth.sum(axis=0)
        return int(min(has.min(), (len(truth) - has).min()))

    def curves(self, scores: np.ndarray) -> int:
        return scores.shape[1]


def moved_thresholds(calibrator: Calibrator, thresholds: np.ndarray) -> np.ndarray:
    """Return the thresholds (L,) after calibration, which leaves predictions what they were."""
    if calibrator.method == "none":
        return thresholds
    inside = np.clip(thresholds, 1e-15, 1 - 1e-15)
    return calibrator.of_labels(np.log(inside / (1 - inside))[None])[0]


@dataclass(frozen=True)
class CalibratorChoice:
    """A calibrator, with probabilities of the rows that it was fitted to from fits to the other rows.

    `losses` is the cross-validated log loss of each method that was compared. `notes` are sentences.
    """

    calibrator: Calibrator
    probabilities: np.ndarray
    losses: dict[Method, float]
    notes: tuple[str, ...] = ()


def choose(link: Link, held_out: HeldOut, method: str) -> CalibratorChoice:
    """Fit the calibrator `method`, or for "auto" the one that fits best; `held_out.logits` are the link's scores.

    Temperature is taken where its log loss in cross-validation is not higher than that of no calibration, and always
    where the link has a prior of it. A method with parameters of each class is taken where its log loss is lower than
    that by more than a standard error of their difference, the best of those; it must leave all but MAX_CHANGED of the
    predictions as they are. In `held_out` are at least a row and a class.
    """
    scores, truth = held_out.logits, held_out.truth
    units = int(held_out.unit.max()) + 1
    if units < MIN_ROWS:
        none = Calibrator("none")
        few = f"{held_out.name} has {_counted(units, held_out)}, too few to calibrate the probabilities"
        return CalibratorChoice(none, link.apply(none, scores), {}, () if method == "none" else (few,))
    losses: dict[Method, float] = {}
    notes: list[str] = []
    if method == "auto":
        chosen, losses, notes = _compared(link, held_out, units)
    else:
        chosen, notes = _asked(link, held_out, method)
    calibrator = link.fit(chosen, scores, truth)
    changed = link.changed(calibrator, scores)
    if chosen in PER_CLASS and changed > MAX_CHANGED:
        said = f"{METHODS[chosen]} changes {changed:.1%} of the predictions on {held_out.name}"
        if method == "auto":
            notes.append(f"{said}, more than {MAX_CHANGED:.0%}: temperature scaling is used instead")
            chosen = "temperature"
            calibrator = link.fit(chosen, scores, truth)
        else:
            notes.append(said)
    return CalibratorChoice(calibrator, _cross_fitted(link, held_out, chosen), losses, tuple(notes))


def _compared(link: Link, held_out: HeldOut, units: int) -> tuple[Method, dict[Method, float], list[str]]:
    some = held_out
    if len(held_out) > MAX_ROWS:
        some = held_out.at(np.sort(np.random.default_rng(held_out.seed).choice(len(held_out), MAX_ROWS, replace=False)))
    candidates: list[Method] = ["none", "temperature"]
    notes = []
    if units < MIN_ROWS_TO_CHOOSE:
        few = _counted(units, held_out)
        notes.append(f"{held_out.name} has {few}: no other calibrator than a temperature is fitted to fewer than 50")
    elif link.fewest(some.truth) >= MIN_CLASS_ROWS and link.curves(some.logits) <= MAX_CLASSES:
        candidates += PER_CLASS
    rows = {one: link.losses(_cross_fitted(link, some, one), some.truth) for one in candidates}
    losses = {one: float(rows[one].mean()) for one in candidates}
    # A prior says that the model is too sure: a few rows that say otherwise are chance.
    sure = link.prior is not None or losses["temperature"] <= losses["none"]
    simple: Method = "temperature" if sure else "none"
    better = [one for one in candidates[2:] if _clearly_lower(rows[one] - rows[simple], some)]
    return min(better, key=lambda one: losses[one], default=simple), losses, notes


def _asked(link: Link, held_out: HeldOut, method: str) -> tuple[Method, list[str]]:
    """Return the method that a spec names, or temperature where a class has too few rows for it."""
    name: Method = next(one for one in METHODS if one == method)
    fewest = link.fewest(held_out.truth)
    if name not in PER_CLASS or fewest >= MIN_CLASS_ROWS:
        return name, []
    return "temperature", [
        f"{METHODS[name]} needs {MIN_CLASS_ROWS} rows of each class in {held_out.name}, and one has {fewest}: "
        "temperature scaling is used instead"
    ]


def _cross_fitted(link: Link, held_out: HeldOut, method: Method) -> np.ndarray:
    scores, truth = held_out.logits, held_out.truth

    def of_fold(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return link.apply(link.fit(method, scores[others], truth[others]), scores[inside])

    return out_of_fold(held_out.folds(), of_fold)


def _clearly_lower(differences: np.ndarray, held_out: HeldOut) -> bool:
    """Check whether the mean of differences (N,) is below 0 by more than its standard error, that of groups if any."""
    mean, unit = differences.mean(), held_out.unit
    sums = np.bincount(unit, weights=differences - mean)
    count = len(sums)
    error = np.sqrt(count / (count - 1) * np.square(sums).sum()) / len(differences)
    return bool(mean < -error)


def _counted(units: int, held_out: HeldOut) -> str:
    kind = "row" if held_out.groups is None else "group"
    return f"{units:,} {kind}" + ("" if units == 1 else "s")

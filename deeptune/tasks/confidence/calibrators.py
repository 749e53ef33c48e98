"""Calibrators: from a model's log odds to probabilities that come true as often as they say.

Temperature scaling is of Guo et al. 2017 (https://arxiv.org/abs/1706.04599), Platt scaling with its smoothed targets of
Platt 1999, isotonic regression of Zadrozny & Elkan 2002, beta calibration of Kull et al. 2017
(https://proceedings.mlr.press/v54/kull17a.html). For several classes the last three treat each class against the rest,
and the probabilities are divided by their sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy  # its parts are imported where they are first used

from deeptune.tasks.temperature import MAX_TEMPERATURE, MIN_TEMPERATURE, fit_temperature
from deeptune.tasks.temperature_prior import Prior

Method = Literal["none", "temperature", "platt", "beta", "isotonic"]
METHODS: Mapping[Method, str] = {
    "none": "no calibration",
    "temperature": "temperature scaling",
    "platt": "Platt scaling",
    "beta": "beta calibration",
    "isotonic": "isotonic regression",
}
PER_CLASS: tuple[Method, ...] = ("platt", "beta", "isotonic")  # with parameters of each class, the fewest first
MAX_LOG_ODDS = 50.0  # beyond these a probability is 0 or 1 for every purpose


@dataclass(frozen=True)
class Calibrator:
    """A fitted calibrator.

    `parameters` has a tuple of numbers for all classes (temperature), for each class (one for two classes), or for each
    label: T of temperature; slope and intercept of Platt; a, b and c of beta; for isotonic the log odds at which the
    probability bends, then the probabilities there.
    """

    method: Method
    parameters: tuple[tuple[float, ...], ...] = ()

    def of_classes(self, scores: np.ndarray) -> np.ndarray:
        """Return probabilities float64 (N, C) whose rows sum to 1, of scores (N, C).

        Scores are log probabilities up to a constant.
        """
        scores = scores.astype(np.float64)
        if self.method == "none":
            return np.asarray(scipy.special.softmax(scores, axis=1))
        if self.method == "temperature":
            return np.asarray(scipy.special.softmax(scores / self.parameters[0][0], axis=1))
        if scores.shape[1] == 2:
            second = self._one(0, scores[:, 1] - scores[:, 0])
            return np.stack([1 - second, second], axis=1)
        odds = against_rest(scores)
        found = np.stack([self._one(at, odds[:, at]) for at in range(odds.shape[1])], axis=1)
        total = found.sum(axis=1, keepdims=True)
        return np.where(total > 0, found / np.where(total > 0, total, 1), scipy.special.softmax(scores, axis=1))

    def of_labels(self, log_odds: np.ndarray) -> np.ndarray:
        """Return probabilities float64 (N, L), each of its own, of log odds (N, L)."""
        log_odds = log_odds.astype(np.float64)
        if self.method == "none":
            return np.asarray(scipy.special.expit(log_odds))
        return np.stack([self._one(at, log_odds[:, at]) for at in range(log_odds.shape[1])], axis=1)

    def _one(self, at: int, log_odds: np.ndarray) -> np.ndarray:
        """Return probabilities (N,) of one class or label."""
        numbers = np.array(self.parameters[at])
        if self.method == "temperature":
            return np.asarray(scipy.special.expit(log_odds / numbers[0]))
        if self.method == "isotonic":
            places, values = np.split(numbers, 2)
            return np.interp(log_odds, places, values)
        return np.asarray(scipy.special.expit(_features(self.method, log_odds) @ numbers))

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Return the temperature of all classes, or that of each label; empty for other methods."""
        return tuple(numbers[0] for numbers in self.parameters) if self.method == "temperature" else ()

    def to_json(self) -> dict[str, Any]:
        return {"method": self.method, "parameters": [list(numbers) for numbers in self.parameters]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibrator:
        if data["method"] not in METHODS:
            raise ValueError(f"unknown calibrator {data['method']!r}")
        return cls(data["method"], tuple(tuple(map(float, numbers)) for numbers in data["parameters"]))


def calibrated_by(facts: Mapping[str, Any]) -> str:
    """Name a calibrator by its facts in metrics.json, with the temperature where all classes share one."""
    temperatures = facts.get("temperatures") or []
    method = METHODS[facts["calibrator"]]
    return f"{method} (T = {temperatures[0]:.2f})" if len(temperatures) == 1 else method


def against_rest(scores: np.ndarray) -> np.ndarray:
    """Return the log odds (N, C) of each class against all others, from scores (N, C)."""
    log_p = scipy.special.log_softmax(scores, axis=1)
    rows, likely = np.arange(len(log_p)), log_p.argmax(axis=1)
    without = log_p.copy()
    without[rows, likely] = -np.inf
    with np.errstate(divide="ignore"):
        others = np.log(-np.expm1(log_p))  # log(1 - p), which has no digits left where p is almost 1
    others[rows, likely] = scipy.special.logsumexp(without, axis=1)
    return log_p - others


def fit_classes(method: Method, scores: np.ndarray, truth: np.ndarray, prior: Prior | None = None) -> Calibrator:
    """Fit to scores (N, C) and class indices (N,), N > 0; `prior` is that of a temperature."""
    scores = scores.astype(np.float64)
    if method == "none":
        return Calibrator(method)
    if method == "temperature":
        return Calibrator(method, ((_temperature(scores, truth, prior),),))
    odds, positive = against_rest(scores), truth[:, None] == np.arange(scores.shape[1])
    classes = [1] if scores.shape[1] == 2 else range(scores.shape[1])
    return Calibrator(method, tuple(_fit_one(method, odds[:, at], positive[:, at]) for at in classes))


def fit_labels(method: Method, log_odds: np.ndarray, truth: np.ndarray) -> Calibrator:
    """Fit each label to log odds (N, L) and whether a row has it (bool (N, L)), N > 0."""
    if method == "none":
        return Calibrator(method)
    log_odds = log_odds.astype(np.float64)
    fitted = (_fit_one(method, log_odds[:, at], truth[:, at]) for at in range(log_odds.shape[1]))
    return Calibrator(method, tuple(fitted))


def _temperature(scores: np.ndarray, truth: np.ndarray, prior: Prior | None) -> float:
    """Fit a temperature. Where all rows are right and no prior is there, the least sure one counts again, as wrong."""
    if prior is not None:
        return fit_temperature(scores, truth, prior=prior)
    if (scores.argmax(axis=1) == truth).all() and scores.shape[1] > 1:
        best = np.sort(scores, axis=1)
        least = int((best[:, -1] - best[:, -2]).argmin())
        scores = np.concatenate([scores, scores[[least]]])
        truth = np.append(truth, np.argsort(scores[least])[-2])
    return fit_temperature(scores, truth)


def _fit_one(method: Method, log_odds: np.ndarray, positive: np.ndarray) -> tuple[float, ...]:
    """Return the parameters of one class or label."""
    if method == "isotonic":
        return _isotonic(log_odds, positive)
    features = _features(method, log_odds)
    start = np.ones(features.shape[1])
    bounds: list[tuple[float | None, float | None]] = [(0.0, None)] * features.shape[1]
    if method == "temperature":
        bounds = [(1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE)]
    else:
        start[-1], bounds[-1] = 0.0, (None, None)
    weights = _logistic(features, _smoothed(positive), start, bounds)
    return (1 / float(weights[0]),) if method == "temperature" else tuple(map(float, weights))


def _features(method: Method, log_odds: np.ndarray) -> np.ndarray:
    """Compute the features (N, parameters) in which the calibrated log odds are linear."""
    log_odds = np.clip(log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS)
    one = np.ones(len(log_odds))
    if method == "temperature":
        return log_odds[:, None]
    if method == "platt":
        return np.stack([log_odds, one], axis=1)
    return np.stack([scipy.special.log_expit(log_odds), -scipy.special.log_expit(-log_odds), one], axis=1)


def _smoothed(positive: np.ndarray) -> np.ndarray:
    """Return Platt's targets: with them, classes that are separated without an error have an optimum, too."""
    many = int(positive.sum())
    return np.where(positive, (many + 1) / (many + 2), 1 / (len(positive) - many + 2))


def _logistic(
    features: np.ndarray, target: np.ndarray, start: np.ndarray, bounds: Sequence[tuple[float | None, float | None]]
) -> np.ndarray:
    """Fit weights (P,) within bounds to the least log loss of `features` (N, P) against targets between 0 and 1."""

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_odds = features @ weights
        value = -(target * scipy.special.log_expit(log_odds) + (1 - target) * scipy.special.log_expit(-log_odds)).mean()
        return float(value), features.T @ (scipy.special.expit(log_odds) - target) / len(target)

    return np.asarray(scipy.optimize.minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x)


def _isotonic(log_odds: np.ndarray, positive: np.ndarray) -> tuple[float, ...]:
    """Fit isotonic regression, kept away from 0 and 1 by Laplace's rule of succession."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(log_odds, positive.astype(np.float64))
    edge = 1 / (len(positive) + 2)
    values = np.clip(fitted.y_thresholds_, edge, 1 - edge)
    return (*map(float, fitted.X_thresholds_), *map(float, values))

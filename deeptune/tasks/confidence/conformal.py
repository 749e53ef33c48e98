"""Split conformal prediction: sets and intervals that hold the truth with a stated probability.

After Angelopoulos & Bates 2021 (https://arxiv.org/abs/2107.07511). Scores of nonconformity are computed on val; a new
row's set is all answers whose score is at most a quantile of those. The guarantee is that of exchangeable rows, on
average over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeptune.tasks.confidence.held_out import units_of

GRID = (*(percent / 100 for percent in range(50, 100)), 0.995, 0.999)
_SLACK = 1e-9  # rounding that comparisons of sums of weights allow for


def conformal_quantile(scores: np.ndarray, coverage: float, groups: np.ndarray | None = None) -> float:
    """Return the score that a new row's stays below with probability `coverage`; infinite where there are too few rows.

    It is the ⌈(n + 1) · coverage⌉-th smallest of n scores. With groups (codes (N,)) the new row is of a new group, and
    each group weighs the same, whatever its rows (Lee, Barber & Willett 2023, https://arxiv.org/abs/2306.06342).
    """
    unit = units_of(groups, len(scores))
    sizes = np.bincount(unit)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / sizes[unit[order]]) >= coverage * (len(sizes) + 1) - _SLACK
    return float(scores[order[reached.argmax()]]) if reached.any() else float("inf")


def rows_needed(coverage: float) -> int:
    """Return the fewest rows, or groups, whose quantile at this coverage is finite."""
    return int(np.ceil(coverage / (1 - coverage) - _SLACK))


@dataclass(frozen=True)
class Quantiles:
    """The conformal quantile of val's scores at each of some coverages, which rise."""

    coverages: tuple[float, ...]
    values: tuple[float, ...]

    @classmethod
    def fit(cls, scores: np.ndarray, coverage: float, groups: np.ndarray | None = None) -> Quantiles:
        """Fit at the coverages of GRID and at `coverage`, from scores (N,)."""
        coverages = tuple(sorted({*GRID, coverage}))
        return cls(coverages, tuple(conformal_quantile(scores, one, groups) for one in coverages))

    def at(self, coverage: float) -> float:
        """Return the quantile at the next stored coverage that is no lower; infinite beyond the last one."""
        place = int(np.searchsorted(self.coverages, coverage - _SLACK))
        return self.values[place] if place < len(self.values) else float("inf")

    def to_json(self) -> list[list[float | None]]:
        rows = zip(self.coverages, self.values, strict=True)
        return [[coverage, value if np.isfinite(value) else None] for coverage, value in rows]

    @classmethod
    def from_json(cls, data: Sequence[Sequence[Any]]) -> Quantiles:
        values = tuple(float("inf") if value is None else float(value) for _, value in data)
        return cls(tuple(float(coverage) for coverage, _ in data), values)


def class_scores(probabilities: np.ndarray) -> np.ndarray:
    """Return scores (N, C) of each class.

    A score is 1 minus the probability, which gives the smallest sets (Sadinle et al. 2019).
    """
    return 1 - probabilities


def rank_scores(probabilities: np.ndarray) -> np.ndarray:
    """Return scores (N, C) of ordered classes: the probability of the ranks that come before one.

    The most probable rank comes first, then always the more probable of the two neighbours, so that sets have no gap
    (Lu, Angelopoulos & Pomerantz 2022, https://arxiv.org/abs/2207.02238).
    """
    count, classes = probabilities.shape
    rows = np.arange(count)
    beside = np.pad(probabilities, ((0, 0), (1, 1)), constant_values=-1.0)  # never taken
    low = high = probabilities.argmax(axis=1)
    scores = np.zeros((count, classes))
    mass = probabilities[rows, low].copy()
    for _ in range(classes - 1):
        below = beside[rows, low] > beside[rows, high + 2]
        taken = np.where(below, low - 1, high + 1)
        low, high = np.where(below, taken, low), np.where(below, high, taken)
        scores[rows, taken] = mass
        mass += probabilities[rows, taken]
    return scores


def label_scores(probabilities: np.ndarray, has: np.ndarray) -> np.ndarray:
    """Return a score (N,) of all labels of a row together.

    It is 1 minus the probability of the least probable label that the row has.
    A set holds each label whose probability reaches 1 minus the quantile, so it holds all labels of a row as often as
    a set of classes holds the true one: the outer sets of Cauchois, Gupta & Duchi 2021
    (https://jmlr.org/papers/v22/20-753.html). probabilities: (N, L); has: bool (N, L). 0 for a row without a label,
    whose labels any set holds.
    """
    return np.where(has, 1 - probabilities, 0.0).max(axis=1)


def in_set(scores: np.ndarray, probabilities: np.ndarray, quantile: float) -> np.ndarray:
    """Find which classes are in each row's set, bool (N, C). The predicted one always is, so that no set is empty."""
    inside = scores <= quantile
    inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
    return inside


@dataclass(frozen=True)
class Scale:
    """The mean absolute error by the predicted number: straight lines between the means of bins."""

    predicted: tuple[float, ...]
    error: tuple[float, ...]

    MIN_BIN_ROWS = 30
    MAX_BINS = 10
    PRIOR_ROWS = 10.0  # of the overall mean, which a bin's own is drawn to
    MIN_SHARE = 1e-3  # of the overall mean

    @classmethod
    def fit(cls, predicted: np.ndarray, error: np.ndarray) -> Scale:
        """Fit to predicted numbers (N,) and absolute errors (N,), N > 0."""
        count = max(1, min(cls.MAX_BINS, len(predicted) // cls.MIN_BIN_ROWS))
        overall = float(error.mean())
        places, means = [], []
        for part in np.array_split(np.argsort(predicted, kind="stable"), count):
            own = (error[part].sum() + cls.PRIOR_ROWS * overall) / (len(part) + cls.PRIOR_ROWS)
            places.append(float(predicted[part].mean()))
            means.append(float(max(own, cls.MIN_SHARE * overall, np.finfo(np.float64).tiny)))
        return cls(tuple(places), tuple(means))

    def at(self, predicted: np.ndarray) -> np.ndarray:
        """Return the expected absolute error of predicted numbers, float64 of the same shape; above 0."""
        return np.interp(predicted, self.predicted, self.error)

    def to_json(self) -> dict[str, list[float]]:
        return {"predicted": list(self.predicted), "error": list(self.error)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scale:
        return cls(tuple(map(float, data["predicted"])), tuple(map(float, data["error"])))

"""The expected error of a prediction by its confidence, fitted to val in bins of equal numbers of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

MIN_BIN_ROWS = 20
MAX_BINS = 15


@dataclass(frozen=True)
class Bin:
    """The val rows whose confidence is above `low` (the lowest itself in the first bin) up to `high`.

    `confidence` is their mean, `errors` how many predictions are wrong, `expected` the error that is expected there.
    """

    low: float
    high: float
    rows: int
    errors: int
    confidence: float
    expected: float


@dataclass(frozen=True)
class ExpectedError:
    """Adaptive bins of confidence, and the expected error between them.

    Bins hold equal numbers of rows (Nguyen & O'Connor 2015). Their error is (errors + ½) / (rows + 1), the mean of the
    posterior under Jeffreys' prior. Isotonic regression makes it fall with confidence, and straight lines join the mean
    confidences of the bins.
    """

    bins: tuple[Bin, ...]

    @classmethod
    def fit(cls, confidence: np.ndarray, correct: np.ndarray) -> ExpectedError:
        """Fit to confidences (N,) in 0 … 1 and to whether the predictions are right (bool (N,)), N > 0."""
        count = max(1, min(MAX_BINS, len(confidence) // MIN_BIN_ROWS))
        edges = np.unique(np.quantile(confidence, np.linspace(0, 1, count + 1)))
        place = np.searchsorted(edges[1:-1], confidence, side="left")
        used, place = np.unique(place, return_inverse=True)
        rows, errors = np.bincount(place), np.bincount(place, weights=~correct)
        means = np.bincount(place, weights=confidence) / rows
        expected = _falling(means, (errors + 0.5) / (rows + 1), rows)
        return cls(
            tuple(
                Bin(
                    low=float(edges[at]),
                    high=float(edges[min(at + 1, len(edges) - 1)]),
                    rows=int(rows[number]),
                    errors=int(errors[number]),
                    confidence=float(means[number]),
                    expected=float(expected[number]),
                )
                for number, at in enumerate(used.tolist())
            )
        )

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean confidences of the bins, ascending, and the expected errors there."""
        return np.array([one.confidence for one in self.bins]), np.array([one.expected for one in self.bins])

    def at(self, confidence: np.ndarray) -> np.ndarray:
        """Return the expected error of predictions of these confidences, float64 of the same shape."""
        return np.interp(confidence, *self.curve())

    def to_json(self) -> list[dict[str, Any]]:
        return [asdict(one) for one in self.bins]

    @classmethod
    def from_json(cls, data: list[Mapping[str, Any]]) -> ExpectedError:
        return cls(tuple(Bin(**one) for one in data))


def _falling(confidence: np.ndarray, rate: np.ndarray, rows: np.ndarray) -> np.ndarray:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(increasing=False).fit_transform(confidence, rate, sample_weight=rows.astype(float))
    return np.asarray(fitted)

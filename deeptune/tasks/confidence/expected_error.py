"""How often a prediction of some confidence is wrong, as val shows it in bins of equal numbers of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

MIN_BIN_ROWS = 20
MAX_BINS = 15


@dataclass(frozen=True)
class Bin:
    """The val rows whose confidence is above `low` (the lowest itself in the first bin) up to `high`."""

    low: float
    high: float
    rows: int
    errors: int
    confidence: float  # mean


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
        """From confidences (N,) between 0 and 1 and whether the predictions are right (bool (N,)), N > 0."""
        count = max(1, min(MAX_BINS, len(confidence) // MIN_BIN_ROWS))
        edges = np.unique(np.quantile(confidence, np.linspace(0, 1, count + 1)))
        place = np.searchsorted(edges[1:-1], confidence, side="left")
        found = []
        for at in np.unique(place):
            inside = place == at
            errors = int((~correct[inside]).sum())
            low, high = float(edges[at]), float(edges[min(at + 1, len(edges) - 1)])
            found.append(Bin(low, high, int(inside.sum()), errors, float(confidence[inside].mean())))
        return cls(tuple(found))

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean confidences of the bins, ascending, and the expected errors there."""
        from sklearn.isotonic import IsotonicRegression

        confidence = np.array([one.confidence for one in self.bins])
        rows = np.array([one.rows for one in self.bins], np.float64)
        rate = (np.array([one.errors for one in self.bins]) + 0.5) / (rows + 1)
        return confidence, IsotonicRegression(increasing=False).fit_transform(confidence, rate, sample_weight=rows)

    def at(self, confidence: np.ndarray) -> np.ndarray:
        """The expected error of predictions of these confidences, float64 of the same shape."""
        return np.interp(confidence, *self.curve())

    def to_json(self) -> list[dict[str, Any]]:
        return [asdict(one) for one in self.bins]

    @classmethod
    def from_json(cls, data: list[Mapping[str, Any]]) -> ExpectedError:
        return cls(tuple(Bin(**one) for one in data))

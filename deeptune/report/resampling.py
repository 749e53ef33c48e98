"""Curves over all thresholds with 95% bands, from resampled rows or groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 400
GRID = 101
MAX_WEIGHTS = 4_000_000  # numbers in memory at once


@dataclass(frozen=True)
class Curve:
    """A curve `y` (G,) over `x` (G,), and its pointwise 95% band (2, G)."""

    x: np.ndarray
    y: np.ndarray
    band: np.ndarray

    def record(self) -> dict[str, Any]:
        """Return the curve for JSON, with as many digits as a picture could show."""
        parts = {"x": self.x, "y": self.y, "low": self.band[0], "high": self.band[1]}
        return {name: np.round(one, 6).tolist() for name, one in parts.items()}


def resampled_weights(unit: np.ndarray, seed: int, resamples: int = RESAMPLES) -> Iterator[np.ndarray]:
    """Draw units with replacement; yield how often each row was drawn, float64 (some resamples, N)."""
    rng = np.random.default_rng(seed)
    units, done = int(unit.max()) + 1, 0
    at_once = max(1, MAX_WEIGHTS // len(unit))
    while done < resamples:
        count = min(at_once, resamples - done)
        yield rng.multinomial(units, np.full(units, 1 / units), size=count)[:, unit].astype(float)
        done += count


class Ranking:
    """Rows by falling probability, so that counts above each threshold are running sums."""

    def __init__(self, positive: np.ndarray, chance: np.ndarray) -> None:
        self.order = np.argsort(-chance, kind="stable")
        self.positive, self.chance = positive[self.order], chance[self.order]
        self.ends = np.flatnonzero(np.append(np.diff(self.chance) != 0, True))  # the last row of equal ones

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count true and false positives at each threshold that occurs, (R, K), for weights (R, N) of the rows."""
        sorted_weights = weights[:, self.order]
        true = np.cumsum(sorted_weights * self.positive, axis=1)[:, self.ends]
        return true, np.cumsum(sorted_weights * ~self.positive, axis=1)[:, self.ends]


def roc_band(positive: np.ndarray, chance: np.ndarray, unit: np.ndarray, seed: int) -> Curve:
    """Return the sensitivity over 1 − specificity: the highest of each, and between two of them on the line."""
    grid = np.linspace(0, 1, GRID)

    def curve(true: np.ndarray, false: np.ndarray) -> np.ndarray:
        x, y = np.append(0, false / max(false[-1], 1e-9)), np.append(0, true / max(true[-1], 1e-9))
        left = np.searchsorted(x, grid + 1e-12, side="right") - 1
        right = np.minimum(left + 1, len(x) - 1)
        gap = x[right] - x[left]
        share = np.divide(grid - x[left], gap, out=np.zeros(len(grid)), where=gap > 0).clip(0, 1)
        return np.asarray(y[left] + share * (y[right] - y[left]))

    return Curve(grid, *_with_band(Ranking(positive, chance), curve, unit, seed))


def precision_recall_band(positive: np.ndarray, chance: np.ndarray, unit: np.ndarray, seed: int) -> Curve:
    """Return the precision over recall: that of the highest threshold that reaches it."""
    grid = np.linspace(0.01, 1, GRID - 1)

    def curve(true: np.ndarray, false: np.ndarray) -> np.ndarray:
        recall = true / max(true[-1], 1e-9)
        precision = true / np.maximum(true + false, 1e-9)
        return precision[np.minimum(np.searchsorted(recall, grid - 1e-12), len(recall) - 1)]

    return Curve(grid, *_with_band(Ranking(positive, chance), curve, unit, seed))


def decision_band(positive: np.ndarray, chance: np.ndarray, unit: np.ndarray, seed: int) -> Curve:
    """Return the net benefit over threshold probabilities."""
    share = positive.mean()
    # Where to treat all would harm more than three times what it could help, nobody looks.
    grid = np.linspace(0.01, min(0.99, max(0.1, 3 * share)), GRID - 2)
    odds = grid / (1 - grid)
    ranking = Ranking(positive, chance)
    place = np.searchsorted(-ranking.chance[ranking.ends], -grid, side="right")  # thresholds that are reached

    def curve(true: np.ndarray, false: np.ndarray) -> np.ndarray:
        n = true[-1] + false[-1]
        return (np.append(0, true)[place] - np.append(0, false)[place] * odds) / max(n, 1e-9)

    return Curve(grid, *_with_band(ranking, curve, unit, seed))


def all_positive(threshold: np.ndarray, prevalence: float) -> np.ndarray:
    """Return the net benefit of calling every row positive, at threshold probabilities (G,)."""
    return prevalence - (1 - prevalence) * threshold / (1 - threshold)


def _with_band(
    ranking: Ranking, curve: Callable[[np.ndarray, np.ndarray], np.ndarray], unit: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a curve of all rows, and its pointwise 95% band over resamples, which contains it."""
    all_rows = ranking.counts(np.ones((1, len(unit))))
    found = curve(all_rows[0][0], all_rows[1][0])
    drawn = [
        curve(true, false)
        for weights in resampled_weights(unit, seed)
        for true, false in zip(*ranking.counts(weights), strict=True)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return found, np.stack([np.minimum(low, found), np.maximum(high, found)])

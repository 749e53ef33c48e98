"""Differences of metrics between two models on the same rows, with paired intervals and tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from deeptune.report.influence import Estimate, Estimates, placements, variance
from deeptune.report.interval_methods import Interval, student
from deeptune.spec.metrics import METRICS

EXACT = 25  # rows that only one of two models has right, below which McNemar's test is exact

MCNEMAR, DELONG, LINEAR = "McNemar", "DeLong", "t"


@dataclass(frozen=True)
class Difference:
    """A metric of two models: their values, the second less the first, its 95% interval, and the p value of `test`.

    Interval and p value are None where rows or groups are too few. `p_holm` is p corrected for all comparisons made.
    """

    values: tuple[float, float]
    difference: float
    interval: Interval | None
    p: float | None
    test: str
    p_holm: float | None = None

    def reversed(self) -> Difference:
        """Take the models the other way round."""
        low, high = self.interval or (0.0, 0.0)
        return replace(
            self,
            values=self.values[::-1],
            difference=-self.difference,
            interval=None if self.interval is None else (-high, -low),
        )


def difference(name: str, first: Estimate, second: Estimate, unit: np.ndarray) -> Difference:
    """Compare a metric of two models on the same rows; `unit` numbers the independent unit of each row.

    The variance is that of the difference of influences, summed by unit, with Student's t. Of a share two rows more are
    taken to differ, one each way, so that models which differ in no row are not known to be equal (Bonett & Price 2012
    for proportions).
    """
    apart = second.value - first.value
    spread, freedom = variance(second.influence - first.influence, unit)
    metric = METRICS[name]
    if metric.interval == "proportion":
        worst, best = metric.range
        assert worst is not None
        assert best is not None
        spread += 2 * (best - worst) ** 2 / (len(unit) * (unit.max() + 1))
    error = math.sqrt(spread)
    step = student(freedom) * error
    certain = 1.0 if apart == 0 else 0.0
    p = certain if error == 0 else float(2 * special.stdtr(freedom, -abs(apart) / error))
    return Difference((first.value, second.value), apart, (apart - step, apart + step), p, LINEAR)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p value of McNemar's test (1947), two-sided; exact for few rows, else chi² with correction.

    `only_first` and `only_second` are rows that only one of two models has right.
    """
    total = only_first + only_second
    if total < EXACT:
        return min(1.0, float(2 * special.bdtr(min(only_first, only_second), total, 0.5))) if total else 1.0
    return float(special.chdtrc(1, max(0, abs(only_first - only_second) - 1) ** 2 / total))


def delong(positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Return the p value of the test of DeLong et al. (1988) for two areas under the ROC curve on the same rows.

    positive: bool (N,); first, second: scores (N,). 1 where both areas are equal on every row.
    """
    one, other = placements(positive, first), placements(positive, second)
    if one is None or other is None or min(positive.sum(), (~positive).sum()) < 2:
        return 1.0
    apart = other - one
    spread = apart[positive].var(ddof=1) / positive.sum() + apart[~positive].var(ddof=1) / (~positive).sum()
    difference = apart[positive].mean()
    if spread <= 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * special.ndtr(-abs(difference) / math.sqrt(spread)))


def holm(values: Sequence[float]) -> list[float]:
    """Correct p values for their number, as Holm (1979) does."""
    order = np.argsort(values, kind="stable")
    scaled = np.array(values)[order] * (len(values) - np.arange(len(values)))
    found = np.empty(len(values))
    found[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return [float(value) for value in found]


def differences(first: Estimates, second: Estimates, unit: np.ndarray) -> dict[str, Difference]:
    """Compare all metrics that are defined for both models, in the order of `METRICS`."""
    return {
        name: difference(name, first[name], second[name], unit) for name in METRICS if name in first and name in second
    }

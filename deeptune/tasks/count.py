"""Counts: the rate of a Poisson distribution for each sample, and what counts are scored by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa

from deeptune.arrow import is_lists
from deeptune.errors import listed
from deeptune.spec.run_spec import DataSpec
from deeptune.spec.tasks import TASKS, USUAL_TASKS
from deeptune.tasks.base import TREES
from deeptune.tasks.label_columns import LabelTypeError, missing, numbers, plain
from deeptune.tasks.number_metrics import NumberScores, centred
from deeptune.tasks.regression import RegressionTask

MIN_RATE = 1e-12  # least predicted rate, so that its logarithm is finite


@dataclass(frozen=True)
class CountTask(RegressionTask):
    """A count (0, 1, 2 …) for each sample: Poisson regression with a log link (McCullagh & Nelder 1989, chapter 6).

    Targets are the counts (float64 (N,)), NaN for a missing label. A model has one output, the logarithm of the rate in
    units of the mean count of train; a prediction is the rate itself.
    """

    info = TASKS["count"]
    LOSS_UNIT = "The minimised loss is the Poisson deviance of counts in units of their mean in train."
    CONSTANT = "the mean of the training counts"
    COMPARABLE = "logarithms of the predicted rates"

    # From labels to targets

    @classmethod
    def check_type(cls, column: pa.ChunkedArray, *, name: str, place: str = "data.label") -> None:
        """Raise DataError where a column holds no numbers, or one that is negative or fractional."""
        super().check_type(column, name=name, place=place)
        if is_lists(plain(column).type):
            raise LabelTypeError(f"{place}: column {name!r} holds lists, and a row has one count")
        values = plain(column).to_numpy().astype(np.float64)
        rows = np.flatnonzero(~missing(column) & ((values < 0) | (values != np.floor(values))))
        if len(rows):
            raise LabelTypeError(
                f"{place}: {len(rows):,} of {len(column):,} labels in column {name!r} are not counts "
                f"({listed(f'{values[row]:g}' for row in rows)}): rows {listed(rows)}",
                hint=f'Counts are 0, 1, 2 …: correct these rows, or set task = "{USUAL_TASKS["numbers"]}".',
            )

    @classmethod
    def fit_labels(
        cls, column: pa.ChunkedArray, *, data: DataSpec, label_names: Sequence[str] | None, name: str
    ) -> Self:
        return cls.fit(numbers(column, name=name), name=name)

    def encode(
        self,
        column: pa.ChunkedArray,
        *,
        label_names: Sequence[str] | None = None,
        name: str = "labels",
        place: str = "data.label",
    ) -> np.ndarray:
        """Return the counts (float64). Raises DataError for a missing label or one that is not a count."""
        self.check_type(column, name=name, place=place)
        return super().encode(column, label_names=label_names, name=name, place=place)

    # The model

    def standardise(self, targets: np.ndarray) -> np.ndarray:
        """Divide counts by their mean."""
        return targets / self.mean

    def restore(self, standardised: np.ndarray) -> np.ndarray:
        """Return the rates of outputs, in float64."""
        with np.errstate(over="ignore"):  # of a model that has diverged, which scoring refuses
            return np.exp(np.asarray(standardised, np.float64)) * self.mean

    def estimator(self, kind: Literal["linear", "trees"], penalty: float | None) -> Any:
        return _LogRate(kind, penalty)

    # Predictions

    def bounds(self, found: np.ndarray) -> dict[str, np.ndarray]:
        """Give the bounds of any number, with no interval below 0."""
        bounds = super().bounds(found)
        return {**bounds, "lower": np.maximum(bounds["lower"], 0.0)} if bounds else {}

    def read_predictions(self, column: pa.ChunkedArray, *, place: str) -> np.ndarray:
        """Return the rates, which are not counts."""
        return numbers(column, name="prediction", place=place)


class _LogRate:
    """A model of scikit-learn for counts, fitted by their Poisson likelihood; it predicts the logarithm of the rate."""

    def __init__(self, kind: Literal["linear", "trees"], penalty: float | None) -> None:
        self.kind, self.penalty = kind, penalty
        self.model: Any = None

    def fit(self, features: np.ndarray, counts: np.ndarray) -> Self:
        """Fit to features (N, width) and counts (N,); where all counts are 0, every rate is the least."""
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.linear_model import PoissonRegressor

        if self.kind == "linear":
            assert self.penalty is not None
            model: Any = PoissonRegressor(alpha=self.penalty / len(counts), solver="newton-cholesky")
        else:
            model = HistGradientBoostingRegressor(loss="poisson", **TREES)
        self.model = model.fit(features, counts) if counts.any() else None
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the logarithm of each rate, float64 (N,)."""
        rates = np.zeros(len(features)) if self.model is None else self.model.predict(features)
        return np.log(np.maximum(rates, MIN_RATE))


# Metrics


def _deviances(truth: np.ndarray, rates: np.ndarray | float) -> np.ndarray:
    """Return the unit deviance of each count: twice the log likelihood ratio of itself and `rate` as its rate."""
    rates = np.maximum(rates, MIN_RATE)
    ratio = np.divide(truth, rates)
    return 2 * (np.where(truth > 0, truth * np.log(np.maximum(ratio, MIN_RATE)), 0.0) - truth + rates)


def poisson_deviance(scored: NumberScores) -> float:
    """Return the mean deviance of the Poisson distribution, 0 where each rate is the count."""
    return float(_deviances(scored.truth, scored.prediction).mean())


def poisson_deviance_influence(scored: NumberScores) -> np.ndarray:
    """Return the influence of each row on the mean deviance."""
    return centred(_deviances(scored.truth, scored.prediction))


def d2(scored: NumberScores) -> float | None:
    """Return the share of the deviance from the mean count that the model explains, as R² of squared errors."""
    if not scored.truth_varies:
        scored.notes.append("d2 is not defined: the truth is one and the same count in every row")
        return None
    explained = _deviances(scored.truth, scored.prediction).mean()
    return float(1 - explained / _deviances(scored.truth, float(scored.truth.mean())).mean())


def d2_influence(scored: NumberScores) -> np.ndarray:
    """Return the influence of each row on D².

    The mean count minimises its own deviance, so its change has no part in it.
    """
    own, whole = _deviances(scored.truth, scored.prediction), _deviances(scored.truth, float(scored.truth.mean()))
    return (own.mean() / whole.mean() * whole - own) / whole.mean()

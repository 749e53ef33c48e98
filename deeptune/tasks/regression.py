"""Regression: a number for each sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa

from deeptune.arrow import is_lists
from deeptune.errors import DataError
from deeptune.spec.run_spec import CalibrationSpec, DataSpec, TrainSpec
from deeptune.spec.tasks import ROBUST, TASKS
from deeptune.tasks.base import QUANTILE, Fitted, Task
from deeptune.tasks.baselines import number_baseline
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.confidence.of_numbers import NumberConfidence
from deeptune.tasks.label_columns import check_numbers, missing, numbers
from deeptune.tasks.number_metrics import number_metrics
from deeptune.tasks.outliers import outliers


@dataclass(frozen=True)
class RegressionTask(Task):
    """A number for each sample: mean and standard deviation (of the population) of the training split's, in their unit.

    With a robust loss such as Huber's, those of the targets that are not far outside the others. Targets are the
    numbers themselves (float64 (N,)), NaN for a missing label. A model has one output, the standardised number.
    """

    info = TASKS["regression"]
    LOSS_UNIT = "The minimised loss is that of standardised labels."
    CONSTANT = "the mean of the training labels"
    COMPARABLE = "standardised predictions"
    TRAIN_NEEDS = "has labels that vary"

    mean: float
    std: float
    confidence: NumberConfidence | None = field(default=None, kw_only=True)

    # From labels to targets

    @classmethod
    def check_type(cls, column: pa.ChunkedArray, *, name: str, place: str = "data.label") -> None:
        check_numbers(column, name=name, place=place, task=cls.info.name)

    @classmethod
    def gather(cls, columns: Mapping[str, pa.ChunkedArray], *, place: str) -> pa.ChunkedArray:
        return _several().gather(columns, place=place)

    @classmethod
    def fit_labels(
        cls, column: pa.ChunkedArray, *, data: DataSpec, label_names: Sequence[str] | None, name: str
    ) -> RegressionTask:
        if is_lists(column.type):
            return _several().fit_labels(column, data=data, label_names=label_names, name=name)
        return cls.fit(numbers(column, name=name), name=name)

    @classmethod
    def fit(cls, targets: np.ndarray, *, name: str = "labels") -> Self:
        """Fit to float64 targets. Raises DataError when they are constant: there is nothing to predict."""
        if len(targets) == 0 or np.all(targets == targets[0]):
            value = f"{targets[0]:g}" if len(targets) else "missing"
            raise DataError(
                f"data.label: every training value of column {name!r} is {value}",
                hint="Regression needs values that vary.",
            )
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = float(np.mean(targets)), float(np.std(targets))
        if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
            raise DataError(
                f"data.label: the values of column {name!r} are too large or too close together for 64-bit numbers",
                hint="Rescale the column: divide it by a constant, or subtract one.",
            )
        return cls(mean, std)

    def fit_splits(self, targets: Mapping[str, np.ndarray], *, train: TrainSpec, name: str) -> Fitted:
        far = outliers(np.concatenate(list(targets.values())))
        ends = np.cumsum([len(one) for one in targets.values()])[:-1]
        outside = dict(zip(targets, np.split(far, ends), strict=True))
        # A robust loss limits the effect of values beyond one deviation, so a slip must not inflate that deviation.
        near = ~outliers(targets["train"]) if train.loss in ROBUST else slice(None)
        return Fitted(type(self).fit(targets["train"][near], name=name), dict(targets), outside)

    def encode(
        self,
        column: pa.ChunkedArray,
        *,
        label_names: Sequence[str] | None = None,
        name: str = "labels",
        place: str = "data.label",
    ) -> np.ndarray:
        """Return the numbers (float64) in their own unit.

        Raises DataError for a missing label or a type that is not a number.
        """
        return numbers(column, name=name, place=place)

    def find(self, column: pa.ChunkedArray, *, label_names: Sequence[str] | None = None) -> np.ndarray:
        return np.where(missing(column), np.nan, column.to_numpy().astype(np.float64))

    def decode(self, targets: np.ndarray) -> pa.Array:
        return pa.array(targets, pa.float64(), mask=np.isnan(targets))

    def to_json(self) -> dict[str, Any]:
        own = {} if self.confidence is None else {"confidence": self.confidence.to_json()}
        return {"task": self.info.name, "mean": self.mean, "std": self.std, **own}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RegressionTask:
        if "targets" in data:
            return _several().from_json(data)
        return cls.of_json(data)

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the task of one number, from what is stored of it."""
        found = data.get("confidence")
        confidence = None if found is None else NumberConfidence.from_json(found)
        return cls(float(data["mean"]), float(data["std"]), confidence=confidence)

    # Splits

    @classmethod
    def strata(cls, targets: np.ndarray, bins: int, rng: np.random.Generator) -> np.ndarray:
        """Return the quantile bin of each number, ties broken at random."""
        order = np.lexsort((rng.random(len(targets)), targets))
        strata = np.empty(len(targets), np.int64)
        strata[order] = np.arange(len(targets)) * bins // len(targets)
        return strata

    @classmethod
    def needed_in_train(cls, group: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Find the groups that train needs: for each number that fills a whole group, one that holds another number."""
        low = np.full(group.max() + 1, np.inf)
        high = -low
        np.minimum.at(low, group, targets)
        np.maximum.at(high, group, targets)
        constant = np.unique(low[low == high])
        return (low != constant[:, None]) | (high != constant[:, None])

    def uncertainty(self, rows: int) -> str:
        width = QUANTILE / math.sqrt(2 * rows)
        return f"an RMSE on them is known to about ±{width:.0%} (95%, errors of a normal distribution)"

    def summary(self, targets: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std}

    # The model

    @property
    def outputs(self) -> int:
        return 1

    def standardise(self, targets: np.ndarray) -> np.ndarray:
        return (targets - self.mean) / self.std

    def restore(self, standardised: np.ndarray) -> np.ndarray:
        """Convert back to the original unit, in float64."""
        return np.asarray(standardised, np.float64) * self.std + self.mean

    def model_targets(self, targets: np.ndarray) -> np.ndarray:
        """Return standardised numbers (float32 (N,))."""
        return self.standardise(targets).astype(np.float32)

    def constant_logits(self, targets: np.ndarray, class_weights: np.ndarray | None) -> np.ndarray:
        return np.zeros(1, np.float32)

    def comparable(self, logits: np.ndarray) -> np.ndarray:
        return logits.astype(np.float64)

    # Predictions and scores

    def numbers(self, logits: np.ndarray) -> np.ndarray:
        """Return outputs (N, 1) in the label's own unit, float64 (N,)."""
        return self.restore(logits[:, 0].astype(np.float64))

    def predictions(self, logits: np.ndarray) -> dict[str, pa.Array]:
        """Return `prediction` in the label's own unit.

        With what was fitted to val also `lower` and `upper`, between which the truth is at the stored coverage, and
        `expected_error`, the absolute error that is usual there.
        """
        found = self.numbers(logits)
        return {
            "prediction": pa.array(found),
            **{name: pa.array(values) for name, values in self.bounds(found).items()},
        }

    def bounds(self, found: np.ndarray) -> dict[str, np.ndarray]:
        """Return `lower`, `upper` and `expected_error` (float64 (N,)) of predicted numbers.

        Returns nothing where none was fitted.
        """
        if self.confidence is None:
            return {}
        half = self.confidence.half_width(found)
        return {"lower": found - half, "upper": found + half, "expected_error": self.confidence.scale.at(found)}

    def score(self, logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        return number_metrics(truth, self.numbers(logits), self.info.name)

    def baseline(self, truth: np.ndarray, train: np.ndarray) -> dict[str, Any]:
        return number_baseline(truth, train, self.info.name).to_json()

    # Confidence

    def with_confidence(self, held_out: HeldOut, calibration: CalibrationSpec) -> Self:
        """Fit intervals, and the expected error at each predicted number."""
        found = NumberConfidence.fit(self.numbers(held_out.logits), held_out, calibration.coverage)
        return replace(self, confidence=found)

    def confidence_metrics(self, logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        if self.confidence is None or not len(truth):
            return {}
        return {"confidence": self.confidence.metrics(self.numbers(logits), truth)}


def _several() -> type[RegressionTask]:
    """Return the task of several numbers for each sample."""
    from deeptune.tasks.multitarget import MultiTargetTask

    return MultiTargetTask

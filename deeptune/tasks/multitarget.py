"""Regression of several numbers for each sample, some of which may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa

from deeptune.errors import DataError
from deeptune.spec.run_spec import CalibrationSpec, DataSpec, TrainSpec
from deeptune.spec.tasks import ROBUST
from deeptune.tasks.base import Fitted
from deeptune.tasks.classification import lists
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.label_columns import list_parts, plain, refuse_missing
from deeptune.tasks.outliers import outliers
from deeptune.tasks.regression import RegressionTask


@dataclass(frozen=True)
class MultiTargetTask(RegressionTask):
    """Several numbers for each sample: the task of each one, fitted to the rows that have it.

    `names` are the columns of `data.label`, or positions in a list. Targets are float64 (N, T) in the targets' own
    units, NaN for a missing one. A model has an output for each, the standardised number. `mean` and `std` of the whole
    are those of standardised numbers.
    """

    CONSTANT = "the mean of each training target"

    names: tuple[str, ...] = ()
    targets: tuple[RegressionTask, ...] = ()

    @classmethod
    def gather(cls, columns: Mapping[str, pa.ChunkedArray], *, place: str) -> pa.ChunkedArray:
        """Return the numbers of several columns as lists, null where none of them is known."""
        arrays = []
        for name, column in columns.items():
            RegressionTask.check_type(column, name=name, place=place)
            arrays.append(column.cast(pa.float64()).to_numpy())
        table = np.stack(arrays, axis=1)
        return pa.chunked_array([_as_lists(np.where(np.isfinite(table), table, np.nan))])

    @classmethod
    def fit_labels(
        cls, column: pa.ChunkedArray, *, data: DataSpec, label_names: Sequence[str] | None, name: str
    ) -> Self:
        width = _width(plain(column), name, "data.label")
        names = tuple(data.label) if isinstance(data.label, list) else tuple(map(str, range(width)))
        return cls._of(_numbers(plain(column), width), names, name)

    @classmethod
    def _of(cls, targets: np.ndarray, names: tuple[str, ...], column: str) -> Self:
        fitted = []
        for at, name in enumerate(names):
            known = targets[np.isfinite(targets[:, at]), at]
            fitted.append(RegressionTask.fit(known, name=name if name != str(at) else f"{column}[{at}]"))
        return cls(0.0, 1.0, names, tuple(fitted))

    def fit_splits(self, targets: Mapping[str, np.ndarray], *, train: TrainSpec, name: str) -> Fitted:
        """Fit each target; with a robust loss to the numbers that are not far outside the others."""
        near = targets["train"].copy()
        if train.loss in ROBUST:
            for column in near.T:
                known = np.isfinite(column)
                column[known] = np.where(outliers(column[known]), np.nan, column[known])
        return Fitted(self._of(near, self.names, name), dict(targets))

    def encode(
        self,
        column: pa.ChunkedArray,
        *,
        label_names: Sequence[str] | None = None,
        name: str = "labels",
        place: str = "data.label",
    ) -> np.ndarray:
        """Return the numbers (float64 (N, T)), NaN for a missing one. Raises DataError for a row without any number."""
        self.check_type(column, name=name, place=place)
        refuse_missing(column, name, place)
        if (width := _width(plain(column), name, place)) != len(self.names):
            raise DataError(
                f"{place}: column {name!r} holds lists of {width} numbers, but there are {len(self.names)} targets",
                hint="Labels must be of the same length everywhere.",
            )
        return _numbers(plain(column), len(self.names))

    def find(self, column: pa.ChunkedArray, *, label_names: Sequence[str] | None = None) -> np.ndarray:
        return _numbers(plain(column), len(self.names))

    def decode(self, targets: np.ndarray) -> pa.Array:
        """Return a list of numbers for each row, with nulls for missing ones; null where all are missing."""
        return _as_lists(targets)

    def to_json(self) -> dict[str, Any]:
        rows = zip(self.names, self.targets, strict=True)
        return {
            "task": self.info.name,
            "targets": [{**one.to_json(), "target": name} for name, one in rows],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        rows = data["targets"]
        fitted = map(RegressionTask.of_json, rows)
        return cls(0.0, 1.0, tuple(row["target"] for row in rows), tuple(fitted))

    @property
    def target_names(self) -> tuple[str, ...]:
        return self.names

    @property
    def view(self) -> str:
        return "targets"

    # Splits

    @classmethod
    def strata(cls, targets: np.ndarray, bins: int, rng: np.random.Generator) -> np.ndarray:
        """Return the quantile bin of the mean of each row's standardised numbers."""
        means, deviations = np.nanmean(targets, axis=0), np.nanstd(targets, axis=0)
        return super().strata(np.nanmean((targets - means) / np.maximum(deviations, 1e-300), axis=1), bins, rng)

    @classmethod
    def needed_in_train(cls, group: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Collect the sets of groups that each target needs."""
        needs = []
        for column in targets.T:
            known = np.isfinite(column)
            inside, codes = np.unique(group[known], return_inverse=True)
            found = (
                np.zeros((0, len(inside)), bool) if not known.any() else super().needed_in_train(codes, column[known])
            )
            found = np.vstack([found, np.ones((int(known.any()), len(inside)), bool)])
            whole = np.zeros((len(found), group.max() + 1), bool)
            whole[:, inside] = found
            needs.append(whole)
        return np.concatenate(needs)

    def summary(self, targets: Mapping[str, np.ndarray]) -> dict[str, Any]:
        rows = zip(self.names, self.targets, strict=True)
        return {"targets": [{"target": name, **one.summary({})} for name, one in rows]}

    # The model

    @property
    def outputs(self) -> int:
        return len(self.names)

    def model_targets(self, targets: np.ndarray) -> np.ndarray:
        """Return standardised numbers (float32 (N, T)), NaN for a missing one, which the loss leaves out."""
        columns = (one.standardise(targets[:, at]) for at, one in enumerate(self.targets))
        return np.stack(list(columns), axis=1).astype(np.float32)

    def constant_logits(self, targets: np.ndarray, class_weights: np.ndarray | None) -> np.ndarray:
        return np.zeros(len(self.names), np.float32)

    # Predictions and scores

    def numbers(self, logits: np.ndarray) -> np.ndarray:
        """Return outputs in the targets' own units, float64 (N, T)."""
        return np.stack([one.restore(logits[:, at].astype(np.float64)) for at, one in enumerate(self.targets)], axis=1)

    def predictions(self, logits: np.ndarray) -> dict[str, pa.Array]:
        """Return `prediction`, the list of numbers in the targets' own units; the others as of one number, as lists."""
        found = self.numbers(logits)
        bounds = [one.bounds(found[:, at]) for at, one in enumerate(self.targets)]
        if not all(bounds):
            return {"prediction": lists(found)}
        return {"prediction": lists(found)} | {
            name: lists(np.stack([one[name] for one in bounds], axis=1)) for name in bounds[0]
        }

    def score(self, logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        """Return the metrics of each target on the rows that have it (`per_target`), and their means."""
        predicted = self.numbers(logits)
        found, notes = [], []
        for at, name in enumerate(self.names):
            known = np.isfinite(truth[:, at])
            scores = self.targets[at].score(logits[known, at : at + 1], truth[known, at])
            notes += [f"{name}: {note}" for note in scores.pop("notes")]
            found.append({"target": name, **scores})
        return {**_means(self.info.metrics, found), "per_target": found, "n": len(predicted), "notes": notes}

    def baseline(self, truth: np.ndarray, train: np.ndarray) -> dict[str, Any]:
        """Return the means over the targets of the metrics of constant predictions, and the constants as lists."""
        by_target = []
        for at in range(len(self.names)):
            known, learned = np.isfinite(truth[:, at]), np.isfinite(train[:, at])
            by_target.append(self.targets[at].baseline(truth[known, at], train[learned, at]))
        constants = {name: [one[name] for one in by_target] for name in ("median", "mean")}
        return {**_means(self.info.metrics, by_target), **constants}

    # Confidence

    @property
    def confidence_notes(self) -> tuple[str, ...]:
        rows = zip(self.names, self.targets, strict=True)
        return tuple(f"{name}: {note}" for name, one in rows for note in one.confidence_notes)

    def with_confidence(self, held_out: HeldOut, calibration: CalibrationSpec) -> Self:
        """Fit the confidence of each target to the rows that have it; all or none have intervals."""
        known = np.isfinite(held_out.truth)
        if not known.any(axis=0).all():
            return self
        targets = []
        for at, one in enumerate(self.targets):
            some = held_out.at(np.flatnonzero(known[:, at]))
            own = replace(some, logits=some.logits[:, at : at + 1], truth=some.truth[:, at])
            targets.append(one.with_confidence(own, calibration))
        return replace(self, targets=tuple(targets))

    def at_coverage(self, coverage: float) -> Self:
        return replace(self, targets=tuple(one.at_coverage(coverage) for one in self.targets))

    def confidence_metrics(self, logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        """Return `per_target`: the metrics of each target on the rows that have it."""
        per_target = []
        for at, name in enumerate(self.names):
            known = np.isfinite(truth[:, at])
            scores = self.targets[at].confidence_metrics(logits[known, at : at + 1], truth[known, at])
            if scores:
                per_target.append({"target": name, **scores["confidence"]})
        return {"confidence": {"per_target": per_target}} if per_target else {}


def _means(names: Sequence[str], found: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the mean of each metric over the targets where it is defined."""
    values = {name: [one[name] for one in found if one.get(name) is not None] for name in names}
    return {name: float(np.mean(known)) if known else None for name, known in values.items()}


def _width(column: pa.ChunkedArray, name: str, place: str) -> int:
    """Return the length that all lists of a column have. Raises DataError where they differ."""
    rows, _ = list_parts(column.drop_null())
    sizes = np.unique(np.bincount(rows, minlength=len(column.drop_null())))
    if len(sizes) != 1:
        raise DataError(
            f"{place}: the lists of column {name!r} hold {sizes.min()} to {sizes.max()} numbers",
            hint="Each row needs one number for each target; a missing one is null.",
        )
    return int(sizes[0])


def _numbers(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """Return lists of numbers as float64 (N, width), NaN for what is missing."""
    table = np.full((len(column), width), np.nan)
    rows, values = list_parts(column)
    at = np.arange(len(rows)) - np.searchsorted(rows, rows)
    found = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    inside = (at < width) & np.isfinite(found)
    table[rows[inside], at[inside]] = found[inside]
    return table


def _as_lists(table: np.ndarray) -> pa.Array:
    """Return a list of numbers for each row; null for NaN, and for a row of these."""
    flat = pa.array(table.reshape(-1), pa.float64(), mask=np.isnan(table.reshape(-1)))
    offsets = np.arange(len(table) + 1, dtype=np.int32) * table.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(np.isnan(table).all(axis=1)))

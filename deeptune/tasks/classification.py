"""Classification: one of several classes for each sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.errors import DataError, SpecError, listed, shortened
from deeptune.spec.run_spec import CalibrationSpec, DataSpec, TrainSpec
from deeptune.spec.tasks import TASKS, USUAL_TASKS
from deeptune.tasks.base import EXAMPLE_SHARE, Fitted, Relabel, Task, wilson_text
from deeptune.tasks.baselines import classification_baseline
from deeptune.tasks.confidence.calibrator_choice import ClassLink, choose
from deeptune.tasks.confidence.conformal import class_scores
from deeptune.tasks.confidence.expected_error import ExpectedError
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.confidence.of_classes import (
    ClassConfidence,
    class_metrics,
    fit_quantiles,
    set_column,
    set_metrics,
)
from deeptune.tasks.label_columns import check_classes, plain, refuse_missing, without_minus_one
from deeptune.tasks.metric_functions import classification_metrics

ClassValue = int | str | bool

MANY_CLASSES = 10  # a data set may be tiny; more classes than this need two rows each and more


@dataclass(frozen=True)
class ClassificationTask(Task):
    """One class for each sample. The classes are in the order of their index: sorted by value.

    `names` are shown beside the values. Targets are class indices (int64 (N,)), -1 for a missing label. A model has an
    output for each class; their softmax is the probabilities.
    """

    info = TASKS["classification"]
    CONSTANT = "the class shares of the training split"
    COMPARABLE = "probabilities"

    values: tuple[ClassValue, ...]
    names: tuple[str, ...] | None = None
    confidence: ClassConfidence | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.values)

    # From labels to targets

    @classmethod
    def check_type(cls, column: pa.ChunkedArray, *, name: str, place: str = "data.label") -> None:
        check_classes(column, name=name, place=place)

    @classmethod
    def fit_labels(
        cls, column: pa.ChunkedArray, *, data: DataSpec, label_names: Sequence[str] | None, name: str
    ) -> Self:
        return cls.fit(column, label_names=label_names, name=name, many=data.many_classes)

    @classmethod
    def fit(
        cls,
        column: pa.ChunkedArray,
        *,
        label_names: Sequence[str] | None = None,
        name: str = "labels",
        many: bool = False,
    ) -> Self:
        """Fit the classes of a column without missing labels; `label_names[v]` names the integer class v.

        Raises DataError for a type that is not a class, for one class, for two classes of one name, and for almost as
        many classes as rows, unless they have names or `many` allows it.
        """
        cls.check_type(column, name=name)
        column = plain(column)
        values = sorted(column.unique().to_pylist())
        if len(values) < 2:
            only = f"only one class, {shortened(repr(values[0]))}," if values else "no class"
            raise DataError(f"data.label: there is {only} in column {name!r}", hint="Classification needs two or more.")
        names = None
        if label_names is not None and all(type(v) is int and 0 <= v < len(label_names) for v in values):
            names = tuple(label_names[v] for v in values)
            _refuse_twice(names, name)
        if not many and names is None and len(values) > MANY_CLASSES and 2 * len(values) >= len(column):
            quantities = (
                f'Set task = "{USUAL_TASKS["numbers"]}" if they are quantities, or'
                if isinstance(values[0], int)
                else "Set"
            )
            raise DataError(
                f"data.label: column {name!r} has {len(values):,} distinct values in {len(column):,} rows: "
                "too few rows for each class",
                hint=f"{quantities} data.many_classes = true if they are classes; or name another label column.",
            )
        return cls(tuple(values), names)

    def fit_splits(self, targets: Mapping[str, np.ndarray], *, train: TrainSpec, name: str) -> Fitted:
        """Drop classes that lost all their rows to `skip`; the indices of the others move up."""
        present = self.counts(np.concatenate(list(targets.values()))) > 0
        lost = np.flatnonzero(present & (self.counts(targets["train"]) == 0))
        if len(lost):
            raise DataError(
                "data.label: no usable training row is left of "
                f"{listed(self.class_names[int(i)] for i in lost)} in column {name!r}, which val or test still hold",
                hint="Repair the samples of that class, or leave it out of all files.",
            )
        if present.all():
            return Fitted(self, dict(targets))
        if present.sum() < 2:
            raise DataError(
                f"data.label: only one class of column {name!r} has usable rows",
                hint="Classification needs two or more.",
            )
        new = np.cumsum(present) - 1
        return Fitted(self._only(np.flatnonzero(present)), {split: new[one] for split, one in targets.items()})

    def _only(self, kept: np.ndarray) -> Self:
        """Return the task of some of the classes."""
        names = None if self.names is None else tuple(self.names[i] for i in kept)
        return type(self)(tuple(self.values[i] for i in kept), names)

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.array(self.values[:1]).type

    def encode(
        self,
        column: pa.ChunkedArray,
        *,
        label_names: Sequence[str] | None = None,
        name: str = "labels",
        place: str = "data.label",
    ) -> np.ndarray:
        """Encode labels as class indices (int64 (N,)).

        Classes are compared by name where both sides have names: words are names, and `label_names[v]` is what the
        column's own file calls the integer class v. Else they are compared by value. Raises DataError for a missing
        label, another type, or an unknown class.
        """
        self.check_type(column, name=name, place=place)
        refuse_missing(column, name, place)
        shown, known = self._alike(plain(column), label_names)
        if shown.type != known.type:
            raise DataError(
                f"{place}: column {name!r} holds {shown.type} values, but the classes are {self.arrow_type}: "
                f"{listed(self.values)}",
                hint="Labels must be of the same type everywhere.",
            )
        index = self._index(column, label_names)
        if index.null_count:
            unknown = sorted(shown.filter(pc.is_null(index)).unique().to_pylist())
            what = "a class that does" if len(unknown) == 1 else f"{len(unknown):,} classes that do"
            raise DataError(
                f"{place}: column {name!r} has {what} not occur in the training data: {listed(map(repr, unknown))}",
                hint=f"Known classes: {listed(self.class_names)}. Leave such rows out, or train on them too.",
            )
        return index.to_numpy().astype(np.int64)

    def find(self, column: pa.ChunkedArray, *, label_names: Sequence[str] | None = None) -> np.ndarray:
        """Find class indices (int64 (N,)) as of `encode`; -1 for a missing label, another type or an unknown class."""
        return pc.fill_null(self._index(column, label_names), -1).to_numpy().astype(np.int64)

    def _index(self, column: pa.ChunkedArray, names: Sequence[str] | None) -> pa.ChunkedArray:
        """Find class indices (int32), null where there is none."""
        column, known = self._alike(plain(column), names)
        if column.type != known.type:
            return pa.chunked_array([pa.nulls(len(column), pa.int32())])
        return pc.index_in(column, value_set=known, skip_nulls=True)

    def _alike(self, column: pa.ChunkedArray, names: Sequence[str] | None) -> tuple[pa.ChunkedArray, pa.Array]:
        """Return a plain column and the run's classes, both by name or both by value."""
        words = pt.is_string(self.arrow_type)
        if names is not None and pt.is_integer(column.type) and (self.names or words):
            column = pa.chunked_array([pa.array(names, pa.string()).take(column.combine_chunks())])
        if pt.is_string(column.type) and self.names:
            return column, pa.array(self.names)
        return column, pa.array(self.values, self.arrow_type)

    def decode(self, targets: np.ndarray) -> pa.Array:
        """Return the values of class indices, as int64, string or bool; null for -1."""
        return self._values_at(pa.array(targets, mask=targets < 0))

    def _values_at(self, index: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        return pc.take(pa.array(self.values, self.arrow_type), index)

    def relabelling(self, values: pa.ChunkedArray, names: Sequence[str] | None) -> Relabel | None:
        if names is None:
            return None
        if pt.is_string(self.arrow_type):
            known = pa.array(names)
            return lambda values: known.take(without_minus_one(plain(values)).combine_chunks())
        if self.names is None:
            return None

        def relabel(values: pa.ChunkedArray) -> pa.ChunkedArray:
            return self._values_at(self._index(without_minus_one(plain(values)), names))

        present = values.unique().drop_null()
        own = zip(present.to_pylist(), relabel(pa.chunked_array([present])).to_pylist(), strict=True)
        same = all(new == old or (new is None and old not in self.values) for old, new in own)
        return None if same else relabel

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.info.name,
            "values": list(self.values),
            "names": list(self.names) if self.names else None,
            **({} if self.confidence is None else {"confidence": self.confidence.to_json()}),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        names = tuple(data["names"]) if data.get("names") else None
        found = data.get("confidence")
        return cls(tuple(data["values"]), names, confidence=None if found is None else ClassConfidence.from_json(found))

    # Splits

    @cached_property
    def class_names(self) -> Sequence[str]:
        """Each as `espresso`, or `3 (espresso)` when the value has a name."""
        if self.names is None:
            return tuple(map(str, self.values))
        return tuple(f"{value} ({name})" for value, name in zip(self.values, self.names, strict=True))

    def counts(self, targets: np.ndarray) -> np.ndarray:
        return np.bincount(targets, minlength=len(self))

    @classmethod
    def strata(cls, targets: np.ndarray, bins: int, rng: np.random.Generator) -> np.ndarray:
        return np.unique(targets, return_inverse=True)[1]

    @classmethod
    def needed_in_train(cls, group: np.ndarray, targets: np.ndarray) -> np.ndarray:
        classes = np.unique(targets, return_inverse=True)[1]
        needs = np.zeros((classes.max() + 1, group.max() + 1), bool)
        needs[classes, group] = True
        return needs

    def uncertainty(self, rows: int) -> str:
        return f"an accuracy of {EXAMPLE_SHARE:.2f} on them has a 95% interval of {wilson_text(rows)}"

    # The model

    @property
    def outputs(self) -> int:
        return len(self.values)

    def class_weights(self, targets: np.ndarray, given: str | dict[str, float]) -> np.ndarray | None:
        if given == "none":
            return None
        if given == "balanced":
            return len(targets) / (len(self) * self.counts(targets))  # as scikit-learn's "balanced"
        assert isinstance(given, dict)
        classes = [str(value) for value in self.values]
        unknown = [name for name in given if name not in classes]
        missing = [name for name in classes if name not in given]
        if unknown or missing:
            parts = [f"no class {name!r}" for name in unknown] + [f"no weight for class {name!r}" for name in missing]
            raise SpecError(
                "train.class_weights: " + "; ".join(parts), hint="Give one weight for each class, by its value."
            )
        return np.array([given[name] for name in classes])

    def constant_logits(self, targets: np.ndarray, class_weights: np.ndarray | None) -> np.ndarray:
        shares = np.maximum(self.counts(targets).astype(np.float32), 1e-6)
        if class_weights is not None:
            shares = shares * class_weights.astype(np.float32)
        return np.log(shares / shares.sum())

    def explained_output(self, logits: np.ndarray) -> np.ndarray:
        return logits.argmax(axis=1)

    def comparable(self, logits: np.ndarray) -> np.ndarray:
        return self.probabilities(logits)

    # Predictions and scores

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Log probabilities (N, classes) up to a constant of each row, before calibration."""
        return logits

    def uncalibrated(self, logits: np.ndarray) -> np.ndarray:
        """Return the model's own probabilities, float64 (N, classes); rows sum to 1."""
        return softmax(logits)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities, float64 (N, classes), whose rows sum to 1; calibrated where val has shown how."""
        if self.confidence is None or self.confidence.calibrator.method == "none":
            return self.uncalibrated(logits)
        return self.confidence.calibrator.of_classes(self.scores(logits))

    def predictions(self, logits: np.ndarray) -> dict[str, pa.Array]:
        """Return `prediction` in the class's own value, `probabilities` in the order of labels.json, and `confidence`.

        With what was fitted to val also `expected_error` at that confidence, and `prediction_set`.
        """
        chances = self.probabilities(logits)
        columns = {
            "prediction": self.decode(chances.argmax(axis=1)),
            "probabilities": lists(chances),
            "confidence": pa.array(chances.max(axis=1)),
        }
        if self.confidence is not None:
            columns["expected_error"] = pa.array(self.confidence.errors.at(chances.max(axis=1)))
            inside = self.confidence.sets(self.set_scores(chances), chances)
            columns["prediction_set"] = set_column(inside, pa.array(self.values, self.arrow_type))
        return columns

    def score(self, logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        return classification_metrics(truth, self.probabilities(logits), self, self.info.name)

    def baseline(self, truth: np.ndarray, train: np.ndarray) -> dict[str, Any]:
        return classification_baseline(truth, train, self).to_json()

    # Confidence

    def set_scores(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the nonconformity (N, classes) of each class."""
        return class_scores(probabilities)

    def with_confidence(self, held_out: HeldOut, calibration: CalibrationSpec) -> Self:
        """Add a calibrator, the expected error and conformal sets.

        The last two are fitted to probabilities of each row from calibrators that were fitted to other rows.
        """
        held_out = replace(held_out, logits=self.scores(held_out.logits))
        choice = choose(ClassLink(len(self), held_out.prior), held_out, calibration.method)
        chances = choice.probabilities
        errors = ExpectedError.fit(chances.max(axis=1), chances.argmax(axis=1) == held_out.truth)
        quantiles = fit_quantiles(self.set_scores(chances), held_out, calibration.coverage)
        return replace(self, confidence=ClassConfidence.of(choice, errors, calibration.coverage, quantiles))

    def confidences(self, logits: np.ndarray) -> np.ndarray | None:
        return np.asarray(self.probabilities(logits).max(axis=1))

    def confidence_metrics(self, logits: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        if self.confidence is None or not len(truth):
            return {}
        after = self.probabilities(logits)
        found = class_metrics(self.uncalibrated(logits), after, truth)
        inside = self.confidence.sets(self.set_scores(after), after)
        found["confidence"] |= set_metrics(inside, truth, self.confidence.coverage) | self.confidence.about
        return found


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis of (N, C), in float64."""
    chances = logits.astype(np.float64)
    chances -= chances.max(axis=1, keepdims=True)
    np.exp(chances, out=chances)
    chances /= chances.sum(axis=1, keepdims=True)
    return chances


def lists(values: np.ndarray) -> pa.Array:
    """Return a list for each row of (N, C)."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))


def _refuse_twice(names: Sequence[str], column: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"data.label: the metadata gives several classes of column {column!r} one name: {listed(map(repr, twice))}",
            hint="Labels are compared by name: give each class a name of its own.",
        )

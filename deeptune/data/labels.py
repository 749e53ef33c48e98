"""What a label column means: classes with an index, or numbers with a mean and a spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.arrow import bare_values, in_words, is_bytes, is_uuid, text_of
from deeptune.errors import DataError, listed

ClassValue = int | str | bool

MANY_CLASSES = 10  # a data set may be tiny; more classes than this need two rows each and more


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A label column as one of int64, string, bool, double or null; other types are left as they are.

    Dictionary encoding and extension types are undone, and bytes that are UTF-8 are text. Decimals without decimal
    places are integers; others, small floats and integers beyond 64 bits with a sign become double, exact to 53 bits.
    """
    named = is_uuid(column.type)
    column = bare_values(column)
    column = column if named else text_of(column)
    kind = column.type
    if pt.is_integer(kind) or (pt.is_decimal(kind) and kind.scale == 0):
        return _integers(column)
    if pt.is_floating(kind) or pt.is_decimal(kind):
        return column.cast(pa.float64())
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return column.cast(pa.string()) if kind != pa.string() else column
    return column


def _integers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column.cast(pa.float64(), safe=False)


def missing(column: pa.ChunkedArray) -> np.ndarray:
    """Which labels say nothing (bool, one per row): null, NaN, infinite, or an empty string."""
    column = plain(column)
    absent = pc.is_null(column)
    if pt.is_floating(column.type):
        absent = pc.or_(absent, pc.fill_null(pc.invert(pc.is_finite(column)), True))
    elif pt.is_string(column.type):
        absent = pc.or_(absent, pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True))
    return absent.to_numpy()


def check_type(column: pa.ChunkedArray, *, task: str, name: str, place: str = "data.label") -> None:
    """Raise DataError when a column's type cannot be the label of `task`."""
    kind = plain(column).type
    said = f"{place}: column {name!r} holds {in_words(column.type)}"
    if pt.is_null(kind):
        raise DataError(
            f"{place}: every value of column {name!r} is null", hint="Name the column that holds the labels."
        )
    if task == "regression":
        if not (pt.is_integer(kind) or pt.is_floating(kind)):
            classes = pt.is_string(kind) or pt.is_boolean(kind)
            hint = (
                'Cast the column to numbers, or set task = "classification".'
                if classes
                else "Name a column of numbers."
            )
            raise DataError(f"{said}, and regression needs numbers", hint=hint)
    elif pt.is_floating(kind):
        values = plain(column).drop_null()
        whole = len(values) > 0 and bool(pc.all(pc.equal(values, pc.floor(values))).as_py())
        raise DataError(
            f"{said}, and classes are integers, strings or booleans",
            hint='Set task = "regression" to predict numbers'
            + (
                "; if these whole numbers are classes, cast the column to integers."
                if whole
                else ", or name another label column."
            ),
        )
    elif not (pt.is_integer(kind) or pt.is_string(kind) or pt.is_boolean(kind)):
        raise DataError(
            f"{said}, and classes are integers, strings or booleans",
            hint="They are not UTF-8 text: decode them to strings, or name another column."
            if is_bytes(kind)
            else "Cast the column, or name another one.",
        )


@dataclass(frozen=True)
class ClassLabels:
    """The classes in the order of their index: sorted by value. `names` are shown beside the values."""

    values: tuple[ClassValue, ...]
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def fit(
        cls,
        column: pa.ChunkedArray,
        *,
        label_names: Sequence[str] | None = None,
        name: str = "labels",
        many: bool = False,
    ) -> ClassLabels:
        """The classes of a column without missing labels; `label_names[v]` names the integer class v.

        Raises DataError for a type that is no class, for one class, for two classes of one name, and for almost as many
        classes as rows, unless they have names or `many` allows it.
        """
        check_type(column, task="classification", name=name)
        column = plain(column)
        values = sorted(column.unique().to_pylist())
        if len(values) < 2:
            only = f"only one class, {values[0]!r}," if values else "no class"
            raise DataError(f"data.label: there is {only} in column {name!r}", hint="Classification needs two or more.")
        names = None
        if label_names is not None and all(type(v) is int and 0 <= v < len(label_names) for v in values):
            names = tuple(label_names[v] for v in values)
            _refuse_twice(names, name)
        if not many and names is None and len(values) > MANY_CLASSES and 2 * len(values) >= len(column):
            quantities = 'Set task = "regression" if they are quantities, or' if isinstance(values[0], int) else "Set"
            raise DataError(
                f"data.label: column {name!r} has {len(values):,} distinct values in {len(column):,} rows: "
                "too few rows for each class",
                hint=f"{quantities} data.many_classes = true if they are classes; or name another label column.",
            )
        return cls(tuple(values), names)

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.array(self.values[:1]).type

    def find(self, column: pa.ChunkedArray, *, label_names: Sequence[str] | None = None) -> pa.ChunkedArray:
        """Class indices (int32), null for a missing label, another type and an unknown class.

        Classes are compared by name where both sides have names: words are names, and `label_names[v]` is what the
        column's own file calls the integer class v. Else they are compared by value.
        """
        column, known = self._alike(plain(column), label_names)
        if column.type != known.type:
            return pa.chunked_array([pa.nulls(len(column), pa.int32())])
        return pc.index_in(column, value_set=known, skip_nulls=True)

    def _alike(self, column: pa.ChunkedArray, names: Sequence[str] | None) -> tuple[pa.ChunkedArray, pa.Array]:
        """A plain column and the run's classes, both by name or both by value."""
        words = pt.is_string(self.arrow_type)
        if names is not None and pt.is_integer(column.type) and (self.names or words):
            column = pa.chunked_array([pa.array(names, pa.string()).take(column.combine_chunks())])
        if pt.is_string(column.type) and self.names:
            return column, pa.array(self.names)
        return column, pa.array(self.values, self.arrow_type)

    def encode(
        self,
        column: pa.ChunkedArray,
        *,
        label_names: Sequence[str] | None = None,
        name: str = "labels",
        place: str = "data.label",
    ) -> np.ndarray:
        """Class indices (int64), as `find` compares classes. Raises DataError for a missing label, another type, or an
        unknown class."""
        check_type(column, task="classification", name=name, place=place)
        _refuse_missing(column, name, place)
        shown, known = self._alike(plain(column), label_names)
        if shown.type != known.type:
            raise DataError(
                f"{place}: column {name!r} holds {shown.type} values, but the classes are {self.arrow_type}: "
                f"{listed(self.values)}",
                hint="Labels must be of the same type everywhere.",
            )
        index = self.find(column, label_names=label_names)
        if index.null_count:
            unknown = sorted(shown.filter(pc.is_null(index)).unique().to_pylist())
            what = "a class that does" if len(unknown) == 1 else f"{len(unknown):,} classes that do"
            raise DataError(
                f"{place}: column {name!r} has {what} not occur in the training data: {listed(map(repr, unknown))}",
                hint=f"Known classes: {listed(map(self.display, range(len(self))))}. "
                "Leave such rows out, or train on them too.",
            )
        return index.to_numpy().astype(np.int64)

    def decode(self, index: int) -> ClassValue:
        """The value of a class."""
        return self.values[index]

    def decode_all(self, indices: np.ndarray | pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        """The values of many classes, as int64, string or bool; null for a null."""
        places = pa.array(indices) if isinstance(indices, np.ndarray) else indices
        return pc.take(pa.array(self.values, self.arrow_type), places)

    def display(self, index: int) -> str:
        """`espresso`, or `3 (espresso)` when the value has a name."""
        return str(self.values[index]) if self.names is None else f"{self.values[index]} ({self.names[index]})"

    def to_json(self) -> dict[str, Any]:
        return {
            "task": "classification",
            "values": list(self.values),
            "names": list(self.names) if self.names else None,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ClassLabels:
        return cls(tuple(data["values"]), tuple(data["names"]) if data.get("names") else None)


@dataclass(frozen=True)
class NumberLabels:
    """Mean and standard deviation (of the population) of the training split's targets, in their own unit.

    With `train.loss = "huber"`, those of the targets that are not far outside the others.
    """

    mean: float
    std: float

    @classmethod
    def fit(cls, targets: np.ndarray, *, name: str = "labels") -> NumberLabels:
        """From float64 targets. Raises DataError when they are constant: there is nothing to predict."""
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
                f"data.label: the values of column {name!r} are too large or too close together for 64-bit numbers"
            )
        return cls(mean, std)

    def encode(self, column: pa.ChunkedArray, *, name: str = "labels", place: str = "data.label") -> np.ndarray:
        """The numbers (float64) in their own unit. Raises DataError for a missing label or a type that is no number."""
        return numbers(column, name=name, place=place)

    def standardise(self, targets: np.ndarray) -> np.ndarray:
        return (targets - self.mean) / self.std

    def restore(self, standardised: np.ndarray) -> np.ndarray:
        """Back to the original unit, in float64."""
        return np.asarray(standardised, np.float64) * self.std + self.mean

    def to_json(self) -> dict[str, Any]:
        return {"task": "regression", "mean": self.mean, "std": self.std}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> NumberLabels:
        return cls(float(data["mean"]), float(data["std"]))


Labels = ClassLabels | NumberLabels


def labels_from_json(data: dict[str, Any]) -> Labels:
    """What `to_json` of either kind wrote."""
    return ClassLabels.from_json(data) if data["task"] == "classification" else NumberLabels.from_json(data)


def numbers(column: pa.ChunkedArray, *, name: str = "labels", place: str = "data.label") -> np.ndarray:
    """A column of any numeric type as float64, without missing labels; see NumberLabels.encode."""
    check_type(column, task="regression", name=name, place=place)
    _refuse_missing(column, name, place)
    return plain(column).to_numpy().astype(np.float64)


def _refuse_twice(names: Sequence[str], column: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"data.label: the metadata gives several classes of column {column!r} one name: {listed(map(repr, twice))}",
            hint="Labels are compared by name: give each class a name of its own.",
        )


def _refuse_missing(column: pa.ChunkedArray, name: str, place: str) -> None:
    rows = np.flatnonzero(missing(column))
    if len(rows):
        raise DataError(
            f"{place}: {len(rows):,} of {len(column):,} labels in column {name!r} are missing "
            f"(null, NaN, infinite, empty, or -1 in a ClassLabel column): rows {listed(rows)}",
            hint="Fill them in or leave these rows out.",
        )

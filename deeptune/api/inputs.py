"""What a Python program has at hand, as a source: a path, a table, or a list of samples."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from deeptune.data.modalities import MODALITIES, ColumnModality
from deeptune.data.sources.memory import MemorySource
from deeptune.data.sources.parquet import folder_of_names
from deeptune.data.sources.source import Source
from deeptune.errors import DataError, did_you_mean, listed
from deeptune.formatting import counted
from deeptune.spec.modalities import Input, columns_of

ACCEPTED = (
    "a path, a pandas, polars or pyarrow table, a dictionary of columns, or a list of texts, images or names of files"
)


@dataclass(frozen=True)
class Columns:
    """The columns that a model reads: the modality and names of its input, and the label."""

    modality: str
    input: Input
    label: Input


def source_of(x: Any, columns: Columns, *, y: Any = None, labelled: bool = False, root: str | None = None) -> Source:
    """`x` as a source, with the labels `y` beside it where they are given.

    `labelled` asks for the label column of a table. Names of files start at `root`, by default at the folder of their
    Parquet file, or at the current folder. Raises DataError that names the argument and the row.
    """
    if isinstance(x, Source):
        return x
    if isinstance(x, (str, os.PathLike)):
        if y is not None:
            raise DataError("y: the labels of a file are in the file", hint=f"Its label column is {columns.label!r}.")
        return Source.open(os.fspath(x), key="x", root=root)
    found = _columns_of_table(x)
    if found is None:
        names = columns_of(columns.input)
        samples = _samples(x, len(names))
        found = {name: [sample[at] for sample in samples] for at, name in enumerate(names)} if names[1:] else {}
        found = found or {names[0]: samples}
    if y is not None:
        found = {**found, **_labels(y, columns.label)}
    wanted = [*columns_of(columns.input), *(columns_of(columns.label) if labelled else [])]
    table = {name: _column(found, name, columns, given=y is not None) for name in wanted}
    _require_equal_lengths(table)
    return MemorySource(pa.table(table), key="x", root=folder_of_names(root))


def _labels(y: Any, label: Input) -> dict[str, Any]:
    """Return the label columns of `y`: a sequence, or for several columns a table of them or an array (N, columns)."""
    if isinstance(label, str):
        return {label: _sequence(y, "y")}
    table = _columns_of_table(y)
    if table is not None:
        return table
    values = np.asarray(_sequence(y, "y"))
    if values.ndim != 2 or values.shape[1] != len(label):
        raise DataError(f"y: expected {len(label)} values for each row, one for each of {listed(label)}")
    return dict(zip(label, values.T, strict=True))


def _column(found: Mapping[str, Any], name: str, columns: Columns, *, given: bool) -> pa.Array | pa.ChunkedArray:
    if name not in found:
        if name in columns_of(columns.label) and not given:
            raise DataError("y: there are no labels", hint=f"Give y, or a table with a column {name!r}.")
        near = did_you_mean(name, list(found))
        raise DataError(f"x: there is no column {name!r}. {near}".rstrip(), hint=f"Its columns: {listed(found)}.")
    values = found[name]
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if name in columns_of(columns.input):
        try:
            return _modality_of(name, columns).column(_sequence(values, "x"))
        except DataError as error:
            raise DataError(f"x: {error.message}", hint=error.hint) from None
    key = "y" if given else "x"
    try:
        return pa.array(_sequence(values, key), from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"{key}: the labels are not of one type: {error}") from error


def _modality_of(name: str, columns: Columns) -> ColumnModality:
    parts = MODALITIES[columns.modality].parts(columns.input).values()
    return next(modality for modality, held in parts if name in columns_of(held))


def _columns_of_table(x: Any) -> dict[str, Any] | None:
    """Columns by name; None for what is no table."""
    if isinstance(x, pa.RecordBatch):
        x = pa.Table.from_batches([x])
    if isinstance(x, pa.Table):
        names = x.column_names
    elif isinstance(x, Mapping):
        return dict(x)
    elif hasattr(x, "columns") and hasattr(x, "__getitem__") and not hasattr(x, "collect"):  # pandas, polars
        names = list(x.columns)
    else:
        return None
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"x: there are two columns named {twice[0]!r}", hint="Rename them apart.")
    return {str(name): _arrow_column(x[name]) for name in names}


def _arrow_column(values: Any) -> Any:
    """Return a column of polars as Arrow's; others as they are."""
    return values.to_arrow() if hasattr(values, "to_arrow") else values


def _samples(x: Any, columns: int) -> Sequence[Any]:
    """Return one sample a row, or several of them in a tuple where the model reads several columns."""
    if isinstance(x, np.ndarray):
        x = _rows_of_array(x)
    samples = _sequence(x, "x")
    for row, sample in enumerate(samples if columns > 1 else ()):
        if not isinstance(sample, (tuple, list)) or len(sample) != columns:
            raise DataError(
                f"x: row {row} is no tuple of {columns} samples", hint=f"The model reads {columns} columns."
            )
    return samples


def _rows_of_array(x: np.ndarray) -> np.ndarray:
    if x.ndim == 2 and x.shape[1] == 1:
        return x[:, 0]  # a table of one column, as scikit-learn passes it
    one = x.ndim == 0 or (x.dtype.kind in "uifb" and (x.ndim == 2 or (x.ndim == 3 and x.shape[2] in (1, 3, 4))))
    if one or (x.dtype.kind in "uifb" and x.ndim == 1):
        raise DataError(
            f"x: an array of {x.dtype} {x.shape} is not a list of samples",
            hint="Put one image into a list: [x]. Several are an array (N, H, W) or (N, H, W, 3), or a list.",
        )
    return x


def _sequence(values: Any, key: str) -> Sequence[Any]:
    """Return a list of Python values, or an array whose items are samples."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.to_pylist()
    if isinstance(values, np.ndarray):
        return values.tolist() if values.ndim <= 2 else values  # type: ignore[return-value]
    if hasattr(values, "to_list"):  # a series of pandas or polars
        return values.to_list()
    if isinstance(values, (bytes, str)) or not hasattr(values, "__iter__"):
        raise DataError(
            f"{key}: expected {ACCEPTED if key == 'x' else 'a list of labels'}, got a {type(values).__name__}",
            hint=f"Put one sample into a list: [{key}]." if key == "x" else None,
        )
    if isinstance(values, Set):
        raise DataError(f"{key}: a {type(values).__name__} has no order, so no row could be told", hint="Give a list.")
    return list(values)


def _require_equal_lengths(table: Mapping[str, pa.Array | pa.ChunkedArray]) -> None:
    (first, values), *others = table.items()
    for name, column in others:
        if len(column) != len(values):
            labels, samples = counted(len(column), "label"), counted(len(values), "sample")
            raise DataError(f"y: {labels} ({name!r}) for {samples} ({first!r})")

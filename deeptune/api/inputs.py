"""The inputs of the Python interface as a source: a path, a table, or a list of samples."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from deeptune.data.images.column_values import IMAGE_SUFFIXES
from deeptune.data.modalities import MODALITIES, ColumnModality
from deeptune.data.sources.memory import MemorySource
from deeptune.data.sources.parquet import folder_of_names, open_source
from deeptune.data.sources.source import Source
from deeptune.errors import DataError, did_you_mean, listed
from deeptune.formatting import counted, kind_of
from deeptune.spec.modalities import Input, columns_of
from deeptune.spec.sources import is_data

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
    """Return `x` as a source, with the labels `y` beside it where they are given.

    `labelled` asks for the label column of a table. Names of files start at `root`, by default at the folder of their
    Parquet file, or at the current folder. Raises DataError that names the argument and the row.
    """
    if isinstance(x, Source):
        return x
    if isinstance(x, (str, os.PathLike)):
        if y is not None:
            raise DataError("y: the labels of a file are in the file", hint=f"Its label column is {columns.label!r}.")
        return _opened(os.fspath(x), columns, root)
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
    source = MemorySource(pa.table(table), key="x", root=folder_of_names(root))
    source.label_key = "x" if y is None else "y"
    return source


def _opened(path: str, columns: Columns, root: str | None) -> Source:
    """Open the data at a path. Where it is one sample, the error says how to give it."""
    kinds = list(MODALITIES[columns.modality].parts(columns.input))
    one = os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES and not is_data(path)
    if one and kinds == ["image"]:
        raise DataError(f"x: {path} is one image, and a path is that of a table or folder", hint=f"Give [{path!r}].")
    try:
        return open_source(path, key="x", root=root)
    except DataError as error:
        if kinds != ["text"] or os.path.exists(path):
            raise
        raise DataError(error.message, hint=f"{error.hint or ''} One text goes into a list: [x].".lstrip()) from None


def _labels(y: Any, label: Input) -> dict[str, Any]:
    """Return the label columns of `y`: a sequence or a table with one column; for several a table or (N, columns)."""
    table = _columns_of_table(y)
    if isinstance(label, str):
        if table is not None and label not in table and len(table) != 1:
            raise DataError(f"y: there is no column {label!r}", hint=f"Its columns: {listed(table)}.")
        values = y if table is None else table.get(label, next(iter(table.values())))
        column = isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1
        return {label: _sequence(values[:, 0] if column else values, "y")}
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
            samples = _rows_of_array(values) if isinstance(values, np.ndarray) else values
            return _modality_of(name, columns).column(_sequence(samples, "x"))
        except DataError as error:
            raise DataError(f"x: {error.message.removeprefix('x: ')}", hint=error.hint) from None
    key = "y" if given else "x"
    try:
        return pa.array(_sequence(values, key), from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"{key}: the labels are not of one type: {error}") from error


def _modality_of(name: str, columns: Columns) -> ColumnModality:
    parts = MODALITIES[columns.modality].parts(columns.input).values()
    return next(modality for modality, held in parts if name in columns_of(held))


def _columns_of_table(x: Any) -> dict[str, Any] | None:
    """Return columns by name; None for what is not a table."""
    if isinstance(x, pa.RecordBatch):
        x = pa.Table.from_batches([x])
    if isinstance(x, pa.RecordBatchReader):
        x = x.read_all()
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
                f"x: row {row} is not a tuple of {columns} samples", hint=f"The model reads {columns} columns."
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
    if isinstance(values, (bytes, str)) or not hasattr(values, "__iter__") or hasattr(values, "read"):
        expected = ACCEPTED if key == "x" else "a list of labels"
        raise DataError(f"{key}: expected {expected}, got {kind_of(values)}", hint=_remedy(values, key))
    if isinstance(values, Set):
        raise DataError(f"{key}: a {type(values).__name__} has no order, so it has no rows", hint="Give a list.")
    return list(values)


def _remedy(value: Any, key: str) -> str | None:
    """Return what makes a list or table of a value that is none."""
    if hasattr(value, "collect"):
        return f"Compute it first: {key}.collect()."
    if key != "x" or value is None:
        return None
    return "Put its content into a list: [x.read()]." if hasattr(value, "read") else "Put one sample into a list: [x]."


def _require_equal_lengths(table: Mapping[str, pa.Array | pa.ChunkedArray]) -> None:
    (first, values), *others = table.items()
    for name, column in others:
        if len(column) != len(values):
            labels, samples = counted(len(column), "label"), counted(len(values), "sample")
            raise DataError(f"y: {labels} ({name!r}) for {samples} ({first!r})")

"""The columns that the section `report` of a spec names: checked before training, stored for the test rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deeptune.arrow import keys_of, shown
from deeptune.data.sources.source import Source
from deeptune.errors import DataError
from deeptune.spec.report_spec import ReportSpec, crossed

MAX_SUBGROUPS = 60  # values of one entry of report.by


def check_report_columns(report: ReportSpec, sources: Mapping[str, Source]) -> None:
    """Raise DataError where the file of the test rows lacks a column, or one has too many values for subgroups."""
    source = sources.get("test", sources["train"])
    for name in report.by:
        columns = crossed(name, source.column_names)
        for column in columns:
            _require(source, column, key="report.by")
        keys = pa.table({str(at): _keys(source, column) for at, column in enumerate(columns)})
        values = keys.group_by(keys.column_names).aggregate([]).num_rows
        if values > MAX_SUBGROUPS:
            raise DataError(
                f"report.by: {name!r} has {values:,} distinct values, more than {MAX_SUBGROUPS} subgroups",
                hint="Name columns of few values, such as a scanner or an age band; report.unit takes a patient.",
            )
    if report.unit is not None:
        _require(source, report.unit, key="report.unit")


def _require(source: Source, name: str, *, key: str) -> None:
    source.require(name, key=key)
    if _keys(source, name) is None:
        raise DataError(
            f"{key}: column {name!r} holds {source.schema.field(name).type}",
            hint="It needs one plain type, such as strings or integers.",
        )


def _keys(source: Source, name: str) -> pa.ChunkedArray:
    return keys_of(source.column(name))


def report_columns(source: Source, rows: np.ndarray, report: ReportSpec) -> pa.Table | None:
    """Return `row` of each of the test `rows` and `values`, a struct of the named columns as text.

    None where no column is named.
    """
    names = dict.fromkeys(column for name in report.by for column in crossed(name, source.column_names))
    if report.unit is not None:
        names[report.unit] = None
    if not names or not len(rows):
        return None
    columns = [_texts(source.take(name, rows)) for name in names]
    return pa.table({"row": pa.array(rows, pa.int64()), "values": pa.StructArray.from_arrays(columns, list(names))})


def _texts(values: pa.ChunkedArray) -> pa.Array:
    """Write each value as text, null where it is missing."""
    keys = keys_of(values)
    assert keys is not None  # as checked
    encoded = keys.combine_chunks().dictionary_encode()
    words = pa.array([shown(value) for value in encoded.dictionary], pa.string())
    absent = pc.is_null(keys, nan_is_null=True).to_numpy()
    index = encoded.indices.to_numpy(zero_copy_only=False)
    return words.take(pa.array(np.where(absent, 0, index).astype(np.int64), mask=absent))

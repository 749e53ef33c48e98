"""Parquet and CSV files that a reader sees whole or not at all, written a table after the other."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pyarrow.types as pt

from deeptune.arrow import bare_values, is_bytes, shown
from deeptune.runs.files import replacing, storage_errors

Keep = Callable[[Callable[[], None]], None]  # does a write, if need be again: RunLogger.keep

CSV = ".csv"
_LISTS = (pa.ListType, pa.FixedSizeListType)


def write_table(table: pa.Table, path: Path) -> None:
    """Write Parquet so that a reader sees all of it or nothing. Raises CheckpointError when it can't."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def once(write: Callable[[], None]) -> None:
    """Write once, without a second try."""
    write()


class _PatientFile(io.RawIOBase):
    """A new file in which each write is done by `keep`. `name` is what errors call it."""

    def __init__(self, path: Path, name: Path, keep: Keep) -> None:
        self._file, self._name, self._keep = path.open("wb", buffering=0), name, keep
        self._written = 0
        self._abandoned = False

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, content: Any) -> int:
        left = memoryview(content).cast("B")
        size = len(left)

        def write_some() -> None:
            nonlocal left
            with storage_errors(self._name):
                while left:
                    left = left[self._file.write(left) :]

        if not self._abandoned:
            self._keep(write_some)
        self._written += size
        return size

    def abandon(self) -> None:
        """Write nothing more: what there is will be removed."""
        self._abandoned = True

    def close(self) -> None:
        def sync() -> None:
            with storage_errors(self._name):
                os.fsync(self._file.fileno())

        if not self._file.closed:
            try:
                if not self._abandoned:
                    self._keep(sync)  # some file systems find only now that they are full
            finally:
                self._file.close()
        super().close()


@contextmanager
def table_file(path: Path, keep: Keep = once) -> Iterator[Callable[[pa.Table], None]]:
    """Write a Parquet file of which each table becomes a row group, or a CSV file where the name ends with `.csv`.

    One table has to be written at least. Raises CheckpointError when it can't be written.
    """
    with replacing(path) as temporary, _PatientFile(temporary, path, keep) as file:
        writer: pq.ParquetWriter | pa_csv.CSVWriter | None = None
        csv = path.suffix.lower() == CSV

        def write(table: pa.Table) -> None:
            nonlocal writer
            table = flat(table) if csv else table
            if writer is None and csv:
                writer = pa_csv.CSVWriter(file, table.schema)
            elif writer is None:
                # No two numbers of an embedding are alike: to look for a dictionary takes twice the time and more room.
                repeated = [field.name for field in table.schema if not isinstance(field.type, _LISTS)]
                writer = pq.ParquetWriter(file, table.schema, use_dictionary=repeated)
            if isinstance(writer, pq.ParquetWriter):
                writer.write_table(table, row_group_size=max(1, table.num_rows))
            elif table.num_rows:
                writer.write_table(table)

        try:
            yield write
        except BaseException:
            file.abandon()
            raise
        finally:
            if writer is not None:
                writer.close()


def flat(table: pa.Table) -> pa.Table:
    """Give each column of a table a type that CSV has: lists and records become JSON, bytes hexadecimal digits."""
    return pa.table({name: _flat(column) for name, column in zip(table.column_names, table.columns, strict=True)})


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray:
    column = bare_values(column)
    kind = column.type
    if pt.is_float16(kind):
        return column.cast(pa.float32())
    if pt.is_nested(kind):
        texts = [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if is_bytes(kind):
        return pa.chunked_array([pa.array([None if v is None else v.hex() for v in column.to_pylist()], pa.string())])
    if pt.is_duration(kind) or pt.is_interval(kind) or pt.is_decimal(kind):
        texts = [shown(value) if value.is_valid else None for value in column]
        return pa.chunked_array([pa.array(texts, pa.string())])
    return column if not pt.is_null(kind) else pc.cast(column, pa.string())

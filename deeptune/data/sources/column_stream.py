"""Columns of a Parquet file, read in pieces: one after the other, or all for as long as there is memory for it.

A file of a few kilobytes may honestly hold gigabytes: one long value in a dictionary and a million references to it,
or zeros that compress to nothing. What a footer says of sizes is a claim like any other, so what counts is what has
been read so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from deeptune.arrow import is_bytes, is_text
from deeptune.data.cache.records import TooLarge
from deeptune.memory import memory

PIECE = 2**28  # bytes that values of a dictionary may take at once
_ROWS = 65_536
# Bytes that are read of a file at once; Arrow would read a whole row group otherwise. Each column has a buffer.
_BUFFER, _SMALLEST_BUFFER, _BUFFERS = 2**20, 2**14, 2**25


def room() -> int:
    """Return the bytes of memory that are free. The system would end this process for more than these."""
    return memory().free


def read_columns(file: Path, names: Sequence[str], *, timestamps: str = "ns") -> list[pa.RecordBatch]:
    """Read columns in pieces.

    Raises TooLarge when their values take more memory than is free, and what Arrow raises.
    """
    free, size = room(), 0
    batches: list[pa.RecordBatch] = []
    for batch in stream_columns(file, names, timestamps=timestamps):
        size += sum(map(_decoded_size, batch.columns))
        if size > free:
            raise TooLarge(f"it takes more than the {free / 1e9:.1f} GB of memory that are free")
        batches.append(batch)
    return batches


def stream_columns(
    file: Path, names: Sequence[str], *, rows: int = _ROWS, start: int = 0, timestamps: str = "ns"
) -> Iterator[pa.RecordBatch]:
    """Yield columns, in the order of `names`, from the row `start` on, in batches of at most `rows` rows.

    Memory holds a batch, and a page of each column: also where all rows are one row group, as pandas writes them. The
    footer is read once, whatever the number of columns. `timestamps` is the unit that INT96 is read in.
    """
    buffer = min(_BUFFER, max(_SMALLEST_BUFFER, _BUFFERS // max(1, len(names))))
    with pq.ParquetFile(file, buffer_size=buffer, pre_buffer=False, coerce_int96_timestamp_unit=timestamps) as parquet:
        longest = max(_dictionary_values(file, parquet, names), default=0)
        rows = max(1, min(rows, PIECE // max(1, longest)))
        for group in range(parquet.num_row_groups):
            count = parquet.metadata.row_group(group).num_rows
            if start >= count > 0:
                start -= count
                continue
            for batch in parquet.iter_batches(
                batch_size=rows, row_groups=[group], columns=list(names), use_threads=False
            ):
                passed = min(start, len(batch))
                start -= passed
                if passed < len(batch):
                    batch = batch.select(list(names))
                    # text that is not UTF-8, or an index out of its dictionary, would fail or crash later
                    batch.validate(full=True)
                    yield batch.slice(passed)


def _dictionary_values(file: Path, parquet: pq.ParquetFile, names: Sequence[str]) -> Iterator[int]:
    """Yield, for each row group whose dictionaries could matter, the length of the longest values of a row in them.

    The schema and the row groups say enough: to ask pyarrow for the metadata of a damaged column ends the process.
    """
    schema = parquet.schema_arrow
    asked = set(names)
    varying = [field.name for field in schema if field.name in asked and not pt.is_primitive(field.type)]
    if not varying:
        return  # numbers are all of one length
    paths: list[str] | None = None
    for group in range(parquet.num_row_groups):
        claimed = parquet.metadata.row_group(group)
        if claimed.num_rows * claimed.total_byte_size <= PIECE:
            continue
        paths = paths if paths is not None else _leaves(parquet, varying)
        with pq.ParquetFile(
            file, metadata=parquet.metadata, read_dictionary=paths, buffer_size=_SMALLEST_BUFFER, pre_buffer=False
        ) as encoded:
            first = next(encoded.iter_batches(batch_size=1, row_groups=[group], columns=varying), None)
        if first is not None:
            yield sum(map(_longest, first.columns))


def _leaves(parquet: pq.ParquetFile, names: Sequence[str]) -> list[str]:
    """Return the paths of what columns are made of."""
    asked = set(names)
    paths = (parquet.schema.column(index).path for index in range(len(parquet.schema)))
    return [path for path in paths if path in asked or path.partition(".")[0] in asked]


def _longest(array: pa.Array) -> int:
    if pt.is_struct(array.type):
        return max(map(_longest, array.flatten()), default=0)
    if not pt.is_dictionary(array.type) or not _has_length(array.type.value_type) or not len(array.dictionary):
        return 0
    return pc.max(pc.binary_length(array.dictionary)).as_py() or 0


def _decoded_size(array: pa.Array) -> int:
    """Count the bytes of an array, with the values of a dictionary as often as they are referred to."""
    if not pt.is_dictionary(array.type) or not _has_length(array.type.value_type):
        return array.nbytes
    return array.nbytes + (pc.sum(pc.binary_length(array.dictionary).take(array.indices)).as_py() or 0)


def _has_length(kind: pa.DataType) -> bool:
    return is_text(kind) or is_bytes(kind)

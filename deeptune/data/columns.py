"""A column of a Parquet file, read in pieces: one after the other, or all for as long as there is memory for it.

A file of a few kilobytes may honestly hold gigabytes: one long value in a dictionary and a million references to it,
or zeros that compress to nothing. What a footer says of sizes is a claim like any other, so what counts is what has
been read so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

PIECE = 2**28  # bytes that values of a dictionary may take at once
_ROWS = 65_536
_BUFFER = 2**20  # bytes that are read of a file at once; Arrow would read a whole row group otherwise


class TooLarge(Exception):
    """What was asked for does not fit in memory; the text says what and how large."""


def room() -> int:
    """Bytes of memory that are free. What does not fit in them the system would end this process for."""
    return psutil.virtual_memory().available


def read_column(file: Path, name: str) -> list[pa.Array]:
    """A column in chunks. Raises TooLarge when its values take more memory than is free, and what Arrow raises."""
    free, size = room(), 0
    chunks: list[pa.Array] = []
    for chunk in stream_column(file, name):
        size += _decoded_size(chunk)
        if size > free:
            raise TooLarge(f"it takes more than the {free / 1e9:.1f} GB of memory that are free")
        chunks.append(chunk)
    return chunks


def stream_column(file: Path, name: str, *, rows: int = _ROWS, start: int = 0) -> Iterator[pa.Array]:
    """A column from the row `start` on, in chunks of at most `rows` rows that are read one after the other.

    Memory holds a chunk, and a page of the file: also where all rows are one row group, as pandas writes them.
    """
    with pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as parquet:
        longest = max(_dictionary_values(file, parquet, name), default=0)
        rows = max(1, min(rows, PIECE // max(1, longest)))
        for group in range(parquet.num_row_groups):
            count = parquet.metadata.row_group(group).num_rows
            if start >= count > 0:
                start -= count
                continue
            for batch in parquet.iter_batches(batch_size=rows, row_groups=[group], columns=[name], use_threads=False):
                passed = min(start, len(batch))
                start -= passed
                if passed < len(batch):
                    chunk = batch.column(name)
                    # text that is no UTF-8, or an index out of its dictionary, would fail or crash later
                    chunk.validate(full=True)
                    yield chunk.slice(passed)


def _dictionary_values(file: Path, parquet: pq.ParquetFile, name: str) -> Iterator[int]:
    """The length of the longest value in the dictionary of each row group whose dictionary could matter.

    The schema and the row groups say enough: to ask pyarrow for the metadata of a damaged column ends the process.
    """
    leaves = (parquet.schema.column(index) for index in range(len(parquet.schema)))
    paths = [leaf.path for leaf in leaves if leaf.path == name or leaf.path.startswith(f"{name}.")]
    if all(pt.is_primitive(column.type) for column in parquet.schema_arrow if column.name == name):
        return  # numbers are all of one length
    for group in range(parquet.num_row_groups):
        claimed = parquet.metadata.row_group(group)
        if claimed.num_rows * claimed.total_byte_size <= PIECE:
            continue
        with pq.ParquetFile(file, read_dictionary=paths, buffer_size=_BUFFER, pre_buffer=False) as encoded:
            first = next(encoded.iter_batches(batch_size=1, row_groups=[group], columns=[name]), None)
        if first is not None:
            yield from map(_longest, first.columns)


def _longest(array: pa.Array) -> int:
    if pt.is_struct(array.type):
        return max(map(_longest, array.flatten()), default=0)
    if not pt.is_dictionary(array.type) or not _has_length(array.type.value_type) or not len(array.dictionary):
        return 0
    return pc.max(pc.binary_length(array.dictionary)).as_py() or 0


def _decoded_size(array: pa.Array) -> int:
    """Bytes of an array, with the values of a dictionary counted as often as they are referred to."""
    if not pt.is_dictionary(array.type) or not _has_length(array.type.value_type):
        return array.nbytes
    return array.nbytes + (pc.sum(pc.binary_length(array.dictionary).take(array.indices)).as_py() or 0)


def _has_length(kind: pa.DataType) -> bool:
    return pt.is_string(kind) or pt.is_large_string(kind) or pt.is_binary(kind) or pt.is_large_binary(kind)

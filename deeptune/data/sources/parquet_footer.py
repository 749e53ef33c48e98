"""Reads the footer of a Parquet file, and recognises files that are not Parquet."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from deeptune.data.images.file_types import stand_in
from deeptune.data.sources.column_stream import room
from deeptune.errors import DataError, first_line

Identity = tuple[int, int, int]  # size, time of the last change in ns, inode

NO_ENCRYPTION = "Write it again without encryption."
_MAGIC = b"PAR1"
_HEAD = 512  # bytes that tell what a file is
_ROW_BYTES = 32  # bytes that a run keeps for each row beside its columns: number, target, split
_CSV = "Give it the name of what it is, such as data.csv, and it is imported: see `deeptune import --help`."
# Beginnings of files that people have in place of a Parquet file: what it is, and what to do.
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"PARE", "an encrypted Parquet file", NO_ENCRYPTION),
    (b"ARROW1", "an Arrow (Feather) file", "With pandas: pandas.read_feather(FILE).to_parquet('data.parquet')."),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "Write its rows as Parquet, for example with pandas."),
    (b"PK\x03\x04", "a ZIP archive, as .xlsx and .npz files are", "Unpack it, or write its rows as Parquet."),
    (b"\x1f\x8b", "compressed with gzip", "Unpack it first: `gunzip FILE`."),
    (b"BZh", "compressed with bzip2", "Unpack it first: `bunzip2 FILE`."),
    (b"\xfd7zXZ\0", "compressed with xz", "Unpack it first: `unxz FILE`."),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "Unpack it first: `unzstd FILE`."),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "Unpack it first: `unlz4 FILE`."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it first: `7z x FILE`."),
    (b"Rar!\x1a\x07", "a RAR archive", "Unpack it first: `unrar x FILE`."),
    (b"Obj\x01", "an Avro file", "Write its rows as Parquet, for example with DuckDB."),
    (b"ORC", "an ORC file", "With pandas: pandas.read_orc(FILE).to_parquet('data.parquet')."),
    (
        b"\x80\x04\x95",
        "a pickle, which is not opened",
        "With pandas: pandas.read_pickle(FILE).to_parquet('data.parquet').",
    ),
    (b"SQLite format 3\0", "an SQLite database", "Write one of its tables as Parquet, for example with pandas."),
)


@dataclass(frozen=True)
class Footer:
    """The footer of a file.

    `claimed_bytes` are those of all columns, decoded, by the file's own account. `int96` are the columns that hold
    timestamps of that old kind, which Arrow's schema calls nanoseconds.
    """

    schema: pa.Schema
    rows: int
    row_groups: int
    claimed_bytes: int
    int96: tuple[str, ...]
    identity: Identity


def identity_of(found: os.stat_result) -> Identity:
    """Return what tells a file from a changed or replaced one: size, time of change and inode."""
    return found.st_size, found.st_mtime_ns, found.st_ino


def read_footer(file: Path, key: str) -> Footer:
    """Read the footer of a file; `key` is the setting that named it.

    Raises DataError for what is unreadable, not Parquet, cut off, or claims more rows than memory has room for.
    """
    try:
        if not file.is_file():  # reading a pipe or a device may never end
            raise DataError(f"{key}: {file} is not a regular file", hint="Name a Parquet file or a folder of them.")
        with file.open("rb") as stream:
            identity = identity_of(os.fstat(stream.fileno()))
            head = stream.read(_HEAD)
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 4))
            tail = stream.read(4)
        if size == 0:
            raise DataError(f"{key}: {file} is empty (0 bytes)", hint="Write the Parquet file again.")
        if not head.startswith(_MAGIC):
            raise _not_parquet(file, head, key)
        if tail != _MAGIC or size < 12:
            raise DataError(
                f"{key}: {file} is cut off: the end of the Parquet file is missing", hint="Copy or write it again."
            )
        with pq.ParquetFile(file) as parquet:
            rows = parquet.metadata.num_rows
            groups = (parquet.metadata.row_group(number) for number in range(parquet.num_row_groups))
            found = Footer(
                schema=parquet.schema_arrow,
                rows=rows,
                row_groups=parquet.num_row_groups,
                claimed_bytes=sum(max(0, group.total_byte_size) for group in groups),
                int96=_int96(parquet),
                identity=identity,
            )
        if not 0 <= rows * _ROW_BYTES <= room():
            raise DataError(
                f"{key}: {file} claims {rows:,} rows, which do not fit in memory",
                hint="Split the file, or write it again.",
            )
        return found
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataError(
            f"{key}: {file} cannot be read: {reason}", hint="Check the file and the right to read it."
        ) from error


def _not_parquet(file: Path, head: bytes, key: str) -> DataError:
    found = [(what, hint) for beginning, what, hint in _BEGINNINGS if head.startswith(beginning)]
    if (other := stand_in(head)) is not None:
        found.append(other)
    for what, hint in found:
        return DataError(f"{key}: {file} is not a Parquet file but {what}", hint=hint)
    return DataError(f"{key}: {file} is not a Parquet file", hint=_CSV)


def _int96(parquet: pq.ParquetFile) -> tuple[str, ...]:
    leaves = (parquet.schema.column(index) for index in range(len(parquet.schema)))
    paths = [leaf.path for leaf in leaves if leaf.physical_type == "INT96"]
    return tuple(
        name for name in parquet.schema_arrow.names if any(p == name or p.startswith(f"{name}.") for p in paths)
    )

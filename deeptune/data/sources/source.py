"""A table of samples whose rows are numbered, wherever it is: what every part of a run reads its data through."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deeptune.data.sources.named_files import NamedFiles
from deeptune.errors import DataError, did_you_mean, listed

SMALL = 64 * 2**20  # bytes of a source, by its own account, that may simply be held in memory


class Source(ABC):
    """Columns of the same number of rows: Parquet files (`ParquetSource`), or a table in memory (`MemorySource`).

    Whole columns (`column`) are read when asked for, and kept; large ones pass (`stream`). `schema` has the declared
    types, `types` those that columns are read in. `key` is how messages name the source: a setting or an argument.
    `files` are those that the rows come from, none for a table in memory; `claimed_bytes` is the size of all columns.
    """

    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()  # how the files came to be, where they were imported; columns that are left out
    refused: Mapping[str, DataError] = {}  # columns that can't be read, with the error where one is asked for
    worth_caching = True  # whether what is made of the rows is worth an entry of the cache
    claimed_bytes: int
    row_groups: int

    def __init__(
        self,
        schema: pa.Schema,
        types: Mapping[str, pa.DataType],
        num_rows: int,
        *,
        key: str = "data.path",
        root: Path | None = None,
    ) -> None:
        self.schema, self.types, self.num_rows = schema, types, num_rows
        self.key, self.root = key, root
        self.label_key = key  # how messages name its labels
        self.named: NamedFiles | None = None
        self.column_names: list[str] = schema.names
        self._single = {name for name, count in Counter(self.column_names).items() if count == 1}
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._fingerprint: str | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """A short name for people who look at the cache."""

    @abstractmethod
    def describe(self) -> str:
        """Describe the source for a message: a file's path, or how many files there are and where."""

    @abstractmethod
    def where(self, row: int) -> str:
        """Return a row in words: `row 17`, or `row 17 (file b.parquet, row 3)` when there are several files."""

    @abstractmethod
    def folder_of(self, row: int) -> Path:
        """Return the folder at which names of files start that a row holds."""

    @abstractmethod
    def stream_table(
        self, names: Sequence[str], *, start: int = 0, rows: int = 4096
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Read columns from the row `start` on, as (first row, values).

        A piece has at most `rows` rows, and not much more than SMALL bytes by the source's own account. Memory holds
        one piece at a time. Raises DataError as `column` does.
        """

    @abstractmethod
    def _read(self, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        """Read all rows of some columns, in their types."""

    @abstractmethod
    def _contents(self) -> list[str]:
        """Return the SHA-256 in hexadecimal of each file that the rows come from, or of the rows."""

    @abstractmethod
    def _schemas(self) -> list[pa.Schema]:
        """Return the schemas, with their metadata, of all that the rows come from."""

    def column(self, name: str) -> pa.ChunkedArray:
        """Read a column of all rows.

        Raises DataError for a name that is not there, and for a file that is damaged, or changed since it was opened.
        """
        self.hold([name])
        return self._columns[name]

    def hold(self, names: Sequence[str]) -> None:
        """Read columns into memory, together, but for those that are there. Raises DataError as `column` does."""
        self.require_all(names)
        missing = [name for name in names if name not in self._columns]
        if not missing:
            return
        for name, column in self._read(missing).items():
            wider = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}.get(column.type)
            if wider is not None and column.nbytes >= 2**31:  # more than 32 bits count
                column = column.cast(wider)
            self._columns[name] = column

    def stream(self, name: str, *, start: int = 0, rows: int = 4096) -> Iterator[tuple[int, pa.Array]]:
        """Yield a column from the row `start` on, as (first row, values), in the pieces of `stream_table`."""
        for row, batch in self.stream_table([name], start=start, rows=rows):
            yield row, batch.column(0)

    def _at_once(self, rows: int) -> int:
        """Return at most `rows`, and as many as take about SMALL bytes."""
        return max(1, min(rows, SMALL * self.num_rows // max(1, self.claimed_bytes)))

    def head(self, names: Sequence[str], rows: int) -> pa.Table:
        """Return the first `rows` rows of some columns."""
        parts: list[pa.RecordBatch] = []
        for start, batch in self.stream_table(names, rows=rows):
            parts.append(batch.slice(0, rows - start))
            if start + len(batch) >= rows:
                break
        return pa.Table.from_batches(parts, pa.schema([self.field(name) for name in names]))

    def field(self, name: str) -> pa.Field:
        """Return a column as it is read: with what is known of its meaning, but not of its place in a file."""
        field = self.schema.field(name)
        known = {key: value for key, value in (field.metadata or {}).items() if not key.startswith(b"PARQUET:")}
        same = field.type == self.types[name]
        return pa.field(name, self.types[name], metadata=known if known and same else None)

    def require_all(self, names: Sequence[str]) -> None:
        """Call `require` for many columns."""
        if not set(names) <= self._single:
            for name in names:
                self.require(name)

    def require(self, name: str, *, key: str | None = None) -> None:
        """Raise DataError, with the nearest names, when there is no such column; `key` is the setting that named it."""
        if name in self.refused:
            raise self.refused[name]
        found = self.column_names.count(name)
        if found == 1:
            return
        place = f"{key}: " if key else ""
        if found:
            raise DataError(f"{place}{self.describe()} has {found} columns named {name!r}", hint="Rename them apart.")
        if (folder := self.partition_of(name)) is not None:
            raise DataError(
                f"{place}there is no column {name!r} in {self.describe()}: it is in the names of folders ({folder}), "
                "as partitioned data sets have it, and is not read from there",
                hint="Write it into one file: "
                f'pandas.read_parquet("FOLDER").to_parquet("data.parquet") reads {name!r} from the folders.',
            )
        near = did_you_mean(name, self.column_names)
        raise DataError(
            f"{place}there is no column {name!r} in {self.describe()}. {near}".rstrip(),
            hint=f"Its columns: {self.describe_columns()}.",
        )

    def partition_of(self, name: str) -> str | None:
        """Return a folder that is named after a column and its value, such as `label=cat`; None where there is none."""
        return None

    def take(self, name: str, rows: np.ndarray) -> pa.ChunkedArray:
        """Return a column's values at `rows` (int64), in that order: the whole column passes where it is large."""
        if self.holds(name):
            return self.column(name).take(pa.array(rows, pa.int64()))
        wanted, place = np.unique(rows, return_inverse=True)
        parts: list[pa.Array] = []
        for start, values in self.stream(name):
            first, last = np.searchsorted(wanted, [start, start + len(values)])
            if first < last:
                parts.append(values.take(pa.array(wanted[first:last] - start)))
        return pa.chunked_array(parts, self.types[name]).take(pa.array(place))

    def holds(self, name: str) -> bool:
        """Check whether a column is in memory as a whole, or is when it is asked for, as it is small."""
        return name in self._columns or self.claimed_bytes <= SMALL

    def require_unchanged(self) -> None:
        """Raise DataError when a file is no longer the one that was opened, or that was read as an image."""
        if self.named is not None:
            self.named.require_unchanged()

    def read_files_named_in(self, column: str) -> None:
        """Take the files that a column names as part of the data, and so of the fingerprint."""
        if self.named is None:
            self.named, self._fingerprint = NamedFiles(self, column), None

    def file_of(self, rows: np.ndarray) -> list[str]:
        """Return the path of the file that holds each row."""
        return [self.describe()] * len(rows)

    def describe_columns(self) -> str:
        return listed((f"{field.name} ({field.type})" for field in self.schema), most=12)

    def label_names(self, label: str = "labels") -> list[str] | None:
        """Return class names of an integer label column, from the Parquet metadata, or None.

        Read from Hugging Face's `ClassLabel` of that column, or from the key `label_names`, a JSON list.
        Raises DataError when two files disagree.
        """
        found = [names for schema in self._schemas() if (names := _names_in(schema, label)) is not None]
        if any(names != found[0] for names in found):
            raise DataError(
                f"{self.key}: the files disagree on the class names of column {label!r}",
                hint="A number would mean different classes in different files: make their metadata agree.",
            )
        return found[0] if found else None

    def is_class_label(self, name: str) -> bool:
        """Check whether a column is a `ClassLabel` of Hugging Face, whose -1 is a missing label, or a list of these."""
        return any(_class_label(schema, name) is not None for schema in self._schemas())

    def fingerprint(self) -> str:
        """Return `sha256:` of the rows' contents, with those of the files that they name; read once.

        Raises DataError as `column` does.
        """
        if self._fingerprint is None:
            digests = self._contents()
            if self.named is not None:
                digests.append(self.named.fingerprint())
            whole = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
            self._fingerprint = f"sha256:{whole}"
        return self._fingerprint


def in_words(names: Sequence[str]) -> str:
    """Name columns in a message."""
    return f"column {names[0]!r}" if len(names) == 1 else f"the columns {listed(map(repr, names), most=3)}"


def _names_in(schema: pa.Schema, label: str) -> list[str] | None:
    feature = _class_label(schema, label)
    if feature is not None and _is_names(feature.get("names")):
        return feature["names"]
    try:
        names = json.loads((schema.metadata or {}).get(b"label_names", b"null"))
    except (ValueError, RecursionError):
        return None
    return names if _is_names(names) else None


def _class_label(schema: pa.Schema, name: str) -> dict[str, Any] | None:
    """Read Hugging Face's metadata of a `ClassLabel` column, or of a list of `ClassLabel`s."""
    try:
        feature = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"][name]
        if isinstance(feature, list):  # how older versions write a list
            feature = feature[0]
        elif feature["_type"] in ("Sequence", "List", "LargeList"):
            feature = feature["feature"]
        return feature if feature["_type"] == "ClassLabel" else None
    except (KeyError, IndexError, TypeError, ValueError, RecursionError):
        return None


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)

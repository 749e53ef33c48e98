"""Parquet files, opened as one table whose rows are numbered."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deeptune.arrow import as_type
from deeptune.data.columns import TooLarge, read_columns, stream_columns
from deeptune.data.files import NamedFiles
from deeptune.data.footer import first_line, identity_of, read_footer
from deeptune.data.shards import agree
from deeptune.environment import require_utf8, user_path
from deeptune.errors import DataError, did_you_mean, listed

SAMPLE_PREFIX = "sample:"
SMALL = 64 * 2**20  # bytes of a source, as its files state them, that may simply be held in memory


def sample_names() -> list[str]:
    """Names of the samples that ship with the package."""
    folder = resources.files("deeptune") / "samples"
    return sorted(item.name.removesuffix(".parquet") for item in folder.iterdir() if item.name.endswith(".parquet"))


class Source:
    """One Parquet file or several with the same columns, read as one table.

    Files are put in the order of their paths, whatever order they were named in, so a row's number
    depends on the files alone. Whole columns (`column`) are read when asked for, and kept; large ones pass (`stream`).
    A file that is no longer the one that was opened is not read, as rows of two files would be mixed.

    `schema` has the types that the files declare, `types` those that columns are read in (`data/shards.py`).
    """

    def __init__(self, files: tuple[Path, ...], *, key: str = "data.path", root: Path | None = None) -> None:
        self.files = files
        self.key = key
        self.root = root
        self.named: NamedFiles | None = None
        self._footers = [read_footer(file, key) for file in files]
        self._identities = {file: footer.identity for file, footer in zip(files, self._footers, strict=True)}
        self.claimed_bytes = sum(footer.claimed_bytes for footer in self._footers)
        self.row_groups = sum(footer.row_groups for footer in self._footers)
        self._ends = np.cumsum([footer.rows for footer in self._footers])
        self.num_rows = int(self._ends[-1])
        agreed = agree(files, self._footers, key=key, reading=self._reading)
        self.schema, self.types, self._timestamps = agreed.schema, agreed.types, agreed.timestamps
        self.column_names: list[str] = self.schema.names
        self._single = {name for name, count in Counter(self.column_names).items() if count == 1}
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._fingerprint: str | None = None
        self._digests: dict[Path, str] = {}

    @classmethod
    def open(
        cls, paths: str | os.PathLike[str] | list[str], *, key: str = "data.path", root: str | None = None
    ) -> Source:
        """Open a file, a glob, a folder (its `*.parquet`, at any depth), `sample:NAME`, or a list of these.

        `key` is how error messages name the setting. The names of files in a column start at the folder `root`, or at
        that of their Parquet file. Raises DataError for what is missing, unreadable, not Parquet, cut off, or has
        other columns than the first file.
        """
        return cls(tuple(find_files(paths, key=key)), key=key, root=_root(root))

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of all rows. Raises DataError for a name that is not there, and for a file that is damaged, or
        changed since it was opened."""
        self.hold([name])
        return self._columns[name]

    def hold(self, names: Sequence[str]) -> None:
        """Read columns into memory, together, but for those that are there. Raises DataError as `column` does."""
        self.require_all(names)
        missing = [name for name in names if name not in self._columns]
        if not missing:
            return
        what, chunks = _in_words(missing), {name: list[pa.Array]() for name in missing}
        for file in self.files:
            with self._reading(file, what):
                for batch in read_columns(file, missing, timestamps=self._timestamps):
                    for name, values in zip(missing, batch.columns, strict=True):
                        chunks[name].append(as_type(values, self.types[name]))
        for name in missing:
            column = pa.chunked_array(chunks[name], type=self.types[name])
            if len(column) != self.num_rows:
                raise self._miscounted(what, len(column))
            wider = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}.get(column.type)
            if wider is not None and column.nbytes >= 2**31:  # more than 32 bits count
                column = column.cast(wider)
            self._columns[name] = column

    def stream(self, name: str, *, start: int = 0, rows: int = 4096) -> Iterator[tuple[int, pa.Array]]:
        """A column from the row `start` on, as (first row, values), in the pieces of `stream_table`."""
        for row, batch in self.stream_table([name], start=start, rows=rows):
            yield row, batch.column(0)

    def stream_table(
        self, names: Sequence[str], *, start: int = 0, rows: int = 4096
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Columns from the row `start` on, as (first row, values), of at most `rows` rows and not much more than SMALL
        bytes by the files' account. Memory holds one of these at a time. Raises DataError as `column` does.
        """
        self.require_all(names)
        what = _in_words(names)
        schema = pa.schema([self.field(name) for name in names])
        rows = max(1, min(rows, SMALL * self.num_rows // max(1, self.claimed_bytes)))
        for file, end, before in zip(self.files, self._ends.tolist(), [0, *self._ends.tolist()], strict=False):
            row = max(start, before)
            if row >= end:
                continue
            with self._reading(file, what):
                pieces = stream_columns(file, names, rows=rows, start=row - before, timestamps=self._timestamps)
                for batch in pieces:
                    self._require_unchanged(file)  # or what was read may be another file's
                    if row + len(batch) > end:
                        break
                    columns = [as_type(values, kind) for values, kind in zip(batch.columns, schema.types, strict=True)]
                    yield row, pa.RecordBatch.from_arrays(columns, schema=schema)
                    row += len(batch)
            if row != end:
                raise self._miscounted(what, row)

    def head(self, names: Sequence[str], rows: int) -> pa.Table:
        """The first `rows` rows of some columns."""
        parts: list[pa.RecordBatch] = []
        for start, batch in self.stream_table(names, rows=rows):
            parts.append(batch.slice(0, rows - start))
            if start + len(batch) >= rows:
                break
        return pa.Table.from_batches(parts, pa.schema([self.field(name) for name in names]))

    def field(self, name: str) -> pa.Field:
        """A column as it is read: with what is known of its meaning, but not of its place in a file."""
        field = self.schema.field(name)
        known = {key: value for key, value in (field.metadata or {}).items() if not key.startswith(b"PARQUET:")}
        same = field.type == self.types[name]
        return pa.field(name, self.types[name], metadata=known if known and same else None)

    def chunks(self, name: str) -> Iterator[pa.Array]:
        """A column in the pieces of `stream`."""
        return (values for _, values in self.stream(name))

    def _miscounted(self, what: str, found: int) -> DataError:
        return DataError(
            f"{self.key}: {what} of {self.describe()} has {found:,} rows, and the end of the "
            f"file says {self.num_rows:,}",
            hint="The file is damaged: write it again.",
        )

    def require_all(self, names: Sequence[str]) -> None:
        """`require` for many columns."""
        if not set(names) <= self._single:
            for name in names:
                self.require(name)

    def require(self, name: str, *, key: str | None = None) -> None:
        """Raise DataError, with the nearest names, when there is no such column; `key` is the setting that named it."""
        found = self.column_names.count(name)
        if found == 1:
            return
        place = f"{key}: " if key else ""
        if found:
            raise DataError(f"{place}{self.describe()} has {found} columns named {name!r}", hint="Rename them apart.")
        near = did_you_mean(name, self.column_names)
        raise DataError(
            f"{place}there is no column {name!r} in {self.describe()}. {near}".rstrip(),
            hint=f"Its columns: {self.describe_columns()}.",
        )

    def take(self, name: str, rows: np.ndarray) -> pa.ChunkedArray:
        """A column's values at `rows` (int64), in that order: the whole column passes where it is large."""
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
        """Whether a column is in memory as a whole, or is when it is asked for, as it is small."""
        return name in self._columns or self.claimed_bytes <= SMALL

    def require_unchanged(self) -> None:
        """Raise DataError when a file is no longer the one that was opened, or that was read as an image."""
        for file in self.files:
            self._require_unchanged(file)
        if self.named is not None:
            self.named.require_unchanged()

    def read_files_named_in(self, column: str) -> None:
        """Take the files that a column names as part of the data, and so of the fingerprint."""
        if self.named is None:
            self.named, self._fingerprint = NamedFiles(self, column), None

    def folder_of(self, row: int) -> Path:
        """Where the names of files start that a row holds."""
        return self.root or self.locate(row)[0].parent

    def locate(self, row: int) -> tuple[Path, int]:
        """The file that holds a row, and the row's number in that file."""
        if not 0 <= row < self.num_rows:
            raise IndexError(f"row {row} of {self.num_rows}")
        file = int(np.searchsorted(self._ends, row, side="right"))
        return self.files[file], row - (int(self._ends[file - 1]) if file else 0)

    def where(self, row: int) -> str:
        """`row 17`, or `row 17 (file b.parquet, row 3)` when there are several files."""
        if len(self.files) == 1:
            return f"row {row}"
        file, inner = self.locate(row)
        return f"row {row} (file {file.name}, row {inner})"

    def file_of(self, rows: np.ndarray) -> list[str]:
        """The path of the file that holds each row."""
        names = [str(file) for file in self.files]
        return [names[i] for i in np.searchsorted(self._ends, rows, side="right")]

    def describe(self) -> str:
        """The file's path, or how many files there are and where."""
        if len(self.files) == 1:
            return str(self.files[0])
        return f"{self.files[0]} and {len(self.files) - 1:,} more"

    def describe_columns(self) -> str:
        return listed((f"{field.name} ({field.type})" for field in self.schema), most=12)

    def label_names(self, label: str = "labels") -> list[str] | None:
        """Class names of an integer label column, from the Parquet metadata, or None.

        Read from Hugging Face's `ClassLabel` of that column, or from the key `label_names`, a JSON list.
        Raises DataError when two files disagree.
        """
        found = [names for footer in self._footers if (names := _names_in(footer.schema, label)) is not None]
        if any(names != found[0] for names in found):
            raise DataError(
                f"{self.key}: the files disagree on the class names of column {label!r}",
                hint="A number would mean different classes in different files: make their metadata agree.",
            )
        return found[0] if found else None

    def is_class_label(self, name: str) -> bool:
        """Whether a column is a `ClassLabel` of Hugging Face, in which -1 is a missing label."""
        return any(_class_label(footer.schema, name) is not None for footer in self._footers)

    def fingerprint(self) -> str:
        """`sha256:` of the files' contents, in order, with those of the files that they name; read once.

        Raises DataError as `column` does.
        """
        if self._fingerprint is None:
            digests = [self.digest(file) for file in self.files]
            if self.named is not None:
                digests.append(self.named.fingerprint())
            whole = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
            self._fingerprint = f"sha256:{whole}"
        return self._fingerprint

    def size(self, file: Path) -> int:
        """Bytes of one of the files, when it was opened."""
        return self._identities[file][0]

    def digest(self, file: Path) -> str:
        """The SHA-256 of one of the files, in hexadecimal; read once. Raises DataError as `column` does."""
        if file not in self._digests:
            with self._reading(file, "the content"):
                self._digests[file] = _digest(file)
        return self._digests[file]

    @contextmanager
    def _reading(self, file: Path, what: str) -> Iterator[None]:
        """Read a file that was the one that was opened, before and after."""
        self._require_unchanged(file)
        try:
            yield
        except (TooLarge, MemoryError) as error:
            raise DataError(
                f"{self.key}: {what} of {file} does not fit in memory: {first_line(error)}",
                hint="Shorten its values, or split the file; a small file that grows so much may be made to do harm.",
            ) from error
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            self._require_unchanged(file)  # which explains it better
            raise DataError(
                f"{self.key}: {what} of {file} cannot be read: {first_line(error)}",
                hint="The file is damaged or was cut off: write it again.",
            ) from error
        self._require_unchanged(file)

    def _require_unchanged(self, file: Path) -> None:
        try:
            if identity_of(os.stat(file)) == self._identities[file]:
                return
            what = "has changed"
        except OSError as error:
            what = f"has vanished ({error.strerror})"
        run = self.key.startswith("data.")
        raise DataError(
            f"{self.key}: {file} {what} since {'the run opened it' if run else 'it was opened'}, "
            "and rows of two files must not be mixed",
            hint=f"Put the former file back, then {'`deeptune resume` the run' if run else 'start again'}.",
        )


def find_files(paths: str | os.PathLike[str] | list[str], *, key: str = "data.path") -> list[Path]:
    """The files that `Source.open` reads, in its order. Raises DataError for what is missing or not named in UTF-8."""
    items = [os.fspath(p) for p in paths] if isinstance(paths, list) else [os.fspath(paths)]
    files = {file.resolve(): file for item in items for file in _find(item, key)}
    for file in files.values():
        require_utf8(file, key=key, error=DataError)
    return sorted(files.values(), key=lambda file: file.as_posix())


def _in_words(names: Sequence[str]) -> str:
    return f"column {names[0]!r}" if len(names) == 1 else f"the columns {listed(map(repr, names), most=3)}"


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _root(root: str | None) -> Path | None:
    if root is None:
        return None
    path = user_path(root, key="data.root", error=DataError).absolute()
    if not path.is_dir():
        raise DataError(f"data.root: there is no folder {path}", hint=f"Relative paths start at {Path.cwd()}.")
    return path


def _find(item: str, key: str) -> list[Path]:
    if item.startswith(SAMPLE_PREFIX):
        name = item.removeprefix(SAMPLE_PREFIX)
        names = sample_names()
        if name not in names:
            near = did_you_mean(name, names)
            raise DataError(f"{key}: there is no sample {name!r}. {near}".rstrip(), hint=f"Samples: {listed(names)}.")
        return [Path(str(resources.files("deeptune") / "samples" / f"{name}.parquet"))]
    try:
        path = Path(item).expanduser()
        if path.is_dir():
            return _in_folder(path, key)
        if path.exists():
            return [path]
    except (OSError, RuntimeError) as error:  # a folder that may not be entered, a long name, `~nobody`
        raise DataError(f"{key}: {item} cannot be opened: {getattr(error, 'strerror', error)}") from error
    if glob.has_magic(item):
        files = [Path(found) for found in glob.glob(str(path), recursive=True) if os.path.isfile(found)]
        if not files:
            raise DataError(f"{key}: no file matches {item}", hint=f"Relative paths start at {Path.cwd()}.")
        return files
    siblings = (
        [p.name for p in path.parent.iterdir()] if path.parent.is_dir() and os.access(path.parent, os.R_OK) else []
    )
    near = did_you_mean(path.name, siblings)
    raise DataError(
        f"{key}: there is no file or folder {item}. {near}".rstrip(), hint=f"Relative paths start at {Path.cwd()}."
    )


def _in_folder(folder: Path, key: str) -> list[Path]:
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DataError(f"{key}: {folder} cannot be read: permission denied", hint="Ask for the right to read it.")
    files = [
        file
        for file in folder.rglob("*.parquet")
        # names that start with . or _ are bookkeeping by convention (caches, unfinished writes)
        if file.is_file() and not any(part[0] in "._" for part in file.relative_to(folder).parts)
    ]
    if not files:
        raise DataError(
            f"{key}: the folder {folder} holds no .parquet file",
            hint="Name the file, or a folder with Parquet files in it.",
        )
    return files


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
    """What Hugging Face's metadata say of a column that they call a `ClassLabel`."""
    try:
        feature = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"][name]
        return feature if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)

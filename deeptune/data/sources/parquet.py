"""Parquet files, opened as one table whose rows are numbered."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa

from deeptune.arrow import as_type
from deeptune.data.cache.records import TooLarge
from deeptune.data.sources.column_stream import read_columns, stream_columns
from deeptune.data.sources.folder_files import in_folder, is_parquet, require_target, unread
from deeptune.data.sources.parquet_footer import NO_ENCRYPTION, identity_of, read_footer
from deeptune.data.sources.shards import ColumnsDiffer, agree
from deeptune.data.sources.source import Source, in_words
from deeptune.environment import require_utf8, user_path
from deeptune.errors import DataError, did_you_mean, first_line, listed
from deeptune.progress import Progress
from deeptune.runs.files import file_sha256

SAMPLE_PREFIX = "sample:"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://|file:/", re.IGNORECASE)


def sample_names() -> list[str]:
    """Name the samples that ship with the package."""
    folder = resources.files("deeptune") / "samples"
    return sorted(item.name.removesuffix(".parquet") for item in folder.iterdir() if item.name.endswith(".parquet"))


class ParquetSource(Source):
    """One Parquet file or several, read as one table of the columns that all have.

    Files are put in the order of their paths, whatever order they were named in, so a row's number
    depends on the files alone.
    A file that is no longer the one that was opened is not read, as rows of two files would be mixed.
    The types of columns are those of `data/sources/shards.py`.
    """

    def __init__(self, files: tuple[Path, ...], *, key: str = "data.path", root: Path | None = None) -> None:
        self.files = files
        self.key = key
        self._footers = [read_footer(file, key) for file in files]
        self._identities = {file: footer.identity for file, footer in zip(files, self._footers, strict=True)}
        self._digests: dict[Path, str] = {}
        self.imported: Mapping[Path, Path] = {}  # what each file was imported from
        self._ends = np.cumsum([footer.rows for footer in self._footers])
        self.claimed_bytes = sum(footer.claimed_bytes for footer in self._footers)
        self.row_groups = sum(footer.row_groups for footer in self._footers)
        agreed = agree(files, self._footers, key=key, reading=self._reading)
        self._timestamps = agreed.timestamps
        self.refused = agreed.refused
        self.notes = _left_out(agreed.refused, key)
        super().__init__(agreed.schema, agreed.types, int(self._ends[-1]), key=key, root=root)

    def partition_of(self, name: str) -> str | None:
        parts = (part for file in self.files for part in file.parts[:-1])
        return next((part for part in parts if part.startswith(f"{name}=")), None)

    @property
    def name(self) -> str:
        return self.files[0].name

    def describe(self) -> str:
        """Return the path of the file, or of what was imported; or how many files there are and where."""
        first = self.imported.get(self.files[0], self.files[0])
        if len(self.files) == 1:
            return str(first)
        return f"{first} and {len(self.files) - 1:,} more"

    def _read(self, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        what, chunks = in_words(names), {name: list[pa.Array]() for name in names}
        for file in self.files:
            with self._reading(file, what):
                for batch in read_columns(file, names, timestamps=self._timestamps):
                    for name, values in zip(names, batch.columns, strict=True):
                        chunks[name].append(as_type(values, self.types[name]))
        columns = {name: pa.chunked_array(chunks[name], type=self.types[name]) for name in names}
        for column in columns.values():
            if len(column) != self.num_rows:
                raise self._miscounted(what, len(column))
        return columns

    def stream_table(
        self, names: Sequence[str], *, start: int = 0, rows: int = 4096
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Read columns from the row `start` on, as (first row, values).

        A piece has at most `rows` rows, and not much more than SMALL bytes by the files' own account. Memory holds one
        piece at a time. Raises DataError as `column` does.
        """
        self.require_all(names)
        what = in_words(names)
        schema = pa.schema([self.field(name) for name in names])
        rows = self._at_once(rows)
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

    def _miscounted(self, what: str, found: int) -> DataError:
        return DataError(
            f"{self.key}: {what} of {self.describe()} has {found:,} rows, and the end of the "
            f"file says {self.num_rows:,}",
            hint="The file is damaged: write it again.",
        )

    def require_unchanged(self) -> None:
        for file in self.files:
            self._require_unchanged(file)
        super().require_unchanged()

    def folder_of(self, row: int) -> Path:
        return self.root or self.locate(row)[0].parent

    def locate(self, row: int) -> tuple[Path, int]:
        """Return the file that holds a row, and the row's number in that file."""
        if not 0 <= row < self.num_rows:
            raise IndexError(f"row {row} of {self.num_rows}")
        file = int(np.searchsorted(self._ends, row, side="right"))
        return self.files[file], row - (int(self._ends[file - 1]) if file else 0)

    def where(self, row: int) -> str:
        """Name a row: `row 17`, or `row 17 (file b.parquet, row 3)` when there are several files."""
        if len(self.files) == 1:
            return f"row {row}"
        file, inner = self.locate(row)
        return f"row {row} (file {file.name}, row {inner})"

    def file_of(self, rows: np.ndarray) -> list[str]:
        """Return the path of the file that holds each row."""
        names = [str(file) for file in self.files]
        return [names[i] for i in np.searchsorted(self._ends, rows, side="right")]

    def _schemas(self) -> list[pa.Schema]:
        return [footer.schema for footer in self._footers]

    def _contents(self) -> list[str]:
        return [self.digest(file) for file in self.files]

    def size(self, file: Path) -> int:
        """Return the bytes of one of the files, when it was opened."""
        return self._identities[file][0]

    def digest(self, file: Path) -> str:
        """Return the SHA-256 of one of the files, in hexadecimal; read once. Raises DataError as `column` does."""
        if file not in self._digests:
            with self._reading(file, "the content"):
                self._digests[file] = file_sha256(file)
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
                hint="Shorten its values, or split the file. A small file that grows this much may be malicious.",
            ) from error
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            self._require_unchanged(file)  # which explains it better
            if "decrypt" in str(error).lower():
                raise DataError(f"{self.key}: {what} of {file} is encrypted", hint=NO_ENCRYPTION) from error
            hint = "The file is damaged or was cut off: write it again."
            if "invalid utf8" in str(error).lower():
                hint = "It is declared as text and holds other bytes, such as Latin-1: write it again as UTF-8."
            raise DataError(f"{self.key}: {what} of {file} cannot be read: {first_line(error)}", hint=hint) from error
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


def _left_out(refused: Mapping[str, ColumnsDiffer], key: str) -> tuple[str, ...]:
    """Return a note on the columns that the files do not share, if there are any."""
    if len(refused) == 1:
        (error,) = refused.values()
        return (f"{error.message.removeprefix(f'{key}: ')}, so it is left out",)
    return (f"{in_words(list(refused))} are left out: not every file has them in one type",) if refused else ()


def open_source(
    paths: str | os.PathLike[str] | list[str], *, key: str = "data.path", root: str | None = None
) -> ParquetSource:
    """Open a file, a glob, a folder (its `*.parquet`, at any depth), `sample:NAME`, or a list of these.

    A folder without Parquet files, and a file of another kind that can be imported, is imported into the cache.

    `key` is how error messages name the setting. The names of files in a column start at the folder `root`, or at
    that of their Parquet file. Raises DataError for what is missing, unreadable, not Parquet, cut off, or has
    no column in common with the first file.
    """
    found = find_data(paths, key=key, root=root)
    source = ParquetSource(found.files, key=key, root=folder_of_names(root))
    source.notes, source.imported = (*found.notes, *source.notes), found.imported
    return source


@dataclass(frozen=True)
class DataFiles:
    """The Parquet files of a data key, a sentence for each that was imported, and what it was imported from."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]
    imported: Mapping[Path, Path]


def find_files(paths: str | os.PathLike[str] | list[str], *, key: str = "data.path") -> list[Path]:
    """Return the files and folders that a person names, in the order of `open_source`; nothing is imported.

    Raises DataError for what is missing or not named in UTF-8.
    """
    files = {file.resolve(): file for item in _items(paths) for file in _find(item, key)}
    for file in files.values():
        require_utf8(file, key=key, error=DataError)
    return sorted(files.values(), key=lambda file: file.as_posix())


def _items(paths: str | os.PathLike[str] | list[str]) -> list[str]:
    return [os.fspath(p) for p in paths] if isinstance(paths, list) else [os.fspath(paths)]


def find_data(
    paths: str | os.PathLike[str] | list[str],
    *,
    key: str = "data.path",
    root: str | None = None,
    progress: Progress | None = None,
    imports: bool = True,
) -> DataFiles:
    """Return the Parquet files that `open_source` reads: those that are named, and the imports of others.

    `progress(done, total)` counts what is imported. Without `imports`, nothing is but what is in the cache. Raises
    DataError as `find_files` and an import do.
    """
    files: list[Path] = []
    imported: dict[Path, Path] = {}
    found = find_files(paths, key=key)
    notes = [note for item in _items(paths) if (note := unread(Path(item).expanduser(), found)) is not None]
    for file in found:
        if file.suffix.lower() != ".parquet":
            from deeptune.importing.cached import cached_import, is_imported, is_source

            if is_source(file):
                if not imports and not is_imported(file, root):
                    raise DataError(
                        f"{key}: {file} is not a Parquet file and has not been imported yet",
                        hint="Press Enter to import it.",
                    )
                made = cached_import(file, key=key, root=root, progress=progress)
                files.append(made.file)
                imported[made.file] = file
                notes.append(made.note)
                continue
        files.append(file)
    return DataFiles(tuple(files), tuple(notes), imported)


def folder_of_names(root: str | None) -> Path | None:
    """Return the folder `data.root`, where names of files start. Raises DataError where there is none."""
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
    if _ADDRESS.match(item):
        raise DataError(
            f"{key}: {item} is an address, and nothing is downloaded",
            hint="Name a file on this machine by its path alone, as /data/train.parquet.",
        )
    try:
        path = Path(item).expanduser()
        if path.is_dir():
            return in_folder(path, key)
        if path.exists():
            return [path]
        require_target(path, key)
    except (OSError, RuntimeError) as error:  # a folder that may not be entered, a long name, `~nobody`
        raise DataError(f"{key}: {item} cannot be opened: {getattr(error, 'strerror', error)}") from error
    if glob.has_magic(item):
        return _of_pattern(item, str(path), key)
    siblings = (
        [p.name for p in path.parent.iterdir()] if path.parent.is_dir() and os.access(path.parent, os.R_OK) else []
    )
    near = did_you_mean(path.name, siblings)
    raise DataError(
        f"{key}: there is no file or folder {item}. {near}".rstrip(), hint=f"Relative paths start at {Path.cwd()}."
    )


def _of_pattern(item: str, pattern: str, key: str) -> list[Path]:
    """Return the files that a pattern matches, and those in folders of Parquet files, as Spark writes."""
    found = [Path(name) for name in glob.glob(pattern, recursive=True)]
    files = []
    for path in found:
        if path.is_dir():
            files += in_folder(path, key) if is_parquet(path) else []
        else:
            require_target(path, key)
            files.append(path)
    if not files:
        if found:
            raise DataError(
                f"{key}: {item} matches folders alone, such as {found[0]}",
                hint="Name a folder itself to read all files below it.",
            )
        raise DataError(f"{key}: no file matches {item}", hint=f"Relative paths start at {Path.cwd()}.")
    return files

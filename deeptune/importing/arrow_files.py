"""Hugging Face data set folders (`save_to_disk`, the cache of `datasets`), Arrow files, and Parquet files by split.

Class names stay where `datasets` puts them, in the schema's metadata, and a number keeps the meaning of its name.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt
from pyarrow import ipc

from deeptune.arrow import as_type, carried
from deeptune.errors import DataError, first_line, listed
from deeptune.importing.file_names import split_in_name
from deeptune.importing.reader import LeftOut, Piece, Reader
from deeptune.importing.several_sources import Several
from deeptune.spec.values import split_named

SUFFIXES = (".arrow", ".feather")
_ROWS = 256


class ArrowFile(Reader):
    """The rows of an Arrow file (stream, or file as Feather 2 is), or of a Parquet file."""

    kind = "Arrow file"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if path.suffix == ".parquet":
            self.kind = "Parquet file"
        with _reading(path):
            if path.suffix == ".parquet":
                with pq.ParquetFile(path) as file:
                    self.units, declared = file.metadata.num_rows, file.schema_arrow
            else:
                batches = _batches(path)
                declared = next(batches)
                self.units = sum(len(batch) for batch in batches)
        fields = [field.with_type(carried(field.type)) for field in declared]
        self.schema = pa.schema(fields, metadata=declared.metadata)
        _require_writable(path, declared, self.schema)

    def pieces(self, start: int = 0) -> Iterator[Piece]:
        with _reading(self.path):
            for batch in self._all():
                if start >= len(batch):
                    start -= len(batch)
                    continue
                for first in range(start, len(batch), _ROWS):
                    some = batch.slice(first, _ROWS)
                    columns = [
                        as_type(values, kind) for values, kind in zip(some.columns, self.schema.types, strict=True)
                    ]
                    table = pa.Table.from_arrays(columns, schema=self.schema)
                    yield Piece(*_with_files(table, self.path.parent))
                start = 0

    def _all(self) -> Iterator[pa.RecordBatch]:
        if self.path.suffix == ".parquet":
            with pq.ParquetFile(self.path) as file:
                yield from file.iter_batches(batch_size=_ROWS)
            return
        batches = _batches(self.path)
        next(batches)
        yield from batches


def _require_writable(path: Path, declared: pa.Schema, schema: pa.Schema) -> None:
    """Raise DataError for a column of a type that Arrow has and Parquet lacks, such as unions."""
    for field, given in zip(schema, declared, strict=True):
        try:
            as_type(pa.nulls(1, given.type), field.type)
            pq.write_table(pa.schema([field]).empty_table(), io.BytesIO())
        except (ValueError, NotImplementedError, pa.ArrowException) as error:
            raise DataError(
                f"column {field.name!r} of {path} is {given.type}, which no Parquet file can hold",
                hint="Leave the column out of the file, or cast it to another type.",
            ) from error


class _reading:  # noqa: N801
    """Turns errors of Arrow and the system into a DataError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (pa.ArrowException, OSError)):
            raise DataError(
                f"{self._path} cannot be read: {first_line(error)}", hint="It is damaged or was cut off: copy it again."
            ) from error


def _batches(path: Path) -> Iterator[Any]:
    """Return the schema, then the record batches of an Arrow file, mapped into memory."""
    with pa.memory_map(str(path)) as source:
        if source.size() >= 6 and source.read_at(6, 0) == b"ARROW1":
            with ipc.open_file(source) as file:
                yield file.schema
                for index in range(file.num_record_batches):
                    yield file.get_batch(index)
            return
        with ipc.open_stream(source) as stream:
            yield stream.schema
            yield from stream


def _with_files(table: pa.Table, folder: Path) -> tuple[pa.Table, int, list[LeftOut]]:
    """Put the files that structs of bytes and path name alone into a table."""
    units, left_out = table.num_rows, []
    for place, field in enumerate(table.schema):
        if not (
            pt.is_struct(field.type)
            and {"bytes", "path"} <= {field.type.field(i).name for i in range(field.type.num_fields)}
        ):
            continue
        values = table.column(place).to_pylist()
        lacking = [at for at, value in enumerate(values) if value and value["bytes"] is None and value["path"]]
        for at in lacking:
            try:
                values[at] = {**values[at], "bytes": (folder / values[at]["path"]).read_bytes()}
            except OSError as error:
                left_out.append(LeftOut(str(values[at]["path"]), f"cannot be read: {error.strerror}"))
        if lacking:
            table = table.set_column(place, field, pa.array(values, field.type))
    if left_out:
        names = {one.what for one in left_out}
        keep = [
            not any(
                isinstance(value, dict) and value.get("path") in names and value.get("bytes") is None
                for value in row.values()
            )
            for row in table.to_pylist()
        ]
        table = table.filter(pa.array(keep, pa.bool_()))
    return table, units, left_out


def is_data_set(folder: Path) -> bool:
    """Check whether a folder was written by `datasets`."""
    names = ("dataset_dict.json", "dataset_info.json", "state.json")
    return any((folder / name).is_file() for name in names) and next(folder.rglob("*.arrow"), None) is not None


def data_set(folder: Path) -> Reader:
    """Return the splits of a data set folder, or its one split."""
    splits = _json(folder / "dataset_dict.json").get("splits")
    readers: list[tuple[str | None, Reader]]
    if isinstance(splits, list):
        parts = [(str(name), folder / str(name)) for name in splits]
        readers = [(split_named(name), ArrowFile(file)) for name, part in parts for file in _files_of(part)]
    else:
        readers = [(split_in_name(file.name), ArrowFile(file)) for file in _files_of(folder)]
    if not readers:
        raise DataError(f"{folder} names no Arrow files", hint="Copy the whole folder.")
    unknown = [reader.path.parent.name for split, reader in readers if split is None]
    found = Several(folder, readers, "Hugging Face data set", partly=isinstance(splits, list))
    if isinstance(splits, list) and unknown:
        names = listed(dict.fromkeys(unknown))
        found.notes.append(f"rows of {names} are in none of train, val and test: a run leaves them out")
    return found


def _files_of(folder: Path) -> list[Path]:
    named = [
        item.get("filename") for item in _json(folder / "state.json").get("_data_files", []) if isinstance(item, dict)
    ]
    files = [folder / name for name in named if isinstance(name, str) and "/" not in name]
    return files or sorted(folder.glob("*.arrow"))


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def by_split(folder: Path, files: Sequence[Path]) -> Reader:
    """Return files of one table whose names or folders say which split they are of, as on a hub."""
    named = []
    for file in files:
        relative = file.relative_to(folder)
        split = split_in_name(file.name) or next(filter(None, map(split_named, reversed(relative.parts[:-1]))), None)
        named.append((split, ArrowFile(file)))
    found = Several(
        folder, named, "folder of Parquet files" if files[0].suffix == ".parquet" else "folder of Arrow files"
    )
    # On a hub, each configuration of a data set has a folder, and their rows are often the same ones in other forms.
    inside = [file.relative_to(folder).parts[:-1] for file in files]
    parts = dict.fromkeys("/".join(part for part in parts if split_named(part) is None) for parts in inside)
    if len(parts) > 1:
        names = listed(part or "the folder itself" for part in parts)
        found.notes.append(f"the files of {names} are read as one table: import one of these folders to have it alone")
    return found

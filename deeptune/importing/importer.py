"""Importing: a source's rows into one Parquet file, in parts that an import which was stopped finds again.

While it runs, `.NAME.importing/` beside the output holds the parts that are complete and `state.json`, which says how
much of the source they took. At the end the parts become the output, whole or not at all.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deeptune import __version__
from deeptune.errors import DataError, listed
from deeptune.importing.columns import named_apart, renamed
from deeptune.importing.detect import open_reader
from deeptune.importing.file_names import walk
from deeptune.importing.options import Options
from deeptune.importing.reader import LeftOut, Piece, Reader
from deeptune.progress import Progress
from deeptune.runs.files import read_json, replacing, storage_errors, write_json

FORMAT = 2  # raise it when the same source gives another file
PART_BYTES = 64 * 2**20  # bytes of a part, which is a row group of the output
SHOWN = 5  # reasons why rows were left out that are shown
MAX_REASONS = 100_000  # rows left out that are listed with their reasons


@dataclass
class Imported:
    """The result of an import.

    `roles` are the columns of the output with a known role. `left_out_file` lists what was left out, with its reason;
    it is None where nothing was. `reasons` are the most frequent ones with their counts.
    """

    output: str
    source: str
    kind: str
    rows: int
    columns: dict[str, str]
    roles: dict[str, str]
    notes: list[str]
    left_out: int = 0
    reasons: list[tuple[str, int]] = field(default_factory=list)
    left_out_file: str | None = None
    ignored: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self)


@dataclass
class _Part:
    units: int
    rows: int
    left_out: list[tuple[str, str]]


def import_data(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: Options = Options(),  # noqa: B008 (frozen)
    *,
    progress: Progress | None = None,
    choose: Callable[[Reader, Options], Options] | None = None,
) -> Imported:
    """Import a source into one Parquet file. The bytes of samples stay as they are, but for DICOM, NIfTI and arrays.

    `choose(reader, options)` may name columns once the source is open. An import that was stopped resumes where it
    was, if the source is the same. Raises DataError for what can't be read, and CheckpointError where the output can't
    be written; an older output stays.
    """
    began, path, target = time.monotonic(), Path(source).expanduser(), Path(output)
    work = target.absolute().parent / f".{target.name}.importing"
    try:
        reader = open_reader(path, options, work, progress)
    except Exception:
        _clear(work)
        raise
    try:
        if choose is not None:
            options = choose(reader, options)
        naming = renamed(reader, options)
        parts = _Parts(work, key_of(path, options))
        _read(reader, parts, progress)
        rows, reasons = sum(part.rows for part in parts.done), Counter[str]()
        if not rows:
            raise _nothing(path, parts, reader)
        schema = naming.schema.with_metadata(_metadata(naming.schema, reader, naming.roles, path))
        _join(parts, target, schema)
        left_out = [one for part in parts.done for one in part.left_out]
        reasons.update(_without_numbers(reason) for _, reason in left_out)
        found = Imported(
            output=str(target),
            source=str(path),
            kind=reader.kind,
            rows=rows,
            columns={field.name: str(field.type) for field in schema},
            roles=naming.roles,
            notes=[*reader.notes, *reader.finished()],
            left_out=len(left_out),
            reasons=reasons.most_common(SHOWN),
            left_out_file=_write_left_out(target, left_out),
            ignored=dict(reader.ignored),
            seconds=round(time.monotonic() - began, 3),
        )
    finally:
        if _clear(work):
            reader.close()
    reader.close()
    shutil.rmtree(work, ignore_errors=True)
    return found


def _clear(work: Path) -> bool:
    """Remove the folder of an import that has no parts yet; what was unpacked is used again by one that goes on."""
    if any(work.glob("*.parquet")):
        return False
    shutil.rmtree(work, ignore_errors=True)
    return True


class _Parts:
    """The parts of an import in its folder."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self._key = folder, key
        self.done: list[_Part] = []
        with suppress(Exception):
            state = read_json(folder / "state.json")
            if state["key"] == key:
                self.done = [
                    _Part(one["units"], one["rows"], [tuple(x) for x in one["left_out"]]) for one in state["parts"]
                ]  # type: ignore[misc]
        if not all(self.file(number).is_file() for number in range(len(self.done))):
            self.done = []
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def units(self) -> int:
        """How much of the source the parts took."""
        return sum(part.units for part in self.done)

    def file(self, number: int) -> Path:
        """Return the file of a part."""
        return self.folder / f"part-{number:05}.parquet"

    def add(self, pieces: list[Piece], schema: pa.Schema) -> None:
        """Write pieces as the next part."""
        table = pa.concat_tables([piece.table for piece in pieces]) if pieces else schema.empty_table()
        with replacing(self.file(len(self.done)), durable=False) as file:
            pq.write_table(table, file, compression=_compression(schema))
        left_out = [(one.what, one.reason) for piece in pieces for one in piece.left_out]
        self.done.append(_Part(sum(piece.units for piece in pieces), table.num_rows, left_out))
        write_json(
            self.folder / "state.json", {"key": self._key, "parts": [asdict(part) for part in self.done]}, durable=False
        )


def _compression(schema: pa.Schema) -> dict[str, str]:
    """Choose the compression of each column: none for images, which are compressed as they are."""
    return {field.name: "none" if pa.types.is_binary(field.type) else "zstd" for field in schema}


def _read(reader: Reader, parts: _Parts, progress: Progress | None) -> None:
    waiting: list[Piece] = []
    size, done = 0, parts.units
    for piece in reader.pieces(done):
        waiting.append(piece)
        size += piece.table.nbytes
        done += piece.units
        if progress:
            progress(done, reader.units or done)
        if size >= PART_BYTES:
            parts.add(waiting, reader.schema)
            waiting, size = [], 0
    if waiting or not parts.done:
        parts.add(waiting, reader.schema)


def _join(parts: _Parts, target: Path, schema: pa.Schema) -> None:
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):  # by an import that was killed here
        left.unlink(missing_ok=True)
    with (
        replacing(target) as file,
        pq.ParquetWriter(file, schema, compression=_compression(schema)) as writer,
    ):
        for table in _tables(parts):
            if table.num_rows:
                writer.write_table(table.rename_columns(schema.names).cast(schema))


def _tables(parts: _Parts) -> Iterator[pa.Table]:
    for number in range(len(parts.done)):
        yield pq.read_table(parts.file(number), memory_map=True)


def _metadata(schema: pa.Schema, reader: Reader, roles: dict[str, str], path: Path) -> dict[bytes, bytes]:
    facts = {"version": __version__, "kind": reader.kind, "source": named_apart(path.name), "roles": roles}
    return {**(schema.metadata or {}), b"deeptune": json.dumps(facts).encode()}


def _nothing(path: Path, parts: _Parts, reader: Reader) -> DataError:
    left_out = [f"{what} {reason}" for part in parts.done for what, reason in part.left_out]
    shutil.rmtree(parts.folder, ignore_errors=True)
    if not left_out:
        return DataError(
            f"{path} holds no rows: only the names of columns {listed(map(repr, reader.schema.names))}",
            hint="Add rows below them, or export it again. Where these are values, pass --no-header.",
        )
    return DataError(
        f"{path}: no row could be imported: {listed(left_out, most=SHOWN)}",
        hint="Check that this is the file or folder that was meant.",
    )


def _without_numbers(reason: str) -> str:
    """Return a reason in which names and numbers don't count, so that alike ones are counted together."""
    return reason.split(":", maxsplit=1)[0].split(" (", maxsplit=1)[0] if len(reason) > 60 else reason


def _write_left_out(target: Path, left_out: list[tuple[str, str]]) -> str | None:
    file = target.with_name(f"{target.stem}.left-out.csv")
    if not left_out:
        with suppress(OSError):
            file.unlink()
        return None
    with replacing(file, durable=False) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["what", "reason"])
        writer.writerows(left_out[:MAX_REASONS])
    return str(file)


def key_of(path: Path, options: Options) -> str:
    """Return the SHA-256 of what decides the result: the files by name, size and time of change, and the options."""
    whole = hashlib.sha256(f"{FORMAT} {__version__} {path.absolute()} {options!r}".encode(errors="surrogateescape"))
    files = [path] if not path.is_dir() else walk(path, Counter())
    for file in files:
        try:
            found = os.stat(file)
            state = f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"
        except OSError:
            state = "missing"
        whole.update(f"{file}\0{state}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


__all__ = ["FORMAT", "Imported", "LeftOut", "import_data", "key_of"]

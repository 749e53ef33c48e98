"""A table that is in memory already, behind the interface of a source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from deeptune.arrow import as_type, carried
from deeptune.data.sources.source import Source

MIN_CACHED_ROWS = 64  # a program that predicts row by row would fill the cache with entries that nobody reads


class MemorySource(Source):
    """An Arrow table whose rows are numbered from 0.

    Messages call it `key` (the argument that it came in), and name its rows. Names of files in a column start at
    `root`, or at the current folder.
    """

    def __init__(self, table: pa.Table, *, key: str = "x", root: Path | None = None) -> None:
        types = {field.name: carried(field.type) for field in table.schema}
        super().__init__(table.schema, types, table.num_rows, key=key, root=root)
        self._table = table
        self.claimed_bytes, self.row_groups = table.nbytes, 1
        self.worth_caching = table.num_rows >= MIN_CACHED_ROWS

    @property
    def name(self) -> str:
        return "a table in memory"

    def describe(self) -> str:
        return f"`{self.key}`"

    def where(self, row: int) -> str:
        return f"row {row}"

    def folder_of(self, row: int) -> Path:
        return self.root or Path.cwd()

    def stream_table(
        self, names: Sequence[str], *, start: int = 0, rows: int = 4096
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        self.require_all(names)
        schema = pa.schema([self.field(name) for name in names])
        rows = self._at_once(rows)
        for batch in self._table.select(list(names)).slice(start).to_batches(max_chunksize=rows):
            columns = [as_type(values, kind) for values, kind in zip(batch.columns, schema.types, strict=True)]
            yield start, pa.RecordBatch.from_arrays(columns, schema=schema)
            start += len(batch)

    def _read(self, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        return {name: as_type(self._table.column(name), self.types[name]) for name in names}

    def _contents(self) -> list[str]:
        digest = hashlib.sha256()
        with pa.ipc.new_stream(_Hashing(digest), self._table.schema) as stream:
            stream.write_table(self._table.combine_chunks())  # chunks are not part of the content
        return [digest.hexdigest()]

    def _schemas(self) -> list[pa.Schema]:
        return [self.schema]


class _Hashing:
    """A file that keeps only the hash of what is written to it."""

    closed = False

    def __init__(self, digest: hashlib._Hash) -> None:
        self._digest = digest

    def write(self, content: bytes) -> int:
        self._digest.update(content)
        return len(content)

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        self.closed = True

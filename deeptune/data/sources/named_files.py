"""The files that an image column names. They are part of the data, as the Parquet file itself is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deeptune.arrow import sample_parts, text_of
from deeptune.data.cache.disk_records import EntryRequest, open_records
from deeptune.data.cache.entry import Cache, CacheRefused, key_of
from deeptune.data.cache.records import Damaged
from deeptune.data.images.column_values import file_named
from deeptune.errors import DataError
from deeptune.runs.files import file_sha256

if TYPE_CHECKING:
    from deeptune.data.sources.source import Source

_AT_ONCE = 1024  # files that threads share
_THREADS = 16
_BYTES = hashlib.sha256().digest_size


class NamedFiles:
    """The files that a column of a source names, each once, in the order of the rows.

    `fingerprint` is of their contents. It is kept in the cache by what the system says of each file (size, inode, times
    of change), so that files which nobody touched are not read again.
    """

    def __init__(self, source: Source, column: str) -> None:
        self.source, self.column = source, column
        self._identity: str | None = None

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the names and contents. A file that can't be read counts as missing."""
        self._identity = identity = self._identify()
        ingredients = {"named files": identity}
        what = {
            "what": f"checksum of the files that {self.source.name} names ({self.column})",
            "data": self.source.describe(),
            "ingredients": ingredients,
        }
        found = None
        with suppress(CacheRefused, Damaged), Cache(lambda _text: None) as cache:
            records = open_records(cache, EntryRequest("samples", key_of(ingredients), 1, _BYTES, what))
            if records.done.all():
                return records.read(0).tobytes().hex()
            found = self._digest()
            records.put(np.zeros(1, np.int64), found, _BYTES)
            records.settle()
        return (found or self._digest()).hex()

    def require_unchanged(self) -> None:
        """Raise DataError when a file is no longer the one whose content the fingerprint is of."""
        if self._identity is None or self._identity == self._identify():
            return
        raise DataError(
            f"{self.source.key}: files that column {self.column!r} names have changed since they were first read",
            hint="Leave them as they are while they are read, and start again.",
        )

    def _identify(self) -> str:
        whole = hashlib.sha256()
        for _, path in self._paths():
            whole.update(f"{path}\0{_state(path)}\n".encode(errors="surrogateescape"))
        return whole.hexdigest()

    def _digest(self) -> bytes:
        whole = hashlib.sha256()
        with ThreadPoolExecutor(_THREADS) as threads:
            for some in _batched(self._paths()):
                for (name, _), digest in zip(some, threads.map(lambda named: _content(named[1]), some), strict=True):
                    whole.update(f"{name}\0{digest}\n".encode(errors="surrogateescape"))
        return whole.digest()

    def _paths(self) -> Iterator[tuple[str, Path]]:
        """Yield (name in the column, file)."""
        seen: set[Path] = set()
        for first, values in self.source.stream(self.column):
            folder = self.source.folder_of(first)
            for value in text_of(sample_parts(values)).to_pylist():
                path = file_named(value, folder)
                if path is not None and path not in seen:
                    seen.add(path)
                    yield value["path"] if isinstance(value, dict) else value, path


def _batched(items: Iterator[tuple[str, Path]]) -> Iterator[list[tuple[str, Path]]]:
    some: list[tuple[str, Path]] = []
    for item in items:
        some.append(item)
        if len(some) == _AT_ONCE:
            yield some
            some = []
    yield some


def _state(path: Path) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return "missing"
    return f"{found.st_size} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}"


def _content(path: Path) -> str:
    try:
        return file_sha256(path) if path.is_file() else "missing"
    except OSError:
        return "missing"

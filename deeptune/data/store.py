"""Samples in the order of their rows, any number of bytes for each, to be read in any order: in memory or on disk.

On disk it is an entry of the cache (`entries.py`) that has beside its locks

    entry.json    what it is, for people; written when it is begun
    data.bin      the bytes of the rows, end to end
    index.bin     a RECORD for each row that is whole, written after its bytes are on the disk

A store that was left in the midst is gone on with where it ended.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from abc import ABC, abstractmethod
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from deeptune.data.columns import TooLarge
from deeptune.data.duplicates import HASH
from deeptune.data.entries import FORMAT, INDEX_BYTES, Cache, CacheEntry, refusing, size_text
from deeptune.runs.files import sync, write_json

RECORD = np.dtype([("end", "<i8"), ("checksum", "<u4"), ("flag", "<u4"), ("hash", HASH)])
assert RECORD.itemsize == INDEX_BYTES


class Damaged(Exception):
    """A row's bytes are not those that were written."""


class Store(ABC):
    """Bytes, a flag (any number below 2³²) and the hash of its sample for each of `rows` rows. `count` is how many were
    added so far."""

    def __init__(self, rows: int) -> None:
        self.rows, self.count = rows, 0
        self._records = np.zeros(rows, RECORD)

    @property
    def flags(self) -> np.ndarray:
        """uint32 (count,)"""
        return self._records["flag"][: self.count]

    @property
    def hashes(self) -> np.ndarray:
        """The hash of the sample that each row was made of, uint64 (count,)."""
        return self._records["hash"][: self.count]

    @property
    def lengths(self) -> np.ndarray:
        """Bytes of each row, int64 (count,)."""
        return np.diff(self._records["end"][: self.count], prepend=0)

    @property
    def size(self) -> int:
        return int(self._records["end"][self.count - 1]) if self.count else 0

    def add(self, data: bytes, lengths: np.ndarray, flags: np.ndarray, hashes: np.ndarray) -> slice:
        """The next rows, their bytes end to end; returns which they are. Raises TooLarge or CacheRefused where there is
        no room for them."""
        added = slice(self.count, self.count + len(lengths))
        self._append(data)
        self._records["end"][added] = self.size + np.cumsum(lengths)
        self._records["flag"][added] = flags
        self._records["hash"][added] = hashes
        self.count = added.stop
        return added

    def read(self, row: int, into: np.ndarray | None = None) -> np.ndarray:
        """A copy of a row's bytes (uint8), in `into` where that is given, which must have its size. Raises Damaged."""
        start = int(self._records["end"][row - 1]) if row else 0
        size = int(self._records["end"][row]) - start
        found = np.empty(size, np.uint8) if into is None else into.reshape(-1)
        if len(found) != size:
            raise Damaged
        self._read(row, start, found)
        return found

    @abstractmethod
    def settle(self) -> None:
        """Nothing more is added."""

    @abstractmethod
    def _append(self, data: bytes) -> None: ...

    @abstractmethod
    def _read(self, row: int, start: int, into: np.ndarray) -> None: ...


class MemoryStore(Store):
    """At most `room` bytes."""

    def __init__(self, rows: int, room: float) -> None:
        super().__init__(rows)
        self.room = room
        self._parts: list[np.ndarray] = []
        self._starts: list[int] = []

    def _append(self, data: bytes) -> None:
        if self.size + len(data) > self.room:
            raise TooLarge(f"they take more than {size_text(self.room)}")
        self._starts.append(self.size)
        self._parts.append(np.frombuffer(data, np.uint8))

    def settle(self) -> None:
        """There is nothing to do."""

    def _read(self, row: int, start: int, into: np.ndarray) -> None:
        # The last part that starts here: those before it are empty.
        part = bisect_right(self._starts, start) - 1
        start -= self._starts[part]
        into[:] = self._parts[part][start : start + len(into)]


class DiskStore(Store, CacheEntry):
    """Read by `pread` into memory of its own, so that a file of any size adds nothing to this process; forks may read.

    A row's checksum is compared when it is read for the first time.
    """

    def __init__(self, folder: Path, rows: int, expected: int) -> None:
        Store.__init__(self, rows)
        CacheEntry.__init__(self, folder)
        self.expected = expected  # bytes, in the end
        self._file = os.open(folder / "data.bin", os.O_RDONLY)
        self._writing = -1
        self._recorded = 0
        self._seen = np.zeros(rows, bool)

    def load(self) -> None:
        """Take over the rows that are there."""
        content = (self.folder / "index.bin").read_bytes()
        there: np.ndarray = np.frombuffer(content, RECORD, min(len(content) // INDEX_BYTES, self.rows))
        # What follows a record that can't be is of no use.
        whole = (np.diff(there["end"], prepend=0) >= 0) & (there["end"] <= os.fstat(self._file).st_size)
        self.count = self._recorded = len(there) if whole.all() else int(np.argmin(whole))
        self._records[: self.count] = there[: self.count]

    def lacks(self) -> int:
        return 0 if self.count == self.rows else max(1, self.expected - self.size)

    def _append(self, data: bytes) -> None:
        with refusing(self.folder):
            if self._writing < 0:
                # Over what is not recorded; what a run that has it open reads stays as it is, as the same bytes come.
                os.truncate(self.folder / "index.bin", self.count * INDEX_BYTES)
                self._writing = os.open(self.folder / "data.bin", os.O_WRONLY)
                os.lseek(self._writing, self.size, os.SEEK_SET)
            left = memoryview(data)
            while left:
                left = left[os.write(self._writing, left) :]

    def add(self, data: bytes, lengths: np.ndarray, flags: np.ndarray, hashes: np.ndarray) -> slice:
        added = super().add(data, lengths, flags, hashes)
        view, start = memoryview(data), 0
        for row, length in zip(range(added.start, added.stop), lengths.tolist(), strict=True):
            self._records["checksum"][row] = self._checksum(row, view[start : start + length])
            start += length
        self.flush_now_and_then()
        return added

    def flush(self) -> None:
        if self.count == self._recorded:
            return
        with refusing(self.folder):
            os.fsync(self._writing)  # before the record of it
            with (self.folder / "index.bin").open("ab") as index:
                index.write(self._records[self._recorded : self.count].tobytes())
                index.flush()
                os.fsync(index.fileno())
        self._recorded = self.count

    def _read(self, row: int, start: int, into: np.ndarray) -> None:
        short = os.preadv(self._file, [into.data], start) != len(into)
        if not short and self._seen[row]:
            return
        if short or self._checksum(row, into.data) != int(self._records["checksum"][row]):
            with suppress(OSError):  # the next run makes it again from here on
                os.truncate(self.folder / "index.bin", row * INDEX_BYTES)
            raise Damaged
        self._seen[row] = True

    def _checksum(self, row: int, data: memoryview) -> int:
        """Of a row's bytes with its number, flag and hash, so that a record can't vouch for another one."""
        record = self._records[row]
        start = zlib.crc32(record["hash"].tobytes(), (row * 31 + int(record["flag"])) & 0xFFFFFFFF)
        return zlib.crc32(data, start)

    def settle(self) -> None:
        try:
            CacheEntry.settle(self)
        finally:
            if self._writing >= 0:
                os.close(self._writing)
                self._writing = -1

    def close(self) -> None:
        super().close()
        os.close(self._file)
        self._file = -1


def open_store(cache: Cache, key: str, rows: int, size: int, what: dict[str, Any]) -> DiskStore:
    """The store of an entry, which is begun when there is none; it will have about `size` bytes.

    Where rows are missing, this process may add them until the store's `settle`. Raises CacheRefused where the
    cache can't be used.
    """

    def read(folder: Path, writing: bool) -> DiskStore | None:
        with refusing(folder):
            try:
                found = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
                if {name: found.get(name) for name in ("format", "rows")} != {"format": FORMAT, "rows": rows}:
                    raise ValueError("another format, or number of rows")
                store = DiskStore(folder, rows, size)
                store.load()
            except FileNotFoundError:
                return None
            except (ValueError, AttributeError, RecursionError) as error:
                if writing:
                    cache.tell(f"the stored samples in {folder} were damaged ({error}): they are made again")
                return None
            return store

    def create(folder: Path) -> DiskStore:
        with refusing(folder):
            (folder / "entry.json").unlink(missing_ok=True)
            for name in ("data.bin", "index.bin"):
                (folder / name).write_bytes(b"")
                sync(folder / name)
            write_json(
                folder / "entry.json", {**what, "format": FORMAT, "rows": rows, "created": round(time.time(), 3)}
            )
            return DiskStore(folder, rows, size)

    return cache.enter("samples", key, size, read, create)

"""Records: bytes of any length for each row, written in any order and read in any order.

Samples, features and activations are all stored this way: in memory here, on disk in `disk_records.py`.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod

import numpy as np

from deeptune.data.cache.entry import CacheRefused
from deeptune.data.cache.sample_hashes import HASH
from deeptune.formatting import size_text

RECORD = np.dtype(
    [("row", "<u4"), ("size", "<u4"), ("start", "<u8"), ("checksum", "<u4"), ("flag", "<u4"), ("hash", HASH)]
)
_COPIED_AT_ONCE = 64 * 2**20  # bytes that are copied at once
MAX_ROWS = _MAX_SIZE = 2**32 - 1


class TooLarge(Exception):
    """Raised when rows do not fit in memory; the text says which and how large."""


class Damaged(Exception):
    """The bytes of a row are not those that were written."""


class Records(ABC):
    """Bytes, a flag (uint32) and a hash (uint64) for each of `count` rows.

    `done` (bool (count,)) says which rows are there; `size` is the number of bytes that they take.
    """

    def __init__(self, count: int) -> None:
        if count > MAX_ROWS:
            raise CacheRefused(f"{count:,} rows are more than a file of records can hold ({MAX_ROWS:,})")
        self.count, self.size = count, 0
        self.done = np.zeros(count, bool)
        self._records = np.zeros(count, RECORD)
        self._slots: tuple[int, np.ndarray] | None = None

    @property
    def flags(self) -> np.ndarray:
        """The flag of each row, uint32 (count,)."""
        return self._records["flag"]

    @property
    def hashes(self) -> np.ndarray:
        """The hash of each row, uint64 (count,)."""
        return self._records["hash"]

    @property
    def lengths(self) -> np.ndarray:
        """Bytes of each row, int64 (count,)."""
        return self._records["size"].astype(np.int64)

    def missing(self) -> np.ndarray:
        """Return the rows that are still to be written, int64, ascending."""
        return np.flatnonzero(~self.done)

    def put(
        self,
        rows: np.ndarray,
        data: bytes | np.ndarray,
        lengths: np.ndarray | int,
        flags: np.ndarray | int = 0,
        hashes: np.ndarray | int = 0,
    ) -> None:
        """Write rows (int64 (n,)): their bytes end to end, the length of each, flags and hashes.

        Raises TooLarge or CacheRefused if there is no room for them.
        """
        content = (np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data.reshape(-1).view(np.uint8)).data
        if np.max(lengths, initial=0) > _MAX_SIZE:
            raise CacheRefused(f"a record takes {size_text(np.max(lengths))}, more than {size_text(_MAX_SIZE)}")
        records = np.zeros(len(rows), RECORD)
        records["row"], records["size"], records["flag"], records["hash"] = rows, lengths, flags, hashes
        ends = np.cumsum(records["size"], dtype=np.uint64)
        starts = ends - records["size"]
        records["checksum"] = checksums(content, starts, records)
        self._write(content)
        records["start"] = starts + np.uint64(self.size)
        self.size += len(content)
        self._records[rows] = records
        self.done[rows] = True
        self._slots = None

    def read(self, row: int, into: np.ndarray | None = None) -> np.ndarray:
        """Copy the bytes of a row (uint8), to `into` if that is given, which must have their size. Raises Damaged."""
        record = self._records[row]
        found = np.empty(int(record["size"]), np.uint8) if into is None else into.reshape(-1)
        if not self.done[row] or len(found) != record["size"]:
            raise Damaged
        self._read(row, int(record["start"]), found)
        return found

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Copy the bytes of rows (int64 (n,)), end to end (uint8).

        Checksums are not compared: `DiskRecords.verify` does that before.
        """
        if self._slots is None:
            self._slots = self._find_slots()
        size, slots = self._slots
        data = self._view()
        if size:  # gathering rows of a matrix takes a tenth of the time of a loop
            return np.take(data[: len(data) // size * size].reshape(-1, size), slots[rows], axis=0).reshape(-1)
        starts, sizes = slots[rows].tolist(), self._records["size"][rows].tolist()
        parts = [data[start : start + length] for start, length in zip(starts, sizes, strict=True)]
        return np.concatenate([np.zeros(0, np.uint8), *parts])

    def adopt(self, other: Records) -> None:
        """Copy the rows that `other`, of the same rows, has."""
        rows, lengths = np.flatnonzero(other.done), other.lengths
        for some in split_by_size(rows, lengths, _COPIED_AT_ONCE):
            self.put(some, other.take(some), lengths[some], other.flags[some], other.hashes[some])

    def _find_slots(self) -> tuple[int, np.ndarray]:
        """Return the bytes of each row and its place in a matrix of such rows.

        If lengths differ, returns 0 and where each starts.
        """
        sizes, starts = self._records["size"][self.done], self._records["start"].astype(np.int64)
        size = int(sizes[0]) if len(sizes) else 0
        if size and (sizes == size).all() and not (starts[self.done] % size).any():
            return size, starts // size
        return 0, starts

    @abstractmethod
    def flush(self) -> None:
        """Make what was written so far survive a kill."""

    @abstractmethod
    def settle(self) -> None:
        """End writing."""

    @abstractmethod
    def _write(self, data: memoryview) -> None:
        """Append bytes at `size`."""

    @abstractmethod
    def _read(self, row: int, start: int, into: np.ndarray) -> None: ...

    @abstractmethod
    def _view(self) -> np.ndarray:
        """View all bytes (uint8) without a copy. Callers must not keep the view."""


class MemoryRecords(Records):
    """Records of at most `max_bytes` bytes, in memory."""

    def __init__(self, count: int, max_bytes: float) -> None:
        super().__init__(count)
        self.max_bytes = max_bytes
        self._data = bytearray()  # grows in place: the system moves pages, not bytes

    def flush(self) -> None:
        """Do nothing: memory does not survive a kill."""

    def settle(self) -> None:
        """Do nothing: there is no writer to end."""

    def _write(self, data: memoryview) -> None:
        if self.size + len(data) > self.max_bytes:
            raise TooLarge(f"they take more than {size_text(self.max_bytes)}")
        self._data += data

    def _read(self, row: int, start: int, into: np.ndarray) -> None:
        into[:] = self._view()[start : start + len(into)]

    def _view(self) -> np.ndarray:
        return np.frombuffer(self._data, np.uint8)


def checksums(data: memoryview, starts: np.ndarray, records: np.ndarray) -> np.ndarray:
    """Return the CRC-32 of the bytes of rows, uint32 (n,).

    Row, flag and hash seed it, so that a record vouches for its own row only.
    """
    folded = (records["hash"] ^ (records["hash"] >> np.uint64(32))).astype(np.uint32)
    seeds = folded ^ (records["row"] * np.uint32(31) + records["flag"])
    ends = starts + records["size"]
    crc32 = zlib.crc32
    found = (
        crc32(data[start:end], seed)
        for start, end, seed in zip(starts.tolist(), ends.tolist(), seeds.tolist(), strict=True)
    )
    return np.fromiter(found, np.uint32, len(records))


def split_by_size(rows: np.ndarray, sizes: np.ndarray, max_bytes: int) -> list[np.ndarray]:
    """Split rows into parts of about `max_bytes` bytes."""
    numbers = np.cumsum(sizes[rows], dtype=np.int64) // max_bytes
    return np.split(rows, np.flatnonzero(np.diff(numbers)) + 1) if len(rows) else []

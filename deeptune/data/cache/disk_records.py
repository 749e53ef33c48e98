"""Records on disk: an entry of the cache that survives kills, damage and full disks.

Beside the locks of `entry.py`, its folder has

    entry.json    the description; says `complete` once all rows are there
    data.bin      the bytes of the records, in the order of writing
    index.bin     one RECORD for each row, appended after its bytes are on the disk

A killed process loses what it wrote after the last flush, which is at most `FLUSH_INTERVAL` seconds old; the next one
writes the rows that are missing. A row whose bytes do not match their checksum is missing, too.
"""

from __future__ import annotations

import mmap
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeptune.data.cache.entry import FORMAT, Cache, CacheEntry, cache_folder, read_description, refusing
from deeptune.data.cache.records import MAX_ROWS, RECORD, Damaged, Records, checksums, split_by_size
from deeptune.runs.files import replacing, sync, write_json

MAX_MAPPED = 64 * 2**20  # bytes of a mapped file that may count as this process's memory
_PAGES = 2**16  # bytes that the system maps around each page that is read
_VOID = MAX_ROWS.to_bytes(4, "little")  # the row of an index record that counts for nothing


class DiskRecords(Records, CacheEntry):
    """Records in an entry of the cache.

    Single rows are read by `pread`, many by a memory map; either way a file of any size adds little to this process's
    memory. Data workers may read, too, whether they are forked or spawned. `read` compares the checksum of a row when
    it reads it for the first time.
    """

    def __init__(self, folder: Path, count: int, expected_size: int) -> None:
        Records.__init__(self, count)
        CacheEntry.__init__(self, folder)
        self.expected_size = expected_size  # bytes, at the end
        self._verified = np.zeros(count, bool)
        self._unrecorded: list[np.ndarray] = []
        self._reading = self._writing = -1
        self._map: mmap.mmap | None = None
        self._touched = 0

    def __getstate__(self) -> dict[str, Any]:
        # A process that is spawned opens the file itself; the locks stay with its parent.
        return {**self.__dict__, "_locks": [], "_reading": -1, "_writing": -1, "_map": None, "_touched": 0}

    def load(self, *, repair: bool = False) -> None:
        """Read the index. With `repair`, what is wrong in it is removed. Raises OSError."""
        content = (self.folder / "index.bin").read_bytes()
        there: np.ndarray = np.frombuffer(content, RECORD, len(content) // RECORD.itemsize)
        with np.errstate(over="ignore"):
            ends = there["start"] + there["size"]
        valid = (there["row"] < self.count) & (ends <= self._file_size()) & (ends >= there["start"])
        kept = there[valid]
        self._records[kept["row"]] = kept  # the last record of a row counts
        self.done[kept["row"]] = True
        self.size = int(ends[valid].max(initial=0))
        if repair and len(content) != int(self.done.sum()) * RECORD.itemsize:
            self._rewrite_index()

    def verify(self, *, repair: bool = False) -> int:
        """Compare the checksums of all rows; those that are damaged are missing from now on. Returns how many."""
        rows = np.flatnonzero(self.done)
        rows = rows[np.argsort(self._records["start"][rows])]  # in the order of the file
        damaged = 0
        for some in split_by_size(rows, self._records["size"], MAX_MAPPED):
            records = self._records[some]
            whole = checksums(self._view().data, records["start"], records) == records["checksum"]
            self._verified[some] = whole
            self.done[some[~whole]] = False
            damaged += int((~whole).sum())
            self._give_pages_back(int(records["size"].sum()))
        if damaged and repair:
            self._rewrite_index()
        return damaged

    def missing_bytes(self) -> int:
        if self.done.all():
            return 0
        return max(1, self.expected_size - self.size)

    def put(
        self,
        rows: np.ndarray,
        data: bytes | np.ndarray,
        lengths: np.ndarray | int,
        flags: np.ndarray | int = 0,
        hashes: np.ndarray | int = 0,
    ) -> None:
        super().put(rows, data, lengths, flags, hashes)
        self._unrecorded.append(np.asarray(rows, np.int64))
        self._verified[rows] = True
        self.flush_now_and_then()

    def take(self, rows: np.ndarray) -> np.ndarray:
        found = super().take(rows)
        self._give_pages_back(max(len(found), len(rows) * _PAGES))
        return found

    def flush(self) -> None:
        if not self._unrecorded:
            return
        records = self._records[np.concatenate(self._unrecorded)]
        with refusing(self.folder):
            os.fsync(self._writing)  # the bytes before their records
            with (self.folder / "index.bin").open("ab") as index:
                index.write(records.tobytes())
                index.flush()
                os.fsync(index.fileno())
        self._unrecorded.clear()

    def settle(self) -> None:
        try:
            CacheEntry.settle(self)
        finally:
            if self._writing >= 0:
                os.close(self._writing)
                self._writing = -1

    def close(self) -> None:
        super().close()
        self._map = None
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1

    def _write(self, data: memoryview) -> None:
        with refusing(self.folder):
            if self._writing < 0:
                self._writing = os.open(self.folder / "data.bin", os.O_WRONLY)
            place = self.size  # over bytes that have no record
            while data:
                written = os.pwrite(self._writing, data, place)
                data, place = data[written:], place + written

    def _read(self, row: int, start: int, into: np.ndarray) -> None:
        whole = os.preadv(self._open(), [into.data], start) == len(into)
        if whole and not self._verified[row]:
            record = self._records[row : row + 1]
            whole = checksums(into.data, np.zeros(1, np.int64), record)[0] == record["checksum"][0]
        if not whole:
            self._void(row)
            raise Damaged
        self._verified[row] = True

    def _open(self) -> int:
        if self._reading < 0:
            opened = os.open(self.folder / "data.bin", os.O_RDONLY)
            if self._reading < 0:
                self._reading = opened
            else:  # another thread was faster
                os.close(opened)
        return self._reading

    def _file_size(self) -> int:
        return os.stat(self.folder / "data.bin").st_size

    def _view(self) -> np.ndarray:
        # Written by pwrite: to write to a map of a file on a full disk kills the process.
        if self._map is None or len(self._map) < self.size:
            self._map = mmap.mmap(self._open(), self._file_size(), prot=mmap.PROT_READ) if self.size else None
        return np.frombuffer(self._map or b"", np.uint8)

    def _give_pages_back(self, size: int) -> None:
        """Return mapped pages to the system's cache of the file, as they count as this process's memory."""
        self._touched += size
        if self._touched > MAX_MAPPED and self._map is not None and len(self._map) > MAX_MAPPED:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0

    def _rewrite_index(self) -> None:
        with refusing(self.folder), replacing(self.folder / "index.bin") as file:
            file.write_bytes(self._records[self.done].tobytes())

    def _void(self, row: int) -> None:
        """Make a damaged row one that is missing, for the next run."""
        self.done[row] = False
        with suppress(OSError):
            index = np.fromfile(self.folder / "index.bin", RECORD)
            with (self.folder / "index.bin").open("r+b") as file:
                for place in np.flatnonzero(index["row"] == row).tolist():
                    file.seek(place * RECORD.itemsize)
                    file.write(_VOID)


@dataclass(frozen=True)
class EntryRequest:
    """An entry that is wanted: its kind (`features`, `samples`), name, number of rows and about its bytes.

    `description` goes into entry.json. With `verify`, the checksums of all rows are compared when the entry is opened,
    else that of each row when it is first read.
    """

    kind: str
    key: str
    rows: int
    size: int
    description: dict[str, Any]
    verify: bool = False


def open_records(cache: Cache, request: EntryRequest) -> DiskRecords:
    """Open an entry, and create it if there is none.

    If rows are missing, this process may write them until `settle`. Raises CacheRefused if the cache can't be used.
    """
    folder = cache_folder() / request.kind / request.key

    def read(writing: bool) -> DiskRecords | None:
        records = DiskRecords(folder, request.rows, request.size)
        with refusing(folder):
            try:
                found = read_description(folder)
                if (found.get("format"), found.get("rows")) != (FORMAT, request.rows):
                    raise ValueError("entry.json has another format or number of rows")
                records.load(repair=writing)
            except FileNotFoundError as error:
                if not (folder / "entry.json").exists():
                    return None
                problem = f"{Path(error.filename).name} is missing"
            except ValueError as error:
                problem = str(error)
            else:
                damaged = records.verify(repair=writing) if request.verify else 0
                if damaged and writing:
                    cache.tell(
                        f"{damaged:,} of {request.rows:,} rows of the stored {request.kind} in {folder} were damaged: "
                        "they are computed again"
                    )
                return records
        if writing:
            cache.tell(f"the stored {request.kind} in {folder} were damaged ({problem}): they are computed again")
        return None

    def create() -> DiskRecords:
        with refusing(folder):
            for name in ("entry.json", "data.bin", "index.bin"):  # new files, as another process may have these mapped
                (folder / name).unlink(missing_ok=True)
            for name in ("data.bin", "index.bin"):
                (folder / name).touch()
                sync(folder / name)
            description = {"format": FORMAT, "rows": request.rows, "created": round(time.time(), 3)}
            write_json(folder / "entry.json", {**request.description, **description})
            return DiskRecords(folder, request.rows, request.size)

    return cache.enter(folder, request.size, read, create)

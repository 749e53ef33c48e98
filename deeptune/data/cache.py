"""Features of frozen backbones, on disk, for every later run that would compute the same bits.

An entry (`entries.py`) has beside its locks

    entry.json      what it is, for people; written last
    order.bin       int64 (N,): which of the N rows stands at each place of the table
    features.bin    float32 (V, width): the table, in blocks of the rows that passed the backbone together; V is N, or
                    the number of all tokens where each token of a text has a vector
    blocks.txt      `BLOCK CHECKSUM` for each block that is whole, written after the block is on the disk
"""

from __future__ import annotations

import json
import mmap
import os
import re
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from deeptune.data.entries import FORMAT, Cache, CacheEntry, file_size, refusing
from deeptune.runs.files import sync, write_json, write_text

MAPPED = 64 * 2**20  # bytes of a table that may count as this process's memory
_PAGES = 2**16  # bytes that the system maps around each that is read
_LINE = re.compile(r"(\d{1,12}) ([0-9a-f]{8})")


# Tables.


class Table:
    """Features of some rows of a source, in memory: float32 (V, width), one vector for each row, or `lengths` (int64).

    `rows` (int64, ascending) are the source's; place p of the table holds row `rows[order[p]]`. It is filled in blocks
    of `block` places, whole or not at all.
    """

    def __init__(
        self, rows: np.ndarray, width: int, block: int, order: np.ndarray, lengths: np.ndarray | None = None
    ) -> None:
        self.rows, self.order, self.width, self.block = rows, order, width, block
        self.vectors = len(rows) if lengths is None else int(lengths.sum())
        self._ends = None if lengths is None else np.cumsum(lengths[order])
        self.done = np.zeros(-(-len(rows) // block), bool)
        self._place = np.empty(len(rows), np.int64)
        self._place[order] = np.arange(len(rows))
        self.values = self._make_values()

    def _make_values(self) -> np.ndarray:
        return np.empty((self.vectors, self.width), np.float32)

    @property
    def bytes(self) -> int:
        return self.vectors * self.width * 4

    def places_of(self, block: int) -> slice:
        """The places of a block."""
        return slice(block * self.block, min((block + 1) * self.block, len(self.rows)))

    def span(self, places: slice) -> slice:
        """Where the vectors of some places are in `values`."""
        if self._ends is None:
            return places
        return slice(int(self._ends[places.start - 1]) if places.start else 0, int(self._ends[places.stop - 1]))

    def vectors_of(self, block: int) -> np.ndarray:
        return self.values[self.span(self.places_of(block))]

    def missing(self) -> list[int]:
        """The blocks that are still to be computed."""
        return np.flatnonzero(~self.done).tolist()

    def rows_of(self, blocks: list[int]) -> np.ndarray:
        """The source's rows of some blocks, in the table's order."""
        places = [np.arange(part.start, part.stop) for part in map(self.places_of, blocks)]
        return self.rows[self.order[np.concatenate(places)]]

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Where some of the source's rows stand in `values`."""
        return self._place[np.searchsorted(self.rows, rows)]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """A copy of the features of some of the source's rows, float32 (n, width), or as many as they have."""
        return self.at(self.places(rows))

    def at(self, places: np.ndarray) -> np.ndarray:
        """A copy of what stands at some places, float32 (n, width), or as many as they have."""
        if self._ends is None:
            return self.values[places]
        return np.concatenate([self.values[self.span(slice(place, place + 1))] for place in places.tolist()])

    def put(self, block: int, values: np.ndarray) -> None:
        """Fill in a block. Raises CacheRefused where the disk does not take it."""
        self.values[self.span(self.places_of(block))] = values
        self.done[block] = True

    def flush(self) -> None:
        """What was put so far is kept from now on, whatever happens to this process."""

    def adopt(self, other: Table) -> None:
        """Take over the blocks of a table of the same rows."""
        for block in np.flatnonzero(other.done).tolist():
            self.put(block, other.vectors_of(block))


class DiskTable(Table, CacheEntry):
    """A table in an entry's folder: read through a memory map, written beside it, as writing to a map on a full disk
    kills the process."""

    def __init__(
        self,
        folder: Path,
        rows: np.ndarray,
        width: int,
        block: int,
        order: np.ndarray,
        lengths: np.ndarray | None = None,
    ) -> None:
        CacheEntry.__init__(self, folder)
        self._file = -1  # open while the table is written
        self._pending: list[str] = []
        self._touched = 0
        Table.__init__(self, rows, width, block, order, lengths)

    def _make_values(self) -> np.ndarray:
        with (self.folder / "features.bin").open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), self.bytes, prot=mmap.PROT_READ)
        return np.frombuffer(self._mapped, np.float32).reshape(self.vectors, self.width)

    def at(self, places: np.ndarray) -> np.ndarray:
        found = super().at(places)
        self._touch(max(found.nbytes, len(places) * _PAGES))
        return found

    def _touch(self, size: int) -> None:
        """Pages that were read count as this process's memory: give them back, to the system's cache of the file."""
        self._touched += size
        if self._touched > MAPPED and self.bytes > MAPPED:
            self._mapped.madvise(mmap.MADV_DONTNEED)
            self._touched = 0

    def check(self) -> list[int]:
        """Find out which blocks are whole, by their checksums; returns those that were said to be and are not."""
        said: dict[int, str] = {}
        with suppress(FileNotFoundError):
            for line in (self.folder / "blocks.txt").read_text(encoding="ascii", errors="replace").splitlines():
                if (found := _LINE.fullmatch(line)) and int(found[1]) < len(self.done):
                    said[int(found[1])] = found[2]
        for block, checksum in said.items():
            vectors = self.vectors_of(block)
            self.done[block] = _checksum(block, vectors) == checksum
            self._touch(vectors.nbytes)
        return [block for block in said if not self.done[block]]

    def put(self, block: int, values: np.ndarray) -> None:
        values = np.ascontiguousarray(values, np.float32)
        with refusing(self.folder):
            if self._file < 0:
                self._file = os.open(self.folder / "features.bin", os.O_WRONLY)
            content, place = memoryview(values.tobytes()), self.span(self.places_of(block)).start * self.width * 4
            while content:
                written = os.pwrite(self._file, content, place)
                content, place = content[written:], place + written
        self._pending.append(f"{block} {_checksum(block, values)}\n")
        self.done[block] = True
        self.flush_now_and_then()

    def lacks(self) -> int:
        return sum(self.vectors_of(block).nbytes for block in self.missing())

    def flush(self) -> None:
        if not self._pending:
            return
        with refusing(self.folder):
            os.fsync(self._file)  # before the record of it
            with (self.folder / "blocks.txt").open("a", encoding="ascii") as record:
                record.write("".join(self._pending))
                record.flush()
                os.fsync(record.fileno())
        self._pending.clear()

    def settle(self) -> None:
        try:
            super().settle()
        finally:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1


def _checksum(block: int, values: np.ndarray) -> str:
    return f"{zlib.crc32(values.tobytes(), block):08x}"  # the number in it: a line can't vouch for another block


class FeatureCache(Cache):
    """The cache of a run, as one that holds tables of features."""

    def open(
        self,
        key: str,
        rows: np.ndarray,
        width: int,
        block: int,
        order: Callable[[], np.ndarray],
        what: dict[str, Any],
        lengths: np.ndarray | None = None,
    ) -> DiskTable:
        """The table of an entry, which is made when there is none; `order()` is asked for then, `what` describes it.

        Where blocks are missing, this process may write them until the table's `settle`; see `Cache.enter`.
        """
        return self.enter(
            "features",
            key,
            _bytes(rows, width, lengths),
            lambda folder, writing: self._read(folder, rows, width, block, lengths, writing=writing),
            lambda folder: _create(folder, rows, width, block, order(), lengths, what),
        )

    def _read(
        self,
        folder: Path,
        rows: np.ndarray,
        width: int,
        block: int,
        lengths: np.ndarray | None,
        *,
        writing: bool = False,
    ) -> DiskTable | None:
        """The entry as it is; None where there is none, or none to go on with. With `writing` what is damaged is told,
        and its record is put right."""
        problem = None
        with refusing(folder):
            try:
                found = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
                order = np.fromfile(folder / "order.bin", np.int64)
                layout = _layout(len(rows), width, block, order, lengths)
                if {name: found.get(name) for name in layout} != layout:
                    problem = "entry.json and order.bin do not belong together"
            except FileNotFoundError as error:
                if not (folder / "entry.json").exists():
                    return None
                problem = f"{error.filename} is missing"
            except (ValueError, AttributeError, RecursionError) as error:
                problem = f"entry.json can't be read: {error}"
        if problem is not None:
            if writing:
                self.tell(f"the stored features in {folder} were damaged ({problem}): they are computed again")
            return None
        with refusing(folder):
            size = _bytes(rows, width, lengths)
            if file_size(folder / "features.bin") < size:
                if not writing:
                    return None
                _grow(folder, size)
            table = DiskTable(folder, rows, width, block, order, lengths)
            damaged = table.check()
            if writing and damaged:
                self.tell(
                    f"{len(damaged):,} of {len(table.done):,} blocks of the stored features in {folder} were damaged: "
                    "they are computed again"
                )
        if writing:
            whole = np.flatnonzero(table.done).tolist()
            lines = [f"{one} {_checksum(one, table.vectors_of(one))}\n" for one in whole]
            with refusing(folder):
                write_text(folder / "blocks.txt", "".join(lines))
        return table


def _bytes(rows: np.ndarray, width: int, lengths: np.ndarray | None) -> int:
    return (len(rows) if lengths is None else int(lengths.sum())) * width * 4


def _layout(rows: int, width: int, block: int, order: np.ndarray, lengths: np.ndarray | None) -> dict[str, int]:
    checksum = zlib.crc32(order.tobytes())
    layout = {"format": FORMAT, "rows": rows, "width": width, "block": block, "order": checksum}
    return layout if lengths is None else {**layout, "lengths": zlib.crc32(lengths.tobytes())}


def _create(
    folder: Path,
    rows: np.ndarray,
    width: int,
    block: int,
    order: np.ndarray,
    lengths: np.ndarray | None,
    what: dict[str, Any],
) -> DiskTable:
    order = np.ascontiguousarray(order, np.int64)
    with refusing(folder):
        for name in ("entry.json", "blocks.txt"):
            (folder / name).unlink(missing_ok=True)
        order.tofile(folder / "order.bin")
        sync(folder / "order.bin")
        _grow(folder, _bytes(rows, width, lengths))
        layout = _layout(len(rows), width, block, order, lengths)
        write_json(folder / "entry.json", {**what, **layout, "created": round(time.time(), 3)})
        return DiskTable(folder, rows, width, block, order, lengths)


def _grow(folder: Path, size: int) -> None:
    """Give the table its size; it never shrinks, as another process may have it mapped."""
    with (folder / "features.bin").open("ab") as file:
        if file.tell() < size:
            file.truncate(size)

"""Pooled features of frozen backbones, on disk, for every later run that would compute the same bits.

An entry is a folder named by the SHA-256 of all that decides its content (`key_of`):

    entry.json      what it is, for people; written last
    order.bin       int64 (N,): which of the N rows stands at each place of the table
    features.bin    float32 (N, width): the table, in blocks of the rows that passed the backbone together
    blocks.txt      `BLOCK CHECKSUM` for each block that is whole, written after the block is on the disk
    use.lock        shared by who reads the entry, exclusive for who removes it
    write.lock      exclusive for the one who computes what is missing; the kernel opens it when that one is killed
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import mmap
import os
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from deeptune.errors import CheckpointError
from deeptune.runs.files import sync, write_json, write_text
from deeptune.runs.lock import close_lock, open_lock

FORMAT = 1  # to be raised when the same ingredients give other bits, or the files another layout
DEFAULT_LIMIT = "20 GB"
FLUSH_EVERY = 1.0  # seconds of work that a kill may cost
LOOK = 0.2  # seconds between looks at a lock that another run holds
MAPPED = 64 * 2**20  # bytes of a table that may count as this process's memory
_PAGES = 2**16  # bytes that the system maps around each that is read

_UNITS = {"B": 1, **{f"{prefix}B": 1000**n for n, prefix in enumerate("kMGTP", 1)}}
_UNITS |= {f"{prefix}iB": 1024**n for n, prefix in enumerate("KMGTP", 1)}
_KEY = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"(\d{1,12}) ([0-9a-f]{8})")
_Tell = Callable[[str], None]


class CacheRefused(Exception):
    """Why the cache can't be used, in words that go on after "because": no run ends for that."""


def cache_folder() -> Path:
    """`$DEEPTUNE_CACHE`, else `$XDG_CACHE_HOME/deeptune`, else `~/.cache/deeptune`."""
    if own := os.environ.get("DEEPTUNE_CACHE"):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The standard says that a relative path there is to be ignored.
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / "deeptune"


def cache_limit() -> int:
    """Bytes that the cache may hold: `$DEEPTUNE_CACHE_LIMIT`. Raises CacheRefused for what is no size."""
    text = os.environ.get("DEEPTUNE_CACHE_LIMIT") or DEFAULT_LIMIT
    units = {unit.lower(): size for unit, size in _UNITS.items()} | {"": 1}
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", text.strip().lower())
    if not found or found[2] not in units:
        raise CacheRefused(f"DEEPTUNE_CACHE_LIMIT is {text!r}, and a size such as '20 GB' or '500 MB' was expected")
    return int(float(found[1]) * units[found[2]])


def size_text(size: float) -> str:
    """`3.4 MB`: bytes in thousands."""
    units = ("B", "kB", "MB", "GB", "TB")
    power = 0
    while size >= 999.5 and power < len(units) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.0f} {units[power]}" if power == 0 or size >= 99.5 else f"{size:.1f} {units[power]}"


def key_of(ingredients: dict[str, Any]) -> str:
    """The name of an entry: it changes with each of its ingredients."""
    content = json.dumps({"format": FORMAT, **ingredients}, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(content.encode()).hexdigest()


# Tables.


class Table:
    """Features of some rows of a source, in memory: float32 (N, width).

    `rows` (int64, ascending) are the source's; place p of the table holds row `rows[order[p]]`. It is filled in blocks
    of `block` places, whole or not at all.
    """

    def __init__(self, rows: np.ndarray, width: int, block: int, order: np.ndarray) -> None:
        self.rows, self.order, self.width, self.block = rows, order, width, block
        self.done = np.zeros(-(-len(rows) // block), bool)
        self._place = np.empty(len(rows), np.int64)
        self._place[order] = np.arange(len(rows))
        self.values = self._make_values()

    def _make_values(self) -> np.ndarray:
        return np.empty((len(self.rows), self.width), np.float32)

    @property
    def bytes(self) -> int:
        return len(self.rows) * self.width * 4

    def slice(self, block: int) -> slice:
        return slice(block * self.block, min((block + 1) * self.block, len(self.rows)))

    def missing(self) -> list[int]:
        """The blocks that are still to be computed."""
        return np.flatnonzero(~self.done).tolist()

    def rows_of(self, blocks: list[int]) -> np.ndarray:
        """The source's rows of some blocks, in the table's order."""
        places = [np.arange(part.start, part.stop) for part in map(self.slice, blocks)]
        return self.rows[self.order[np.concatenate(places)]]

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Where some of the source's rows stand in `values`."""
        return self._place[np.searchsorted(self.rows, rows)]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """A copy of the features of some of the source's rows, float32 (n, width)."""
        return self.at(self.places(rows))

    def at(self, places: np.ndarray) -> np.ndarray:
        """A copy of what stands at some places, float32 (n, width)."""
        return self.values[places]

    def put(self, block: int, values: np.ndarray) -> None:
        """Fill in a block. Raises CacheRefused where the disk does not take it."""
        self.values[self.slice(block)] = values
        self.done[block] = True

    def flush(self) -> None:
        """What was put so far is kept from now on, whatever happens to this process."""

    def adopt(self, other: Table) -> None:
        """Take over the blocks of a table of the same rows."""
        for block in np.flatnonzero(other.done).tolist():
            self.put(block, other.values[other.slice(block)])


class DiskTable(Table):
    """A table in an entry's folder: read through a memory map, written beside it, as writing to a map on a full disk
    kills the process."""

    def __init__(self, folder: Path, rows: np.ndarray, width: int, block: int, order: np.ndarray) -> None:
        self.folder = folder
        self._file = -1  # open while the table is written
        self._locks: list[int] = []
        self._pending: list[str] = []
        self._flushed = time.monotonic()
        self._touched = 0
        super().__init__(rows, width, block, order)

    def _make_values(self) -> np.ndarray:
        with (self.folder / "features.bin").open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), self.bytes, prot=mmap.PROT_READ)
        return np.frombuffer(self._mapped, np.float32).reshape(len(self.rows), self.width)

    def at(self, places: np.ndarray) -> np.ndarray:
        found = self.values[places]
        self._touch(len(places) * max(self.width * 4, _PAGES))
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
            self.done[block] = _checksum(block, self.values[self.slice(block)]) == checksum
            self._touch(self.block * self.width * 4)
        return [block for block in said if not self.done[block]]

    def put(self, block: int, values: np.ndarray) -> None:
        values = np.ascontiguousarray(values, np.float32)
        with _refusing(self.folder):
            if self._file < 0:
                self._file = os.open(self.folder / "features.bin", os.O_WRONLY)
            content, place = memoryview(values.tobytes()), self.slice(block).start * self.width * 4
            while content:
                written = os.pwrite(self._file, content, place)
                content, place = content[written:], place + written
        self._pending.append(f"{block} {_checksum(block, values)}\n")
        self.done[block] = True
        if time.monotonic() - self._flushed >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        self._flushed = time.monotonic()
        if not self._pending:
            return
        with _refusing(self.folder):
            os.fsync(self._file)  # before the record of it
            with (self.folder / "blocks.txt").open("a", encoding="ascii") as record:
                record.write("".join(self._pending))
                record.flush()
                os.fsync(record.fileno())
        self._pending.clear()

    def settle(self) -> None:
        """The end of writing: what is missing now stays so, and another run may write."""
        try:
            self.flush()
        finally:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
            for handle in self._locks[1:]:
                close_lock(handle)
            del self._locks[1:]

    def close(self) -> None:
        """Let go of the entry: from now on it may be removed."""
        with suppress(CacheRefused):
            self.settle()
        for handle in self._locks:
            close_lock(handle)
        self._locks.clear()


def _checksum(block: int, values: np.ndarray) -> str:
    return f"{zlib.crc32(values.tobytes(), block):08x}"  # the number in it: a line can't vouch for another block


@contextmanager
def _locked(file: Path, how: int) -> Iterator[int]:
    """A lock that outlives the block, unless the block fails."""
    handle = open_lock(file)
    try:
        fcntl.flock(handle, how)
        yield handle
    except BaseException:
        close_lock(handle)
        raise


@contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    """Turn the system's refusal into the reason not to use the cache."""
    try:
        yield
    except OSError as error:
        raise CacheRefused(f"{folder}: {error.strerror or error}") from error
    except CheckpointError as error:
        raise CacheRefused(error.message.removeprefix("cannot write ")) from error


# The folder of them all.


@dataclass(frozen=True)
class EntryInfo:
    """What is known of an entry from outside. `used` is when a run opened it last."""

    key: str
    folder: Path
    what: str
    rows: int | None
    width: int | None
    bytes: int
    used: float
    complete: bool

    @classmethod
    def read(cls, folder: Path) -> EntryInfo:
        """Never fails: a damaged entry is one of unknown content."""
        size, used, content = 0, 0.0, {}
        with suppress(OSError):
            for file in folder.iterdir():
                size += file.stat().st_size
            used = folder.stat().st_mtime
            used = (folder / "entry.json").stat().st_mtime
        with suppress(OSError, ValueError, RecursionError):
            content = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
        known = isinstance(content, dict) and all(type(content.get(name)) is int for name in ("rows", "width", "block"))
        what = str(content.get("what", "")) if known else "damaged"
        done = set()
        with suppress(OSError):
            lines = (folder / "blocks.txt").read_text(encoding="ascii", errors="replace").splitlines()
            done = {line.partition(" ")[0] for line in lines}
        return cls(
            folder.name,
            folder,
            what,
            content["rows"] if known else None,
            content["width"] if known else None,
            size,
            used,
            known and content["block"] > 0 and len(done) >= -(-content["rows"] // content["block"]),
        )

    def remove(self) -> bool:
        """Remove it, unless a run uses it or it can't be removed; whether it is gone."""
        try:
            with _locked(self.folder / "use.lock", fcntl.LOCK_EX | fcntl.LOCK_NB) as handle:
                away = self.folder.with_name(f".{secrets.token_hex(6)}.removed")
                self.folder.rename(away)  # whoever asks for the entry from now on makes it anew
                shutil.rmtree(away, ignore_errors=True)
                close_lock(handle)
        except OSError:
            return False
        return True


def entries() -> list[EntryInfo]:
    """All entries of the cache, the one used last first."""
    try:
        folders = [path for path in _features_folder().iterdir() if _KEY.fullmatch(path.name)]
    except OSError:
        return []
    return sorted(map(EntryInfo.read, folders), key=lambda entry: -entry.used)


def remove_leftovers() -> None:
    """What a process that was killed while it removed an entry left of it."""
    with suppress(OSError):
        for path in _features_folder().glob(".*.removed"):
            shutil.rmtree(path, ignore_errors=True)


def _features_folder() -> Path:
    return cache_folder() / "features"


class FeatureCache:
    """The entries that a run has open: none of them is removed before `close`.

    `tell` gets a sentence where the run waits or something was damaged; `check` is called while it waits.
    """

    def __init__(self, tell: _Tell = lambda text: None, check: Callable[[], None] = lambda: None) -> None:
        self.tell, self.check = tell, check
        self._open: list[DiskTable] = []

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for table in self._open:
            table.close()
        self._open.clear()

    def open(
        self,
        key: str,
        rows: np.ndarray,
        width: int,
        block: int,
        order: Callable[[], np.ndarray],
        what: dict[str, Any],
    ) -> DiskTable:
        """The table of an entry, which is made when there is none; `order()` is asked for then, `what` describes it.

        Where blocks are missing, this process is the one that may write them, until the table's `settle`: a run that
        needs what another is computing waits for it. Raises CacheRefused where the cache can't be used.
        """
        limit = cache_limit()
        folder = _features_folder() / key
        locks = [self._lock_for_use(folder)]
        try:
            table = self._read(folder, rows, width, block)
            if table is None or not table.done.all():
                locks.append(self._lock_for_writing(folder))
                table = self._read(folder, rows, width, block, writing=True)
                if table is None:
                    self._make_room(folder, len(rows) * width * 4, limit)
                    table = _create(folder, rows, width, block, order(), what)
                else:
                    _require_free(folder, (~table.done).sum() * block * width * 4)
        except BaseException:
            for handle in locks:
                close_lock(handle)
            if not (folder / "entry.json").exists():
                EntryInfo.read(folder).remove()
            raise
        table._locks = locks
        if table.done.all():
            table.settle()
        with suppress(OSError):
            os.utime(folder / "entry.json")  # when it was used last
        self._open.append(table)
        return table

    def discard(self, table: DiskTable) -> None:
        """Remove an entry that this run could not finish, so that it takes no room from the run itself."""
        self._open.remove(table)
        table.close()
        EntryInfo.read(table.folder).remove()

    def _lock_for_use(self, folder: Path) -> int:
        while True:
            with _refusing(folder):
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except FileExistsError:  # also where it is removed while mkdir looks whether it is a folder
                    if folder.exists() and not folder.is_dir():
                        raise
            with (
                _refusing(folder),
                suppress(FileNotFoundError),  # it was removed in between: once more
                _locked(folder / "use.lock", fcntl.LOCK_SH) as handle,
            ):
                if os.path.samestat(os.fstat(handle), os.stat(folder / "use.lock")):
                    return handle
                raise FileNotFoundError

    def _lock_for_writing(self, folder: Path) -> int:
        told = False
        while True:
            with (
                _refusing(folder),
                suppress(BlockingIOError),
                _locked(folder / "write.lock", fcntl.LOCK_EX | fcntl.LOCK_NB) as handle,
            ):
                return handle
            if not told:
                self.tell("another run is computing the same features: waiting for them")
                told = True
            self.check()
            time.sleep(LOOK)

    def _read(
        self, folder: Path, rows: np.ndarray, width: int, block: int, *, writing: bool = False
    ) -> DiskTable | None:
        """The entry as it is; None where there is none, or none to go on with. With `writing` what is damaged is told,
        and its record is put right."""
        problem = None
        with _refusing(folder):
            try:
                found = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
                order = np.fromfile(folder / "order.bin", np.int64)
                layout = _layout(len(rows), width, block, order)
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
        with _refusing(folder):
            short = _size(folder / "features.bin") < len(rows) * width * 4
            if short and not writing:
                return None
            if short:
                _grow(folder, len(rows) * width * 4)
            table = DiskTable(folder, rows, width, block, order)
            damaged = table.check()
            if writing and damaged:
                self.tell(
                    f"{len(damaged):,} of {len(table.done):,} blocks of the stored features in {folder} were damaged: "
                    "they are computed again"
                )
        if writing:
            whole = np.flatnonzero(table.done).tolist()
            lines = [f"{one} {_checksum(one, table.values[table.slice(one)])}\n" for one in whole]
            with _refusing(folder):
                write_text(folder / "blocks.txt", "".join(lines))
        return table

    def _make_room(self, folder: Path, size: int, limit: int) -> None:
        """Remove the entries that were not used for longest until a new one fits under the limit."""
        if size > limit:
            raise CacheRefused(
                f"the features take {size_text(size)} and the cache may hold {size_text(limit)} (DEEPTUNE_CACHE_LIMIT)"
            )
        others = [entry for entry in entries() if entry.folder != folder]
        total = sum(entry.bytes for entry in others)
        for entry in reversed(others):
            if total + size <= limit:
                break
            if entry.remove():
                total -= entry.bytes
                self.tell(f"removed from the cache for want of room: {entry.what} ({size_text(entry.bytes)})")
        if total + size > limit:
            raise CacheRefused(
                f"the cache may hold {size_text(limit)} (DEEPTUNE_CACHE_LIMIT), and runs in progress use "
                f"{size_text(total)} of it"
            )
        _require_free(folder, size)


def _require_free(folder: Path, size: int) -> None:
    """As much again must stay free for the run itself and for others."""
    with _refusing(folder):
        free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise CacheRefused(f"the disk of {folder} has {size_text(free)} left, and the features take {size_text(size)}")


def _layout(rows: int, width: int, block: int, order: np.ndarray) -> dict[str, int]:
    checksum = zlib.crc32(order.tobytes())
    return {"format": FORMAT, "rows": rows, "width": width, "block": block, "order": checksum}


def _create(
    folder: Path, rows: np.ndarray, width: int, block: int, order: np.ndarray, what: dict[str, Any]
) -> DiskTable:
    order = np.ascontiguousarray(order, np.int64)
    with _refusing(folder):
        for name in ("entry.json", "blocks.txt"):
            (folder / name).unlink(missing_ok=True)
        order.tofile(folder / "order.bin")
        sync(folder / "order.bin")
        _grow(folder, len(rows) * width * 4)
        layout = _layout(len(rows), width, block, order)
        write_json(folder / "entry.json", {**what, **layout, "created": round(time.time(), 3)})
        return DiskTable(folder, rows, width, block, order)


def _grow(folder: Path, size: int) -> None:
    """Give the table its size; it never shrinks, as another process may have it mapped."""
    with (folder / "features.bin").open("ab") as file:
        if file.tell() < size:
            file.truncate(size)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0

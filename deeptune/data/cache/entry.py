"""Entries of the cache on disk: where they are, who may use them, and which of them go when room runs out.

    features/KEY/    what a frozen backbone, or its frozen blocks, give for each row
    samples/KEY/     decoded images, token ids, or images as they are encoded
    imports/KEY/     a source that is not a Parquet file, as one (`importing/cached.py`)
    probes/KEY.json  what a small forward pass showed about a network (`backbones/behaviour.py`)
    rankings/KEY.json  what `deeptune probe` found for a data set (`probing/ranking.py`)

KEY is the SHA-256 of all that decides the content. Each folder holds `entry.json` (a description, for people and for
whoever opens it), `use.lock` (shared by readers, exclusive for removal) and `write.lock` (exclusive for the process
that writes; the kernel releases it when that process is killed). `disk_records.py` describes the other files.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from deeptune.errors import CheckpointError
from deeptune.formatting import size_text
from deeptune.runs.files import write_json
from deeptune.runs.lock import close_lock, open_lock

FORMAT = 4  # raise it when the same ingredients give other bits, or when the layout of the files changes
DEFAULT_LIMIT = "20 GB"
FLUSH_INTERVAL = 1.0  # seconds of work that a kill may cost
POLL_INTERVAL = 0.2  # seconds between two attempts to get a lock that another run holds
KINDS = ("features", "samples", "imports")

_KEY = re.compile(r"[0-9a-f]{64}")
_Tell = Callable[[str], None]
_E = TypeVar("_E", bound="CacheEntry")


class CacheRefused(Exception):
    """The cache can't be used. The message is a reason that can follow "because"; no run fails because of it."""


def cache_folder() -> Path:
    """Return `$DEEPTUNE_CACHE`, else `$XDG_CACHE_HOME/deeptune`, else `~/.cache/deeptune`."""
    if own := os.environ.get("DEEPTUNE_CACHE"):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG standard says to ignore a relative path.
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / "deeptune"


def cache_limit() -> int:
    """Return the bytes that the cache may hold: `$DEEPTUNE_CACHE_LIMIT`. Raises CacheRefused if that is not a size."""
    from pydantic import ByteSize, TypeAdapter, ValidationError  # here, as `deeptune --help` needs no pydantic

    text = os.environ.get("DEEPTUNE_CACHE_LIMIT") or DEFAULT_LIMIT
    try:
        return int(TypeAdapter(ByteSize).validate_python(text.strip()))
    except ValidationError as error:
        raise CacheRefused(
            f"DEEPTUNE_CACHE_LIMIT is {text!r}, and a size such as '20 GB' or '500 MB' was expected"
        ) from error


def key_of(ingredients: dict[str, Any]) -> str:
    """Return the name of an entry. It changes with each ingredient."""
    content = json.dumps({"format": FORMAT, **ingredients}, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(content.encode()).hexdigest()


@contextmanager
def locked(file: Path, how: int) -> Iterator[int]:
    """Lock a file. The lock outlives the block, unless the block fails."""
    handle = open_lock(file)
    try:
        fcntl.flock(handle, how)
        yield handle
    except BaseException:
        close_lock(handle)
        raise


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """Turn errors of the file system into CacheRefused."""
    try:
        yield
    except OSError as error:
        raise CacheRefused(f"{folder}: {error.strerror or error}") from error
    except CheckpointError as error:
        raise CacheRefused(error.message.removeprefix("cannot write ")) from error


def read_description(folder: Path) -> dict[str, Any]:
    """Return the content of an entry's entry.json. Raises OSError or ValueError."""
    try:
        content = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("entry.json is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("entry.json is not an object")
    return content


@dataclass(frozen=True)
class EntryInfo:
    """Facts about an entry that can be read without opening it.

    `used` is the time of its last use (seconds since 1970). `width` is the number of float32 values in a vector of
    features. `complete` says whether all rows were written.
    """

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
        """Look at an entry. Never fails: a damaged entry has unknown content."""
        size, used, content = 0, 0.0, {}
        with suppress(OSError):
            for file in folder.iterdir():
                size += file.stat().st_size
            used = folder.stat().st_mtime
            used = (folder / "entry.json").stat().st_mtime
        with suppress(OSError, ValueError):
            content = read_description(folder)
        rows, width = content.get("rows"), content.get("width")
        if type(rows) is not int or type(width) not in (int, type(None)):
            return cls(folder.name, folder, "damaged", None, None, size, used, complete=False)
        what, complete = str(content.get("what", "")), content.get("complete") is True
        if content.get("format") != FORMAT:
            what, complete = f"{what} (from another version of DeepTune)", True
        return cls(folder.name, folder, what, rows, width, size, used, complete)

    def remove(self) -> bool:
        """Remove the entry unless a run uses it. Returns whether it is gone."""
        try:
            with locked(self.folder / "use.lock", fcntl.LOCK_EX | fcntl.LOCK_NB) as handle:
                away = self.folder.with_name(f".{secrets.token_hex(6)}.removed")
                self.folder.rename(away)  # whoever asks for the entry from now on makes it anew
                shutil.rmtree(away, ignore_errors=True)
                close_lock(handle)
        except OSError:
            return False
        return True


def entries() -> list[EntryInfo]:
    """List all entries of the cache, the one used last first."""
    folders: list[Path] = []
    for kind in KINDS:
        with suppress(OSError):
            folders += (path for path in (cache_folder() / kind).iterdir() if _KEY.fullmatch(path.name))
    return sorted(map(EntryInfo.read, folders), key=lambda entry: -entry.used)


def remove_leftovers() -> None:
    """Remove the remains of entries whose removal was interrupted."""
    with suppress(OSError):
        for path in cache_folder().glob("*/.*.removed"):
            shutil.rmtree(path, ignore_errors=True)


def remove_findings() -> None:
    """Remove what is known about networks, and the rankings of backbones; finding them out again takes a moment."""
    for kind in ("probes", "rankings"):
        shutil.rmtree(cache_folder() / kind, ignore_errors=True)


class CacheEntry(ABC):
    """An entry that this process has open: its locks keep it from removal until `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locks: list[int] = []
        self._flushed = time.monotonic()

    @abstractmethod
    def missing_bytes(self) -> int:
        """Estimate how many bytes are still to be written; 0 exactly if the entry is complete."""

    @abstractmethod
    def flush(self) -> None:
        """Make what was written so far survive a kill. Raises CacheRefused if the disk does not take it."""

    def flush_now_and_then(self) -> None:
        """Flush if the last flush was `FLUSH_INTERVAL` seconds ago."""
        if time.monotonic() - self._flushed >= FLUSH_INTERVAL:
            self._flushed = time.monotonic()
            self.flush()

    def settle(self) -> None:
        """End writing: flush, describe the entry as complete if it is, and let another run write."""
        writes = len(self._locks) > 1
        try:
            self.flush()
            if writes and not self.missing_bytes():
                with suppress(CacheRefused, OSError, ValueError), refusing(self.folder):
                    write_json(self.folder / "entry.json", {**read_description(self.folder), "complete": True})
        finally:
            for handle in self._locks[1:]:
                close_lock(handle)
            del self._locks[1:]

    def close(self) -> None:
        """Release the entry: from now on it may be removed."""
        with suppress(CacheRefused):
            self.settle()
        for handle in self._locks:
            close_lock(handle)
        self._locks.clear()


class Cache:
    """The entries that a run has open. None of them is removed before `close`.

    `tell` gets a sentence when the run waits or something was damaged. `check` is called while the run waits, and may
    raise to end the waiting.
    """

    keeps = True  # whether there will be entries at all

    def __init__(self, tell: _Tell = lambda _text: None, check: Callable[[], None] = lambda: None) -> None:
        self.tell, self.check = tell, check
        self._open: list[CacheEntry] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release all entries."""
        for entry in self._open:
            entry.close()
        self._open.clear()

    def enter(self, folder: Path, size: int, read: Callable[[bool], _E | None], create: Callable[[], _E]) -> _E:
        """Open the entry of `size` bytes in `folder`, and create it if there is none.

        `read(writing)` returns the entry as it is, or None if it can't be used; with `writing`, this process may repair
        it. If something is missing, this process alone may write it until the entry's `settle`; a run that needs the
        same entry waits. Raises CacheRefused.
        """
        limit = cache_limit()
        kind = folder.parent.name
        locks = [self._lock_for_use(folder)]
        try:
            entry = read(False)
            if entry is None or entry.missing_bytes():
                if entry is not None:
                    entry.close()
                locks.append(self._lock_for_writing(folder))
                entry = read(True)  # another run may have written it in the meantime
                if entry is None:
                    self._make_room(folder, size, limit)
                    entry = create()
                else:
                    _require_free(folder, kind, entry.missing_bytes())
        except BaseException:
            for handle in locks:
                close_lock(handle)
            if not (folder / "entry.json").exists():
                EntryInfo.read(folder).remove()
            raise
        entry._locks = locks
        if not entry.missing_bytes():
            entry.settle()
        with suppress(OSError):
            os.utime(folder / "entry.json")  # the time of the last use
        self._open.append(entry)
        return entry

    def discard(self, entry: CacheEntry) -> None:
        """Remove an entry that this run could not complete, so that it takes no room from the run itself."""
        self._open.remove(entry)
        entry.close()
        EntryInfo.read(entry.folder).remove()

    def _lock_for_use(self, folder: Path) -> int:
        while True:
            with refusing(folder):
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except FileExistsError:  # also raised if the folder is removed while mkdir looks at it
                    if folder.exists() and not folder.is_dir():
                        raise
            with (
                refusing(folder),
                suppress(FileNotFoundError),  # it was removed in between: try again
                locked(folder / "use.lock", fcntl.LOCK_SH) as handle,
            ):
                if os.path.samestat(os.fstat(handle), os.stat(folder / "use.lock")):
                    return handle
                raise FileNotFoundError

    def _lock_for_writing(self, folder: Path) -> int:
        announced = False
        while True:
            with (
                refusing(folder),
                suppress(BlockingIOError),
                locked(folder / "write.lock", fcntl.LOCK_EX | fcntl.LOCK_NB) as handle,
            ):
                return handle
            if not announced:
                self.tell(f"another run is computing the same {folder.parent.name}: waiting for it")
                announced = True
            self.check()
            time.sleep(POLL_INTERVAL)

    def _make_room(self, folder: Path, size: int, limit: int) -> None:
        """Remove the least recently used entries until a new one fits under the limit."""
        kind = folder.parent.name
        if size > limit:
            raise CacheRefused(
                f"the {kind} take {size_text(size)} and the cache may hold {size_text(limit)} (DEEPTUNE_CACHE_LIMIT)"
            )
        others = [entry for entry in entries() if entry.folder != folder]
        total = sum(entry.bytes for entry in others)
        for entry in reversed(others):
            if total + size <= limit:
                break
            if entry.remove():
                total -= entry.bytes
                self.tell(f"removed from the cache to make room: {entry.what} ({size_text(entry.bytes)})")
        if total + size > limit:
            raise CacheRefused(
                f"the cache may hold {size_text(limit)} (DEEPTUNE_CACHE_LIMIT), and runs in progress use "
                f"{size_text(total)} of it"
            )
        _require_free(folder, kind, size)


class NoCache(Cache):
    """Refuses every entry: for data that is not worth one, such as a few rows in memory."""

    keeps = False

    def enter(self, folder: Path, size: int, read: Callable[[bool], _E | None], create: Callable[[], _E]) -> _E:
        raise CacheRefused("the data is not worth an entry")


def _require_free(folder: Path, kind: str, size: int) -> None:
    """Require twice the size: as much again must stay free for the run itself and for others."""
    with refusing(folder):
        free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise CacheRefused(f"the disk of {folder} has {size_text(free)} left, and the {kind} take {size_text(size)}")

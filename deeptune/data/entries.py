"""The cache on disk: folders named by the SHA-256 of all that decides their content, for every later run.

    features/KEY/    pooled features of a frozen backbone (`cache.py`)
    samples/KEY/     decoded images, token ids, or images as they are encoded (`store.py`)
    probes/KEY.json  what a small pass told of a network (`backbones/probes.py`)

Each folder holds `entry.json` (what it is, for people and for who opens it), `use.lock` (shared by who reads the entry,
exclusive for who removes it) and `write.lock` (exclusive for the one who makes what is missing; the kernel opens it
when that one is killed).
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
from typing import Any, TypeVar

from deeptune.errors import CheckpointError
from deeptune.runs.lock import close_lock, open_lock

FORMAT = 2  # to be raised when the same ingredients give other bits, or the files another layout
DEFAULT_LIMIT = "20 GB"
FLUSH_EVERY = 1.0  # seconds of work that a kill may cost
LOOK = 0.2  # seconds between looks at a lock that another run holds
KINDS = ("features", "samples")
INDEX_BYTES = 24  # that a store's index takes for each row

_UNITS = {"B": 1, **{f"{prefix}B": 1000**n for n, prefix in enumerate("kMGTP", 1)}}
_UNITS |= {f"{prefix}iB": 1024**n for n, prefix in enumerate("KMGTP", 1)}
_UNITS = {"B": 1, **{f"{prefix}B": 1000**n for n, prefix in enumerate("kMGTP", 1)}}
_UNITS |= {f"{prefix}iB": 1024**n for n, prefix in enumerate("KMGTP", 1)}
_KEY = re.compile(r"[0-9a-f]{64}")
_Tell = Callable[[str], None]
_E = TypeVar("_E", bound="CacheEntry")
_C = TypeVar("_C", bound="Cache")


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


@contextmanager
def locked(file: Path, how: int) -> Iterator[int]:
    """A lock that outlives the block, unless the block fails."""
    handle = open_lock(file)
    try:
        fcntl.flock(handle, how)
        yield handle
    except BaseException:
        close_lock(handle)
        raise


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """Turn the system's refusal into the reason not to use the cache."""
    try:
        yield
    except OSError as error:
        raise CacheRefused(f"{folder}: {error.strerror or error}") from error
    except CheckpointError as error:
        raise CacheRefused(error.message.removeprefix("cannot write ")) from error


@dataclass(frozen=True)
class EntryInfo:
    """What is known of an entry from outside. `used` is when a run opened it last; `width` is that of features."""

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
        names = ("rows", "width", "block") if folder.parent.name == "features" else ("rows",)
        known = isinstance(content, dict) and all(type(content.get(name)) is int for name in names)
        what = str(content.get("what", "")) if known else "damaged"
        rows, width = (content["rows"], content.get("width")) if known else (None, None)
        return cls(folder.name, folder, what, rows, width, size, used, known and _complete(folder, content))

    def remove(self) -> bool:
        """Remove it, unless a run uses it or it can't be removed; whether it is gone."""
        try:
            with locked(self.folder / "use.lock", fcntl.LOCK_EX | fcntl.LOCK_NB) as handle:
                away = self.folder.with_name(f".{secrets.token_hex(6)}.removed")
                self.folder.rename(away)  # whoever asks for the entry from now on makes it anew
                shutil.rmtree(away, ignore_errors=True)
                close_lock(handle)
        except OSError:
            return False
        return True


def _complete(folder: Path, content: dict[str, Any]) -> bool:
    if folder.parent.name != "features":
        return file_size(folder / "index.bin") >= content["rows"] * INDEX_BYTES
    done = set()
    with suppress(OSError):
        lines = (folder / "blocks.txt").read_text(encoding="ascii", errors="replace").splitlines()
        done = {line.partition(" ")[0] for line in lines}
    return content["block"] > 0 and len(done) >= -(-content["rows"] // content["block"])


def entries() -> list[EntryInfo]:
    """All entries of the cache, the one used last first."""
    folders: list[Path] = []
    for kind in KINDS:
        with suppress(OSError):
            folders += (path for path in (cache_folder() / kind).iterdir() if _KEY.fullmatch(path.name))
    return sorted(map(EntryInfo.read, folders), key=lambda entry: -entry.used)


def remove_leftovers() -> None:
    """What a process that was killed while it removed an entry left of it."""
    with suppress(OSError):
        for path in cache_folder().glob("*/.*.removed"):
            shutil.rmtree(path, ignore_errors=True)


def remove_probes() -> None:
    """What was found out about networks, which costs a moment to find out again."""
    shutil.rmtree(cache_folder() / "probes", ignore_errors=True)


class CacheEntry(ABC):
    """An entry that a run has open, by its locks: it is not removed before `close`.

    What is written is kept, whatever happens to this process, when `flush` has been called.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locks: list[int] = []
        self._flushed = time.monotonic()

    @abstractmethod
    def lacks(self) -> int:
        """Bytes that are still to be written."""

    @abstractmethod
    def flush(self) -> None:
        """What was written so far is kept from now on. Raises CacheRefused where the disk does not take it."""

    def flush_now_and_then(self) -> None:
        if time.monotonic() - self._flushed >= FLUSH_EVERY:
            self._flushed = time.monotonic()
            self.flush()

    def settle(self) -> None:
        """The end of writing: what is missing now stays so, and another run may write."""
        try:
            self.flush()
        finally:
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


class Cache:
    """The entries that a run has open: none of them is removed before `close`.

    `tell` gets a sentence where the run waits or something was damaged; `check` is called while it waits.
    """

    def __init__(self, tell: _Tell = lambda text: None, check: Callable[[], None] = lambda: None) -> None:
        self.tell, self.check = tell, check
        self._open: list[CacheEntry] = []

    def __enter__(self: _C) -> _C:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for entry in self._open:
            entry.close()
        self._open.clear()

    def enter(
        self, kind: str, key: str, size: int, read: Callable[[Path, bool], _E | None], create: Callable[[Path], _E]
    ) -> _E:
        """An entry of `size` bytes, which is made when there is none.

        `read(folder, writing)` gives it as it is, or None where there is none to go on with; with `writing` this
        process has the right to put it right. Where something is missing, this process is the one that may write it,
        until the entry's `settle`: a run that needs what another is making waits for it. Raises CacheRefused where
        the cache can't be used.
        """
        limit = cache_limit()
        folder = cache_folder() / kind / key
        locks = [self._lock_for_use(folder)]
        try:
            entry = read(folder, False)
            if entry is None or entry.lacks():
                locks.append(self._lock_for_writing(folder, kind))
                entry = read(folder, True)
                if entry is None:
                    self._make_room(folder, kind, size, limit)
                    entry = create(folder)
                else:
                    _require_free(folder, kind, entry.lacks())
        except BaseException:
            for handle in locks:
                close_lock(handle)
            if not (folder / "entry.json").exists():
                EntryInfo.read(folder).remove()
            raise
        entry._locks = locks
        if not entry.lacks():
            entry.settle()
        with suppress(OSError):
            os.utime(folder / "entry.json")  # when it was used last
        self._open.append(entry)
        return entry

    def discard(self, entry: CacheEntry) -> None:
        """Remove an entry that this run could not finish, so that it takes no room from the run itself."""
        self._open.remove(entry)
        entry.close()
        EntryInfo.read(entry.folder).remove()

    def _lock_for_use(self, folder: Path) -> int:
        while True:
            with refusing(folder):
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except FileExistsError:  # also where it is removed while mkdir looks whether it is a folder
                    if folder.exists() and not folder.is_dir():
                        raise
            with (
                refusing(folder),
                suppress(FileNotFoundError),  # it was removed in between: once more
                locked(folder / "use.lock", fcntl.LOCK_SH) as handle,
            ):
                if os.path.samestat(os.fstat(handle), os.stat(folder / "use.lock")):
                    return handle
                raise FileNotFoundError

    def _lock_for_writing(self, folder: Path, kind: str) -> int:
        told = False
        while True:
            with (
                refusing(folder),
                suppress(BlockingIOError),
                locked(folder / "write.lock", fcntl.LOCK_EX | fcntl.LOCK_NB) as handle,
            ):
                return handle
            if not told:
                self.tell(f"another run is computing the same {kind}: waiting for them")
                told = True
            self.check()
            time.sleep(LOOK)

    def _make_room(self, folder: Path, kind: str, size: int, limit: int) -> None:
        """Remove the entries that were not used for longest until a new one fits under the limit."""
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
                self.tell(f"removed from the cache for want of room: {entry.what} ({size_text(entry.bytes)})")
        if total + size > limit:
            raise CacheRefused(
                f"the cache may hold {size_text(limit)} (DEEPTUNE_CACHE_LIMIT), and runs in progress use "
                f"{size_text(total)} of it"
            )
        _require_free(folder, kind, size)


def _require_free(folder: Path, kind: str, size: int) -> None:
    """As much again must stay free for the run itself and for others."""
    with refusing(folder):
        free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise CacheRefused(f"the disk of {folder} has {size_text(free)} left, and the {kind} take {size_text(size)}")


def file_size(file: Path) -> int:
    """Bytes of a file; 0 when there is none."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0

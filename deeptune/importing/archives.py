"""ZIP and TAR archives, unpacked into a folder of this import alone: no member can be written outside of it.

Only files are unpacked; links and devices are left out. An archive that unpacks to far more than it holds is refused
before the disk is full.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from deeptune.errors import CheckpointError, DataError, first_line
from deeptune.formatting import size_text
from deeptune.importing.file_names import is_ignored, readable
from deeptune.importing.reader import LeftOut
from deeptune.progress import Progress
from deeptune.runs.files import storage_errors
from deeptune.spec.sources import PACKED

ZIPS, TARS = (".zip",), (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_RATIO = 200  # unpacked to packed bytes; pictures hardly shrink, and texts shrink to a tenth
MIN_BOMB = 256 * 2**20  # unpacked bytes below which the ratio does no harm
MAX_MEMBERS = 5_000_000
_BLOCK = 2**20


@dataclass
class Unpacked:
    """The folder of an archive's files, and what was left out of it. `absolute` names begin with a slash in it."""

    folder: Path
    left_out: list[LeftOut] = field(default_factory=list)
    ignored: int = 0
    absolute: list[str] = field(default_factory=list)


class Guard:
    """Counts the bytes that come out of an archive. Raises DataError once they are a bomb."""

    def __init__(self, archive: Path) -> None:
        self.archive, self._packed, self._bytes, self._members = archive, archive.stat().st_size, 0, 0

    def member(self) -> None:
        """Count a member."""
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise self._refused(f"more than {MAX_MEMBERS:,} members")

    def take(self, count: int) -> None:
        """Count unpacked bytes."""
        self._bytes += count
        if self._bytes > MIN_BOMB and self._bytes > MAX_RATIO * self._packed:
            raise self._refused(f"{size_text(self._packed)} that unpack to more than {size_text(self._bytes)}")

    def _refused(self, what: str) -> DataError:
        return DataError(
            f"{self.archive} holds {what}: it may be made to fill a disk",
            hint="Unpack it yourself if you trust it, and import the folder.",
        )


def is_archive(path: Path) -> bool:
    """Check whether a file is an archive by its name."""
    return path.name.lower().endswith((*ZIPS, *TARS, *PACKED))


def unpack(archive: Path, folder: Path, progress: Progress | None = None) -> Unpacked:
    """Unpack the files of an archive into a folder. One that was unpacked by an import that was stopped is used again.

    Raises DataError for what can't be read, is encrypted, or is a bomb; CheckpointError where the disk is full.
    """
    found, guard = Unpacked(folder), Guard(archive)
    again = _mark(folder).exists() and folder.is_dir()
    if not again:
        remove(folder)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _reading(archive):
        if archive.name.lower().endswith(PACKED):
            members = _packed_member(archive)
        else:
            members = _zip_members(archive, found) if zipfile.is_zipfile(archive) else _tar_members(archive, found)
        for name, size, opened, done in members:
            guard.member()
            target = _target(folder, name, found)
            if target is None:
                continue
            if again and target.is_file():
                continue
            guard.take(0)
            with opened() as stream:
                _copy(stream, target, guard, size)
            if progress:
                progress(done, archive.stat().st_size)
    _mark(folder).touch()
    return found


Member = tuple[str, int, Callable[[], IO[bytes]], int]  # name, bytes, how to open it, packed bytes read so far


def _zip_members(archive: Path, found: Unpacked) -> Iterator[Member]:
    done = 0
    with zipfile.ZipFile(archive) as file:
        infos = file.infolist()
        if any(info.flag_bits & 1 for info in infos):
            raise DataError(f"{archive} is encrypted", hint="Unpack it yourself, and import the folder.")
        for info in infos:
            done += info.compress_size
            if info.is_dir():
                continue
            if stat.S_ISLNK(info.external_attr >> 16):
                found.left_out.append(LeftOut(info.filename, "is a link"))
                continue
            yield info.filename, info.file_size, lambda info=info: file.open(info), done  # type: ignore[misc]


def _tar_members(archive: Path, found: Unpacked) -> Iterator[Member]:
    with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|*") as file:
        for info in file:
            if info.isdir():
                continue
            if not info.isfile():
                what = "is a link" if info.issym() or info.islnk() else "is a device or a pipe"
                found.left_out.append(LeftOut(readable(info.name), what))
                continue
            yield info.name, info.size, lambda info=info: _present(file.extractfile(info)), raw.tell()  # type: ignore[misc]


def _packed_member(archive: Path) -> Iterator[Member]:
    opener: Callable[..., IO[bytes]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}[archive.suffix.lower()]  # type: ignore[assignment]
    yield archive.stem, sys.maxsize - 1, lambda: opener(archive, "rb"), 0


def _present(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _target(folder: Path, name: str, found: Unpacked) -> Path | None:
    """Find where a member goes; None, with a word about it, where that is not inside of the folder.

    A leading slash is dropped, as unzip and tar do.
    """
    given = name.replace("\\", "/")
    path = PurePosixPath(given.lstrip("/"))
    parts = [part for part in path.parts if part != "."]
    if ".." in parts or not parts or "\0" in name or ":" in parts[0]:
        found.left_out.append(LeftOut(readable(name), "would be written outside of the folder"))
        return None
    if is_ignored(path):
        found.ignored += 1
        return None
    if given.startswith("/"):
        found.absolute.append(readable(name))
    return folder.joinpath(*parts)


def _copy(stream: IO[bytes], target: Path, guard: Guard, size: int) -> None:
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        out = target.open("wb")
    with out:
        left = size
        while block := stream.read(min(_BLOCK, left + 1)):
            left -= len(block)
            guard.take(len(block))
            if left < 0:
                raise DataError(f"{guard.archive}: {target.name} is larger than the archive says")
            with storage_errors(target):
                out.write(block)


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    try:
        yield
    except (DataError, CheckpointError):
        raise
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        OSError,
        ValueError,
        RuntimeError,
        NotImplementedError,
    ) as e:
        raise damaged(archive, e) from e
    except Exception as error:  # of the decompressors, whose errors have no class in common
        if type(error).__module__ not in ("zlib", "_lzma", "lzma"):
            raise
        raise damaged(archive, error) from error


def damaged(archive: Path, error: Exception) -> DataError:
    """Return the error of an archive that can't be read."""
    return DataError(
        f"{archive} cannot be unpacked: {first_line(error)}", hint="It is damaged or was cut off: copy it again."
    )


def name_without_suffix(path: Path) -> str:
    """Return the name of an archive without `.tar.gz` and the like."""
    lower = path.name.lower()
    suffix = next((one for one in sorted((*ZIPS, *TARS, *PACKED), key=len, reverse=True) if lower.endswith(one)), "")
    return path.name[: len(path.name) - len(suffix)] or path.name


def open_tar(path: Path) -> Any:
    """Return a TAR file to read from its beginning to its end, packed or not."""
    return tarfile.open(path, mode="r|*")


def _mark(folder: Path) -> Path:
    """Return the file that says that a folder is unpacked as a whole; it lies beside the folder, as it is not data."""
    return folder.with_name(f"{folder.name}.whole")


def remove(folder: Path) -> None:
    """Remove an unpacked folder."""
    _mark(folder).unlink(missing_ok=True)
    shutil.rmtree(os.fspath(folder), ignore_errors=True)

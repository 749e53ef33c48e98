"""Atomic writes: a reader sees the old file or the new one, never a part of one."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deeptune.errors import CheckpointError

MAX_NUMBER = sys.float_info.max  # largest number that can be reckoned with
_OTHERS = (str, dict, list)

# What the system says when a disk or a quota is full: waiting may help.
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_full(error: BaseException) -> bool:
    """Check whether an error means that the disk is full."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in DISK_FULL


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's error while writing `path` into a CheckpointError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(
            f"cannot write {path}: {reason}",
            hint="Free some space or choose another folder; what was written before is intact.",
        ) from error


def require_regular(path: Path) -> None:
    """Raise CheckpointError for a device, a pipe or a socket: a file that replaces it would take it from the system."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CheckpointError(
            f"cannot write {path}: it is a device, a pipe or a socket",
            hint="Name a file, such as out.parquet; it is written beside its place and then put there whole.",
        )


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the same folder that becomes `path` when the block ends well.

    If `durable`, the content is on the disk (fsync of file, rename, fsync of folder) when the block ends; otherwise a
    power cut may lose it. An error leaves nothing behind, and an older `path` stays. Raises CheckpointError if the file
    can't be written.
    """
    path = Path(path)
    with storage_errors(path):
        require_regular(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            yield temporary
            if durable:
                sync(temporary)
            os.replace(temporary, path)
            if durable:
                sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files below a folder that a process killed within `replacing` left."""
    with storage_errors(folder):
        for file in folder.rglob(".*.tmp"):
            file.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Write a file or a folder through to the disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal. Raises OSError where it can't be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace `path` with `text`, atomically. Bytes of a path that are not UTF-8 become escapes."""
    with replacing(path, durable=durable) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Replace `path` with `value` as JSON. Raises ValueError for NaN and infinities."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", durable=durable)


def finite(value: Any) -> Any:
    """Replace numbers that are not finite by None, as JSON has none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def read_json(path: Path) -> Any:
    """Read the JSON of `path`. Raises CheckpointError if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} is missing", hint="The run did not get that far, or the file was removed."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; empty if the file is missing or holds something else."""
    if not path.is_file():
        return {}
    value = read_json(path)
    return value if isinstance(value, dict) else {}


def fits(shape: Any, value: Any) -> bool:
    """Check whether a JSON value has a shape, so that a damaged file brings no viewer down.

    A shape is `int`, `str`, `float` (a finite number, or null in place of another), `dict`, `list`, or a dictionary
    with the shapes of its required keys. No number may be larger than a float can be.
    """
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return False
        for key, below in shape.items():
            item: Any = value.get(key)
            if type(item) is below and (below in _OTHERS or -MAX_NUMBER <= item <= MAX_NUMBER):
                continue  # without a call of its own: logs are long
            if not fits(below, item):
                return False
        return True
    if isinstance(value, bool):
        return False
    if shape is float:
        return value is None or (isinstance(value, (int, float)) and abs(value) <= MAX_NUMBER)
    return isinstance(value, shape) and (shape is not int or abs(value) <= MAX_NUMBER)

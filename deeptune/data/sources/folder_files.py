"""The Parquet files of a folder, and the other data in it that a run does not read."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from deeptune.environment import short_path
from deeptune.errors import DataError, listed
from deeptune.spec.sources import is_data

SUFFIXES = (".parquet", ".parq", ".pq")  # in any case


def is_parquet(path: Path) -> bool:
    """Check whether a path is named as a Parquet file."""
    return path.name.lower().endswith(SUFFIXES)


def require_target(path: Path, key: str) -> None:
    """Raise DataError for a link that leads nowhere: its rows would be left out without a word."""
    if path.is_symlink() and not path.exists():
        raise DataError(
            f"{key}: {path} is a link to {os.readlink(path)}, which is not there",
            hint="Put that file back, or remove the link.",
        )


def in_folder(folder: Path, key: str) -> list[Path]:
    """Return the Parquet files below a folder, or the folder itself where it has none and is imported.

    Raises DataError for a folder that can't be read or is empty, and for a link that leads nowhere.
    """
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DataError(f"{key}: {folder} cannot be read: permission denied", hint="Ask for the right to read it.")
    named = [file for file in _files_below(folder) if is_parquet(file)]
    for file in named:
        require_target(file, key)
    files = [file for file in named if file.is_file()]
    if files and _is_of_original(folder, key):
        return [folder]
    if not files and not any(folder.iterdir()):
        raise DataError(
            f"{key}: the folder {folder} is empty", hint="Name a folder of pictures, or one with Parquet files in it."
        )
    return files or [folder]


def unread(folder: Path, read: Collection[Path]) -> str | None:
    """Return a sentence on the files below a folder that are data by their names and are not read, or None.

    JSON files beside Parquet files are bookkeeping by convention, and not mentioned.
    """
    if not folder.is_dir() or folder in read:
        return None
    known = {file.resolve() for file in read}
    others = sorted(
        file.relative_to(folder).as_posix()
        for file in _files_below(folder)
        if is_data(file.name) and file.suffix.lower() != ".json" and file.resolve() not in known
    )
    if not others:
        return None
    return (
        f"{short_path(folder)} holds Parquet files, and only these are read: "
        f"{listed(others, most=5)} {'is' if len(others) == 1 else 'are'} left out"
    )


def _files_below(folder: Path) -> Iterator[Path]:
    """Walk the files below a folder, at any depth; a linked folder is entered, and each folder once.

    Names that start with `.` or `_` are bookkeeping by convention (caches, unfinished writes).
    """
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        # A link may lead to a folder above it, or to one that is walked anyway.
        folders[:] = [] if real in seen else sorted(name for name in folders if name[0] not in "._")
        if real not in seen:
            yield from (Path(place, name) for name in files if name[0] not in "._")
        seen.add(real)


def _is_of_original(folder: Path, key: str) -> bool:
    """Check whether the files are splits of the original DeepTune, whose labels have their names in another file."""
    from deeptune.importing.original_deeptune import find_splits

    try:
        return find_splits(folder) is not None
    except DataError as error:
        raise DataError(f"{key}: {error.message}", hint=error.hint) from error

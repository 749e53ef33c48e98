"""The meaning of names of files and folders: by-products of systems, splits, and paths as text."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath

from deeptune.errors import DataError
from deeptune.formatting import counted
from deeptune.spec.values import split_named

_BY_PRODUCTS = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "ehthumbs.db", "icon\r"})
_WORDS = re.compile(r"[^a-z]+")

BY_PRODUCTS = "by-products of systems, such as Thumbs.db and .DS_Store"
OTHERS = "files of other kinds"
_ONE = {BY_PRODUCTS: "by-product of a system, such as Thumbs.db", OTHERS: "file of another kind"}


def is_by_product(name: str) -> bool:
    """Check whether a file or folder is not data by its name: hidden, or written by a system for itself."""
    return name.startswith(".") or name.lower() in _BY_PRODUCTS


def ignored_text(what: str, count: int) -> str:
    """Return how many files were ignored, as a sentence has it."""
    return counted(count, _ONE.get(what, what), what)


def is_ignored(path: PurePath) -> bool:
    """Check whether a path below a source is a by-product, or lies in one."""
    return any(is_by_product(part) for part in path.parts)


def readable(text: str) -> str:
    """Return a name as valid text: bytes that are not UTF-8, and halves of characters, become escapes."""
    try:
        return os.fsencode(text).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()


def split_in_name(name: str) -> str | None:
    """Return the split that the words in a name stand for, as in `train-00000-of-00002` or `my_test.csv`.

    None for none.
    """
    words = _WORDS.split(PurePath(name).name.lower())
    found = {split for word in words if (split := split_named(word)) is not None}
    return found.pop() if len(found) == 1 else None


def walk(folder: Path, ignored: Counter[str]) -> Iterator[Path]:
    """Yield the files below a folder in the order of their names, at any depth; a linked folder is entered once.

    Raises DataError where a folder can't be read.
    """
    yield from _walk(folder, ignored, set())


def _walk(folder: Path, ignored: Counter[str], seen: set[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        if len(seen) > 1:
            ignored["folders that cannot be read"] += 1
            return
        raise DataError(f"{folder} cannot be read: {error.strerror}", hint="Ask for the right to read it.") from error
    for entry in entries:
        if is_by_product(entry.name):
            ignored[BY_PRODUCTS] += 1
        elif entry.is_dir():
            yield from _walk(folder / entry.name, ignored, seen)
        else:
            yield folder / entry.name

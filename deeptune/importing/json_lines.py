"""JSON lines (an object a line), and JSON files that hold all rows in one value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeptune.arrow import half_character
from deeptune.errors import DataError, first_line
from deeptune.importing.csv_files import detect_encoding
from deeptune.importing.options import Options
from deeptune.importing.reader import HALF, LeftOut
from deeptune.importing.tables import ObjectTable

SUFFIXES = (".jsonl", ".ndjson", ".json")
MAX_LIST = 2**30  # bytes of a JSON file that is one list, which is read whole


class JsonLines(ObjectTable):
    """An object for each row; the keys of all of them are the columns."""

    kind = "JSON lines"

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path)
        self._encoding = options.encoding or detect_encoding(path)
        found = _list_in(path, self._encoding) if path.suffix.lower() == ".json" else None
        self._list: list[Any] | None = None if found is None else found[0]
        note = "" if found is None else found[1]
        if note:
            self.notes.append(note)
        self.look()

    def rows(self) -> Iterator[Any]:
        if self._list is not None:
            yield from (_object(value, f"item {number}") for number, value in enumerate(self._list, 1))
            return
        try:
            with self.path.open(encoding=self._encoding) as stream:
                for number, line in enumerate(stream, 1):
                    if line.strip():
                        yield _parsed(line, f"line {number}")
        except (OSError, UnicodeError) as error:
            raise DataError(f"{self.path} cannot be read: {first_line(error)}") from error


def _parsed(line: str, place: str) -> Any:
    try:
        return _object(json.loads(line), place)
    except (ValueError, RecursionError) as error:
        return LeftOut(place, f"is not JSON: {first_line(error)}")


def _object(value: Any, place: str) -> Any:
    if not isinstance(value, dict):
        return LeftOut(place, f"is a {type(value).__name__} and not an object")
    return LeftOut(place, HALF) if _has_half(value) else value


def _has_half(value: Any) -> bool:
    """Check whether a text at any depth holds half a character, as an escape of one half alone is."""
    if isinstance(value, str):
        return half_character(value) is not None
    if isinstance(value, dict):
        return any(_has_half(key) or _has_half(found) for key, found in value.items())
    return isinstance(value, list) and any(map(_has_half, value))


def _list_in(path: Path, encoding: str) -> tuple[list[Any], str] | None:
    """Return the rows of a JSON file that holds one value, and what they are; None where it holds an object a line."""
    try:
        with path.open(encoding=encoding) as stream:
            first = next((line for line in stream if line.strip()), "")
            if not first.lstrip().startswith("[") and _is_object(first) and any(line.strip() for line in stream):
                return None
        if path.stat().st_size > MAX_LIST:
            raise DataError(f"{path} is one value of more than {MAX_LIST:,} bytes", hint="Write an object a line.")
        value = json.loads(path.read_text(encoding=encoding))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {first_line(error)}", hint="Write an object a line.") from error
    return (value, "") if isinstance(value, list) else _rows_of(value)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _rows_of(value: Any) -> tuple[list[Any], str] | None:
    """Return the rows that one object holds in a form that pandas and web services write.

    None where it is a row itself.
    """
    if not isinstance(value, dict) or not value:
        return None
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        rows = [dict(zip(value["columns"], row, strict=False)) for row in value["data"] if isinstance(row, list)]
        return rows, "a table with its names in 'columns' and its rows in 'data'"
    lists = [key for key, found in value.items() if isinstance(found, list) and any(isinstance(x, dict) for x in found)]
    if len(lists) == 1:
        return value[lists[0]], f"the rows are the list {lists[0]!r}"
    inner = list(value.values())
    if all(isinstance(found, list) for found in inner) and len({len(found) for found in inner}) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*inner, strict=True)], "a list for each column"
    if not all(isinstance(found, dict) for found in inner):
        return None
    if all(key.isdigit() for found in inner for key in found):  # pandas' own form
        keys = dict.fromkeys(key for found in inner for key in found)
        return [{name: value[name].get(key) for name in value} for key in keys], "an object for each column"
    if all(key.isdigit() for key in value):
        return inner, "an object for each row, by its number"
    return [{"key": key, **found} for key, found in value.items()], "an object for each row, whose name is in 'key'"

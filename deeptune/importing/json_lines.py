"""JSON lines (an object a line), and JSON files that hold one list of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeptune.errors import DataError, first_line
from deeptune.importing.csv_files import detect_encoding
from deeptune.importing.options import Options
from deeptune.importing.reader import LeftOut
from deeptune.importing.tables import ObjectTable

SUFFIXES = (".jsonl", ".ndjson", ".json")
MAX_LIST = 2**30  # bytes of a JSON file that is one list, which is read whole


class JsonLines(ObjectTable):
    """An object for each row; the keys of all of them are the columns."""

    kind = "JSON lines"

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path)
        self._encoding = options.encoding or detect_encoding(path)
        self._list = _list_in(path, self._encoding) if path.suffix.lower() == ".json" else None
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
    return value if isinstance(value, dict) else LeftOut(place, f"is a {type(value).__name__} and not an object")


def _list_in(path: Path, encoding: str) -> list[Any] | None:
    """The list that a JSON file holds; None where it holds an object a line."""
    try:
        with path.open(encoding=encoding) as stream:
            if not stream.read(64).lstrip().startswith("["):
                return None
        if path.stat().st_size > MAX_LIST:
            raise DataError(f"{path} is one list of more than {MAX_LIST:,} bytes", hint="Write an object a line.")
        return json.loads(path.read_text(encoding=encoding))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {first_line(error)}", hint="Write an object a line.") from error

"""Sheets of XLSX, XLS and ODS files, by python-calamine."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from deeptune.errors import DataError, SpecError, did_you_mean, first_line, listed
from deeptune.importing.headers import FIRST_ROWS, find_header
from deeptune.importing.options import Options
from deeptune.importing.tables import TextTable

SUFFIXES = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
MAX_NOTES = 20  # rows of a sheet that another sheet with many more rows is preferred to
MAX_UNPACKED = 2 * 2**30  # bytes of a spreadsheet's parts, which are read whole


class Sheet(TextTable):
    """The first sheet with rows, or the one that was named. A few rows of notes count less than a long table."""

    kind = "spreadsheet"

    def __init__(self, path: Path, options: Options) -> None:
        try:
            import python_calamine
        except ImportError as error:
            raise DataError(
                f"{path} is a spreadsheet, and python-calamine, which reads it, is not installed",
                hint='Install it: pip install "deeptune[import]". Or export the sheet as CSV.',
            ) from error
        _require_size(path)
        try:
            book = python_calamine.CalamineWorkbook.from_path(str(path))
            names = book.sheet_names
            self._rows = self._choose(book, names, options.sheet, path)
        except SpecError:
            raise
        except Exception as error:  # calamine's errors have no class in common
            raise DataError(
                f"{path} cannot be read as a spreadsheet: {first_line(error)}", hint=_hint_of(path)
            ) from error
        if not self._rows:
            raise DataError(f"{path} has no sheet with rows in it", hint="Save it again from the program that made it.")
        first = [[_cell(value) for value in row] for row in self._rows[:FIRST_ROWS]]
        self._header = find_header(first, options.header)
        super().__init__(path, self._header.names)
        self.notes[:0] = self._header.notes("row")
        if len(names) > 1:
            others = listed(name for name in names if name != self.sheet)
            self.notes.insert(0, f"sheet {self.sheet!r}; the others are not read: {others}")

    def _choose(self, book: Any, names: list[str], sheet: str | None, path: Path) -> list[list[Any]]:
        if sheet is not None and sheet not in names:
            near = did_you_mean(sheet, names)
            raise SpecError(
                f"--sheet: {path} has no sheet {sheet!r}. {near}".rstrip(), hint=f"Its sheets: {listed(names)}."
            )
        best: list[list[Any]] = []
        for name in [sheet] if sheet is not None else names:
            rows = [
                row for row in book.get_sheet_by_name(name).to_python(skip_empty_area=True) if any(map(_filled, row))
            ]
            # Sheets of notes often come first.
            if rows and (not best or (len(best) < MAX_NOTES and len(rows) > 5 * len(best))):
                self.sheet, best = name, _without_empty_end(rows)
        return best

    def rows(self) -> Iterator[Any]:
        for row in self._rows[self._header.rows :]:
            yield [_cell(value) for value in row]


def _hint_of(path: Path) -> str:
    """Say what a file that is not a spreadsheet seems to be: exports of web pages are often tables under its name."""
    with suppress(OSError):
        with path.open("rb") as file:
            head = file.read(4096)
        if re.search(rb"<(html|table|\?xml)", head, re.I):
            return (
                "It is a web page or XML under the name of a spreadsheet: open it with a spreadsheet program, and save "
                "it as XLSX or CSV."
            )
        if head and b"\0" not in head and not head.startswith(b"PK"):
            return f"It is text under the name of a spreadsheet: rename it to {path.with_suffix('.csv').name}."
    return "It is damaged, was cut off, or is locked by a password: save it again as XLSX or CSV."


def _require_size(path: Path) -> None:
    import zipfile

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            size = sum(part.file_size for part in parts.infolist())
        if size > MAX_UNPACKED:
            raise DataError(f"{path} claims {size:,} bytes unpacked; the limit for a spreadsheet is {MAX_UNPACKED:,}")


def _filled(value: Any) -> bool:
    return value is not None and value != ""


def _without_empty_end(rows: list[list[Any]]) -> list[list[Any]]:
    """Return rows without the columns at the end that hold nothing."""
    width = max(max((place for place, value in enumerate(row, 1) if _filled(value)), default=0) for row in rows)
    return [row[:width] for row in rows]


def _cell(value: Any) -> str | None:
    """Return a cell as CSV has it: whole numbers without `.0`, dates as ISO 8601."""
    if not _filled(value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)

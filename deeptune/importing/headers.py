"""Finds the header of a table: lines above it, the row of its names, and tables without such a row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from deeptune.formatting import counted

FIRST_ROWS = 500  # first rows, which tell where a table begins
MAX_ABOVE = 30  # lines above the names of the columns
LONG = 60  # characters from which on a cell is not a name but a text

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d{1,3})?")

Row = Sequence[str | None]


@dataclass(frozen=True)
class Header:
    """The names of a table's columns; `above` rows come before them. Where no row holds them, all names are None."""

    above: int
    names: list[str | None]
    is_there: bool = True

    @property
    def rows(self) -> int:
        """How many rows come before the first row of values."""
        return self.above + self.is_there

    def notes(self, unit: str) -> list[str]:
        """List what a person should know of it; `unit` is the word for a row of the file."""
        found = []
        if self.above:
            lines = counted(
                self.above, f"{unit} above the names of the columns is", f"{unit}s above the names of the columns are"
            )
            found.append(f"{lines} left out")
        if not self.is_there:
            found.append(
                "no row of names: the columns are called column_1, column_2, … (--header reads row 1 as names)"
            )
        return found


def find_header(rows: Sequence[Row], header: bool | None) -> Header:
    """Find the names in the first rows of a table, none of which is blank; `header` says whether there are any."""
    width = Counter(len(row) for row in rows[1:] or rows).most_common(1)[0][0]
    above = _above(rows, width)
    row, body = list(rows[above]), rows[above + 1 :]
    if header is False or (header is None and _is_data(row, body)):
        return Header(above, [None] * len(row), is_there=False)
    if _lacks_row_names(row, body):
        row = [None, *row]
    return Header(above, row)


def _above(rows: Sequence[Row], width: int) -> int:
    """Count the rows of titles, comments and groups of columns that come before the names."""
    usual = Counter(_filled(row) for row in rows).most_common(1)[0][0]
    for place, row in enumerate(rows[:MAX_ABOVE]):
        following = rows[place + 1] if place + 1 < len(rows) else None
        if following is None or not _is_above(row, following, width, usual):
            return place
    return 0


def _is_above(row: Row, following: Row, width: int, usual: int) -> bool:
    filled = _filled(row)
    if width < 2 or usual < 2:
        return (row[0] or "").startswith("#") and len(row) != width
    if filled <= 1 or len(row) < width - 1 or ((row[0] or "").startswith("#") and len(row) != width):
        return True
    # One cell over several columns names a group of them.
    full = _filled(following) >= width and not any(_is_number(cell) for cell in following)
    return filled * 2 <= width and full and len(set(following)) == len(following)


def _filled(row: Row) -> int:
    return sum(bool(cell) for cell in row)


def _is_number(cell: str | None) -> bool:
    return cell is not None and _NUMBER.fullmatch(cell.strip()) is not None


def _is_data(row: Row, body: Sequence[Row]) -> bool:
    """Check whether a first row holds values: some cell is like those below it, and none differs as a name does."""
    body = [values for values in body if len(values) == len(row) and list(values) != list(row)]
    if len(body) < 2 or all(_is_number(cell) for cell in row) or _numbers_columns(row):
        return False
    found = [_like_values(cell, [values[place] for values in body]) for place, cell in enumerate(row)]
    return True in found and False not in found


def _numbers_columns(row: Row) -> bool:
    """Check whether the numbers of a row count its columns, from 0 or 1."""
    numbers = [(place, cell.strip()) for place, cell in enumerate(row) if cell and _is_number(cell)]
    return len(numbers) > 1 and any(all(text == str(place + first) for place, text in numbers) for first in (-1, 0, 1))


def _like_values(cell: str | None, column: Sequence[str | None]) -> bool | None:
    """Check whether a cell is a value like those below it; None where that is unknown."""
    there = [value for value in column if value]
    if not cell or not there:
        return None
    numbers = all(map(_is_number, there))
    if _is_number(cell):
        if not numbers:
            return None
        values = [_as_number(value) for value in there]
        return min(values) <= _as_number(cell) <= max(values) or None  # else years, or doses, as names
    if numbers:
        return False
    if there.count(cell) > 1 and len(set(there)) * 2 <= len(there):
        return True  # a class
    texts = sum(len(value) >= LONG for value in there) * 2 > len(there)
    return True if texts and len(cell) >= LONG else None


def _as_number(cell: str) -> float:
    return float(cell.strip().replace(",", "."))


def _lacks_row_names(row: Row, body: Sequence[Row]) -> bool:
    """Check for a table of R, whose names of rows are a column without a name."""
    if len(body) < 2 or any(len(values) != len(row) + 1 for values in body):
        return False
    return len({values[0] for values in body}) == len(body)


__all__ = ["FIRST_ROWS", "Header", "find_header"]

"""Tables of texts (CSV, spreadsheets) and of objects (JSON lines) as Arrow columns of one type each.

A column of texts becomes numbers only where each value is one and nothing is lost: `007` is an id and stays text. The
types of a column are known after all of its values, so a table is read twice: once to look, once to take the rows.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.errors import DataError, listed
from deeptune.importing.file_names import readable
from deeptune.importing.reader import PIECE_BYTES, PIECE_ROWS, LeftOut, Piece, Reader

_INTEGER = r"^\s*[+-]?(?:0|[1-9][0-9]{0,17})\s*$"
_NUMBER = r"^\s*[+-]?(?:(?:0|[1-9][0-9]{0,17})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?\s*$"
_COMMA = r"^\s*[+-]?(?:(?:0|[1-9][0-9]{0,17}),[0-9]+|[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?:,[0-9]+)?)\s*$"
_GROUPED = r"^\s*[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]*)?\s*$"
_BOOLEAN = r"^\s*(?i:true|false)\s*$"
_MISSING = pa.array(["NA", "N/A", "#N/A", "n/a", "na", "NaN", "nan", "NAN", "NULL", "null", "Null", "None", "-", "?"])

NO_MARKS = ("", ".")


@dataclass
class TextKind:
    """The kind of texts in a column so far; `integer` and the others hold while all values have that form."""

    integer: bool = True
    number: bool = True
    comma: bool = True  # numbers with a decimal comma (1.234,5), or integers
    commas: bool = False  # some value holds a comma
    grouped: bool = True  # numbers with commas between thousands (1,234.5), or without
    boolean: bool = True
    missing: int = 0  # texts such as NA, which are null among numbers
    values: int = 0

    def look(self, texts: pa.Array) -> None:
        """Take some texts into account; null says nothing."""
        texts = texts.drop_null()
        absent = pc.is_in(texts, _MISSING)
        self.missing += pc.sum(absent).as_py() or 0
        present = texts.filter(pc.invert(absent))
        self.values += len(present)
        if not len(present):
            return
        integers = pc.match_substring_regex(present, _INTEGER)
        if not pc.all(integers).as_py():
            self.integer = False
            numbers = pc.match_substring_regex(present, _NUMBER)
            self.number = self.number and bool(pc.all(numbers).as_py())
            self.commas = self.commas or bool(pc.any(pc.match_substring(present, ",")).as_py())
            for form, pattern, others in (("comma", _COMMA, integers), ("grouped", _GROUPED, numbers)):
                if getattr(self, form):
                    fits = pc.or_(others, pc.match_substring_regex(present, pattern))
                    setattr(self, form, bool(pc.all(fits).as_py()))
        self.boolean = self.boolean and bool(pc.all(pc.match_substring_regex(present, _BOOLEAN)).as_py())

    def type(self, *, comma: bool) -> pa.DataType:
        """Return the type of the column; with `comma`, numbers may have a decimal comma."""
        if not self.values:
            return pa.string()
        if self.integer:
            return pa.int64()
        if self.number or self.marks(comma=comma) != NO_MARKS:
            return pa.float64()
        return pa.bool_() if self.boolean and not self.missing else pa.string()

    def marks(self, *, comma: bool) -> tuple[str, str]:
        """Return the marks of thousands and of decimals where these are not plain numbers, else NO_MARKS."""
        if self.number or not self.commas:
            return NO_MARKS
        if comma and self.comma:
            return ".", ","
        return (",", ".") if self.grouped else NO_MARKS


def as_column(texts: pa.Array, kind: pa.DataType, marks: tuple[str, str] = NO_MARKS) -> pa.Array:
    """Convert texts to the type and with the marks of a TextKind; texts such as NA become null among numbers."""
    if pt.is_string(kind):
        return texts
    texts = pc.utf8_trim_whitespace(texts)
    if pt.is_boolean(kind):
        return pc.utf8_lower(texts).cast(pa.bool_())
    texts = pc.if_else(pc.is_in(texts, _MISSING), pa.scalar(None, pa.string()), texts)
    thousands, decimal = marks
    if thousands:
        texts = pc.replace_substring(pc.replace_substring(texts, thousands, ""), decimal, ".")
    return pc.replace_substring_regex(texts, r"^\+", "").cast(kind)


@dataclass
class Rows:
    """Some rows of a table: the values of each, and how many lines of the table they and those left out took."""

    rows: list[Any] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    units: int = 0


class Table(Reader):
    """A table whose rows are read one by one."""

    piece_rows = PIECE_ROWS

    def chunks(self, start: int = 0) -> Iterator[Rows]:
        """Yield the rows after the first `start`, some at a time."""
        found, size = Rows(), 0
        for number, row in enumerate(self.rows()):
            if number < start:
                continue
            found.units += 1
            if isinstance(row, LeftOut):
                found.left_out.append(row)
            else:
                found.rows.append(row)
                size += _size(row)
            if found.units >= self.piece_rows or size >= PIECE_BYTES:
                yield found
                found, size = Rows(), 0
        if found.units:
            yield found

    @abstractmethod
    def rows(self) -> Iterator[Any]:
        """Yield each row, or a LeftOut in its place. Raises DataError for a file that can't be read."""

    def pieces(self, start: int = 0) -> Iterator[Piece]:
        for chunk in self.chunks(start):
            yield Piece(self.arrow(chunk.rows), chunk.units, chunk.left_out)

    @abstractmethod
    def arrow(self, rows: list[Any]) -> pa.Table:
        """Convert rows to the schema."""


class TextTable(Table):
    """A table of texts, null for empty ones; `decimal_comma` says whether numbers may be written as `3,5`."""

    decimal_comma = False

    def __init__(self, path: Path, names: Sequence[str | None]) -> None:
        super().__init__(path)
        self.names = column_names(names, path)
        self.look()

    def look(self) -> None:
        """Read all rows once, and decide the type of each column."""
        kinds = [TextKind() for _ in self.names]
        self.units = 0
        for chunk in self.chunks():
            self.units += chunk.units
            for kind, values in zip(kinds, _transposed(chunk.rows, len(self.names)), strict=True):
                kind.look(values)
        types = [kind.type(comma=self.decimal_comma) for kind in kinds]
        self.schema = pa.schema(list(zip(self.names, types, strict=True)))
        self._marks = [
            kind.marks(comma=self.decimal_comma) if pt.is_floating(type_) else NO_MARKS
            for kind, type_ in zip(kinds, types, strict=True)
        ]
        for mark, what in ((".", "numbers with a decimal comma"), (",", "numbers with commas between thousands")):
            if named := [name for name, marks in zip(self.names, self._marks, strict=True) if marks[0] == mark]:
                self.notes.append(f"{what}: {listed(named)}")
        missing = [
            f"{name} ({kind.missing:,})"
            for name, kind, type_ in zip(self.names, kinds, types, strict=True)
            if kind.missing and not pt.is_string(type_)
        ]
        if missing:
            self.notes.append(f"words such as NA are missing numbers: {listed(missing)}")

    def arrow(self, rows: list[Any]) -> pa.Table:
        columns = [
            as_column(values, kind, marks)
            for values, kind, marks in zip(
                _transposed(rows, len(self.names)), self.schema.types, self._marks, strict=True
            )
        ]
        return pa.table(columns, schema=self.schema)


class ObjectTable(Table):
    """A table of JSON objects. A column that holds values of several types becomes text."""

    def look(self) -> None:
        """Read all rows once, and decide the type of each column."""
        types: dict[str, pa.DataType | None] = {}
        self.units = 0
        for chunk in self.chunks():
            self.units += chunk.units
            for name in dict.fromkeys(name for row in chunk.rows for name in row):
                found = _type_of([row.get(name) for row in chunk.rows])
                types[name] = _either(types[name], found) if name in types else found
        mixed = [name for name, kind in types.items() if kind is None]
        if mixed:
            self.notes.append(f"columns with values of several types became text: {listed(mixed)}")
        self.schema = pa.schema(
            [(name, pa.string() if kind is None or pt.is_null(kind) else kind) for name, kind in types.items()]
        )
        self._mixed = frozenset(mixed)

    def arrow(self, rows: list[Any]) -> pa.Table:
        columns = []
        for name, kind in zip(self.schema.names, self.schema.types, strict=True):
            values = [row.get(name) for row in rows]
            if name in self._mixed:
                values = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
            columns.append(pa.array(values, kind))
        return pa.table(columns, schema=self.schema)


def _type_of(values: list[Any]) -> pa.DataType | None:
    """Return the Arrow type of JSON values; None where they have none in common."""
    try:
        return pa.array(values).type
    except (pa.ArrowException, OverflowError):
        return None


def _either(one: pa.DataType | None, other: pa.DataType | None) -> pa.DataType | None:
    if one is None or other is None:
        return None
    try:
        schemas = [pa.schema([("it", kind)]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field("it").type
    except pa.ArrowException:
        return None


def _transposed(rows: list[list[str | None]], columns: int) -> list[pa.Array]:
    if not rows:
        return [pa.nulls(0, pa.string())] * columns
    return [pa.array(values, pa.string()) for values in zip(*rows, strict=True)]


def _size(row: Any) -> int:
    values = row.values() if isinstance(row, dict) else row
    return sum(len(value) if isinstance(value, str) else 8 for value in values)


def column_names(names: Sequence[str | None], path: Path) -> list[str]:
    """Return the names in the first row; a column without one is called by its place.

    Raises DataError for a name that is there twice, and for a first row that holds numbers.
    """
    found = [readable(str(name).strip()) if name is not None else "" for name in names]
    if found and all(pc.match_substring_regex(pa.array([name]), _NUMBER)[0].as_py() for name in found):
        raise DataError(
            f"{path}: the first row holds numbers ({listed(found)}), where the names of the columns were expected",
            hint="Write a first row with a name for each column.",
        )
    found = [name or f"column_{place}" for place, name in enumerate(found, 1)]
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise DataError(
            f"{path}: the first row names {listed(map(repr, twice))} twice", hint="Rename the columns apart."
        )
    return found

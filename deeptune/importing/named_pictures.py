"""A table that names files of pictures: each row with the content of its file in place of the name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.types as pt

from deeptune.data.images.column_values import is_file
from deeptune.errors import DataError, listed
from deeptune.importing.file_names import readable
from deeptune.importing.options import Options
from deeptune.importing.pictures import NIFTI, Pictures, PieceRows, in_threads, picture_kind
from deeptune.importing.reader import LeftOut, Piece, Reader
from deeptune.importing.tables import Table

FIRST_ROWS = 500  # first rows, which tell which column names files
_ROWS = 64  # rows of the table in a piece: their files are in memory


class Names:
    """Finds the file that a value names: by its path below the folder, by its name, or by its name without suffix.

    `pictures` are the files of the folder by their kind; without them a name is looked up on the disk.
    """

    def __init__(self, folder: Path, pictures: Mapping[Path, str] | None) -> None:
        self.folder, self._pictures = folder, pictures
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        self._by_path = {path.relative_to(folder).as_posix(): path for path in pictures or ()}
        for path in pictures or ():
            self._by_name[path.name].append(path)
            self._by_stem[_stem(path.name)].append(path)
        self.used: set[Path] = set()

    def find(self, value: str) -> Path | str:
        """Return the file, or the reason why there is none."""
        name = value.strip().replace("\\", "/").removeprefix("./")
        if self._pictures is None:
            path = self.folder / name
            return path if is_file(path) else f"names the file {value}, which does not exist in {self.folder}"
        last = PurePosixPath(name).name
        found = [self._by_path[name]] if name in self._by_path else self._by_name.get(last) or self._by_stem.get(last)
        if not found:
            return f"names the file {value}, which does not exist in {self.folder}"
        if len(found) > 1:
            return f"names the file {value}, and there are {len(found)} of that name"
        self.used.add(found[0])
        return found[0]

    def kind(self, path: Path) -> str | None:
        """Return the kind of a picture, by its name."""
        return picture_kind(path) if self._pictures is None else self._pictures[path]

    @property
    def unused(self) -> int:
        """How many pictures of the folder no row has named so far."""
        return len(set(self._pictures or ()) - self.used)


def _stem(name: str) -> str:
    lower = name.lower()
    suffix = next((one for one in NIFTI if lower.endswith(one)), os.path.splitext(name)[1])
    return name[: len(name) - len(suffix)]


def naming_column(table: Table, names: Names, options: Options) -> str | None:
    """Return the column of a table whose values name pictures, by its first rows; None where none does."""
    first = next(iter(table.pieces()), None)
    if first is None:
        return None
    able = [field.name for field in table.schema if pt.is_string(field.type) or pt.is_integer(field.type)]
    if options.input is not None:
        able = [options.input] if options.input in able else []
    found = {}
    for name in able:
        values = [
            value for value in first.table.column(name).slice(0, FIRST_ROWS).to_pylist() if value not in (None, "")
        ]
        if values and sum(isinstance(names.find(str(value)), Path) for value in values) * 2 >= len(values):
            # A label 1 may be the name of a picture by chance: pictures have more names than labels.
            found[name] = len(set(values))
    names.used.clear()
    best = max(found, key=lambda name: found[name], default=None)
    if len(found) > 1:
        others = listed(repr(name) for name in found if name != best)
        table.notes.append(f"columns {others} name files too: {best!r} is read (--input names another)")
    return best


class NamedPictures(Reader):
    """The rows of a table, with one column of names replaced by the files' content."""

    kind = "table that names pictures"

    def __init__(self, table: Table, column: str, names: Names, options: Options) -> None:
        super().__init__(table.path)
        self._table, self._column, self._names = table, column, names
        table.piece_rows = _ROWS
        self.notes = [*table.notes, f"column {column!r} names the pictures"]
        self.units = table.units
        self._pictures = Pictures(self._kinds(), options)
        fields = [field.with_type(pa.binary()) if field.name == column else field for field in table.schema]
        there = set(table.schema.names)
        more = [*self._pictures.fields, *([pa.field("path", pa.string())] if options.paths else [])]
        self.schema = pa.schema([*fields, *(field for field in more if field.name not in there)])
        self.roles = {"input": column}
        if self._pictures.group in self.schema.names:
            self.roles["group"] = str(self._pictures.group)
        self._hidden = there  # columns of the table are never replaced by what a file says

    def _kinds(self) -> set[str]:
        kinds = set()
        for piece in self._table.pieces():
            for value in piece.table.column(self._column).to_pylist():
                if value not in (None, "") and isinstance(path := self._names.find(str(value)), Path):
                    kinds.add(self._names.kind(path) or "image")
        self._names.used.clear()
        return kinds

    def pieces(self, start: int = 0) -> Iterator[Piece]:
        for piece in self._table.pieces(start):
            rows, left_out = PieceRows(self.schema), list(piece.left_out)

            def read(row: dict[str, object]) -> object:
                value = row[self._column]
                if value in (None, ""):
                    return "names no file"
                path = self._names.find(str(value))
                if isinstance(path, str):
                    return path
                below = readable(Path(os.path.relpath(path, self._names.folder)).as_posix())
                return self._pictures.read(path, below, self._names.kind(path))

            for row, found in in_threads(piece.table.to_pylist(), read):
                if isinstance(found, str):
                    left_out.append(LeftOut(str(row[self._column]), found))
                    continue
                values = {name: value for name, value in row.items() if name != self._column}
                for shot in found:
                    facts = {name: fact for name, fact in shot.facts.items() if name not in self._hidden}
                    rows.add(type(shot)(shot.image, facts), self._column, {"path": str(row[self._column]), **values})
            yield Piece(rows.table(), piece.units, left_out)

    def finished(self) -> list[str]:
        texts = self._pictures.finished()
        if self._names.unused:
            texts.append(f"{self._names.unused:,} pictures of the folder are named in no row that was read")
        return texts


def require_column(table: Reader, column: str, option: str) -> None:
    """Raise DataError where a named column is not there."""
    if column not in table.schema.names:
        from deeptune.errors import did_you_mean

        near = did_you_mean(column, table.schema.names)
        raise DataError(
            f"{option}: {readable(str(table.path))} has no column {column!r}. {near}".rstrip(),
            hint=f"Its columns: {listed(table.schema.names, most=20)}.",
        )

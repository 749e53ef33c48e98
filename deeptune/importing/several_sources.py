"""Several sources as one: the tables or files of each split, with a column that says which split a row is from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from deeptune.arrow import as_type
from deeptune.errors import DataError, listed
from deeptune.formatting import counted
from deeptune.importing.reader import LeftOut, Piece, Reader

SPLIT = "split"


class Several(Reader):
    """Readers of the same columns, one after the other. Raises DataError where their columns differ.

    With `partly`, rows of a reader without a split have none, in place of no row having one.
    """

    def __init__(
        self, path: Path, readers: Sequence[tuple[str | None, Reader]], kind: str, *, partly: bool = False
    ) -> None:
        super().__init__(path)
        self.kind = kind
        self._readers = readers
        first = readers[0][1]
        self.roles = dict(first.roles)
        for _, reader in readers[1:]:
            different = set(first.schema.names) ^ set(reader.schema.names)
            if different:
                raise DataError(
                    f"{reader.path} has other columns than {first.path}: {listed(sorted(different))}",
                    hint="Give them the same columns, or import each into a file of its own.",
                )
        try:
            schema = pa.unify_schemas([reader.schema for _, reader in readers], promote_options="permissive")
        except pa.ArrowException as error:
            raise DataError(f"{path}: the files hold other types of values: {error}") from error
        known = [split is not None for split, _ in readers]
        self._adds = SPLIT not in schema.names and (any(known) if partly else all(known))
        if self._adds:
            schema = schema.append(pa.field(SPLIT, pa.string()))
            self.roles["split"] = SPLIT
            self.notes.append(f"the splits are kept: {self._splits()}")
        self.schema = schema.with_metadata(first.schema.metadata)
        counts = [reader.units for _, reader in readers]
        self.units = None if None in counts else sum(count or 0 for count in counts)
        for _, reader in readers:
            several = len(readers) > 1
            self.notes += [f"{self._name(reader)}: {note}" if several else note for note in reader.notes]
            self.ignored.update(reader.ignored)

    def pieces(self, start: int = 0) -> Iterator[Piece]:
        for split, reader in self._readers:
            if reader.units is not None and start >= reader.units:
                start -= reader.units
                continue
            for piece in reader.pieces(start):
                yield Piece(self._whole(piece.table, split), piece.units, self._named(piece.left_out, reader))
            start = 0

    def _whole(self, table: pa.Table, split: str | None) -> pa.Table:
        if self._adds:
            table = table.append_column(SPLIT, pa.array([split] * table.num_rows, pa.string()))
        columns = [as_type(table.column(field.name), field.type) for field in self.schema]
        return pa.table(columns, schema=self.schema)

    def _splits(self) -> str:
        """Return which file is which split, or how many are where there are several of one."""
        counts = Counter(split for split, _ in self._readers if split is not None)
        if max(counts.values()) > 1:
            return ", ".join(f"{split} of {counted(count, 'file')}" for split, count in counts.items())
        return ", ".join(f"{self._name(reader)} is {split}" for split, reader in self._readers if split is not None)

    def _name(self, reader: Reader) -> str:
        """Return the name of a file, with its folders where another one has the same, as `metadata.csv` often has."""
        alike = sum(other.path.name == reader.path.name for _, other in self._readers) > 1
        inside = alike and reader.path.is_relative_to(self.path)
        return str(reader.path.relative_to(self.path)) if inside else reader.path.name

    def _named(self, left_out: list[LeftOut], reader: Reader) -> list[LeftOut]:
        return [LeftOut(f"{self._name(reader)}, {one.what}", one.reason) for one in left_out]

    def finished(self) -> list[str]:
        return [text for _, reader in self._readers for text in reader.finished()]

    def close(self) -> None:
        for _, reader in self._readers:
            reader.close()

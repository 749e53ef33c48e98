"""Reads an archive from the folder that it was unpacked into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deeptune.errors import DataError, listed
from deeptune.formatting import counted
from deeptune.importing.archives import Unpacked, remove
from deeptune.importing.file_names import BY_PRODUCTS
from deeptune.importing.reader import Piece, Reader
from deeptune.spec.sources import PACKED


@contextmanager
def named_as_inside(archive: Path, folder: Path) -> Iterator[None]:
    """Let errors name the archive in place of the folder that it was unpacked into, which nobody has seen."""
    try:
        yield
    except DataError as error:
        message, hint = (text and text.replace(str(folder), str(archive)) for text in (error.message, error.hint))
        raise DataError(message or "", hint=hint) from error


class UnpackedArchive(Reader):
    """The reader of an archive's content, with the members that were left out in its first piece."""

    def __init__(self, path: Path, unpacked: Unpacked, inside: Reader) -> None:
        super().__init__(path)
        self._unpacked, self._inside = unpacked, inside
        article = "an" if inside.kind[0] in "aA" else "a"
        packed = path.name.lower().endswith(PACKED)
        self.kind = f"compressed {inside.kind}" if packed else f"archive of {article} {inside.kind}"
        self.schema, self.roles, self.units = inside.schema, inside.roles, inside.units
        self.notes, self.ignored = list(inside.notes), inside.ignored
        if unpacked.absolute:
            names = counted(len(unpacked.absolute), "name begins", "names begin")
            self.notes.append(f"{names} with a slash, which is dropped: {listed(unpacked.absolute, most=2)}")
        if unpacked.ignored:
            self.ignored[BY_PRODUCTS] += unpacked.ignored

    def pieces(self, start: int = 0) -> Iterator[Piece]:
        if not start and self._unpacked.left_out:
            yield Piece(self.schema.empty_table(), 0, list(self._unpacked.left_out))
        with named_as_inside(self.path, self._unpacked.folder):
            yield from self._inside.pieces(start)

    def finished(self) -> list[str]:
        return self._inside.finished()

    def close(self) -> None:
        self._inside.close()
        remove(self._unpacked.folder)

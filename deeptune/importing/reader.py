"""The interface of all kinds of sources: rows in pieces, and what was left out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

PIECE_BYTES = 32 * 2**20  # bytes of samples that are in memory at once
PIECE_ROWS = 4096


@dataclass(frozen=True)
class LeftOut:
    """A file, row or member that was not imported, and why; `reason` begins with a verb."""

    what: str
    reason: str


HALF = "holds half a character, which no text in UTF-8 can hold"


@dataclass
class Piece:
    """Some rows of a source in its schema. `units` counts what they took of the source: files, rows or members."""

    table: pa.Table
    units: int
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True)
class Shot:
    """One image of a file, encoded, and the values of the columns beside it."""

    image: bytes
    facts: dict[str, Any] = field(default_factory=dict)


class Reader(ABC):
    """Reads one source as rows.

    `kind` names the kind of source in messages. `units` is how much there is to read, None where only reading tells.
    `schema` is that of all pieces. `notes` say what was detected. `ignored` counts files that are not data, by their
    kind. `roles` are the columns of the schema with a known role: input, label, group or split.
    """

    kind: str
    units: int | None = None
    schema: pa.Schema

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self.ignored: Counter[str] = Counter()
        self.roles: dict[str, str] = {}

    @abstractmethod
    def pieces(self, start: int = 0) -> Iterator[Piece]:
        """Return the rows after the first `start` units, always in the same order.

        Raises DataError for what is damaged.
        """

    def finished(self) -> list[str]:
        """List what is known only after the last piece, as sentences."""
        return []

    def close(self) -> None:
        """Remove what the reader needed meanwhile."""
        return

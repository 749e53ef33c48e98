"""The catalog as a table that the name's field searches."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable

from deeptune.catalog import CATALOG, BackboneInfo

FAMILIES = list(dict.fromkeys(row.family for row in CATALOG.values()))
COLUMNS = ("", "name", "family", "params", "embedding", "input", "weights")


class BackboneTable(DataTable[Any]):
    """Rows of one modality whose name or family has the words; the chosen one has a mark."""

    DEFAULT_CSS = "BackboneTable { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Take", id="backbones.take", tooltip="Take this backbone"),
    ]

    class Taken(Message):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self) -> None:
        super().__init__(cursor_type="row", zebra_stripes=False)
        self._drawn: Any = None
        self._rows: list[BackboneInfo] = []

    @property
    def current(self) -> BackboneInfo | None:
        return self._rows[self.cursor_row] if 0 <= self.cursor_row < len(self._rows) else None

    def show(self, *, words: str, chosen: str, modality: str | None, here: dict[str, bool], width: int) -> None:
        parts = words.lower().split()
        rows = [
            row
            for row in sorted(CATALOG.values(), key=lambda row: FAMILIES.index(row.family))
            if modality in (None, row.modality) and all(part in f"{row.name} {row.family}" for part in parts)
        ]
        left_out = () if width >= 74 else ("family",) if width >= 60 else ("family", "embedding")
        drawn = ([row.name for row in rows], chosen, here, left_out)
        if drawn == self._drawn:
            return
        before, self._drawn, self._rows = self._drawn, drawn, rows
        same = before is not None and before[0] == drawn[0]
        at = self.cursor_row
        self.clear(columns=True)
        columns = [column for column in COLUMNS if column not in left_out]
        lines, family = [], ""
        for row in rows:
            cells = {
                "": Text("●" if row.name == chosen else " ", style="bold"),
                "name": Text(row.name, style="bold" if row.name == chosen else ""),
                "family": Text(row.family if row.family != family else ""),
                "params": Text(f"{(row.parameters or 0) / 1e6:.1f} M", justify="right"),
                "embedding": Text(f"{row.width:,}", justify="right"),
                "input": Text(f"{row.input_size} {'px' if row.modality == 'image' else 'tokens'}", justify="right"),
                "weights": Text(
                    "✓ here" if here.get(row.name) else "to fetch", style="" if here.get(row.name) else "dim"
                ),
            }
            family = row.family
            lines.append([cells[column] for column in columns])
        # A table measures its columns later, and does not always draw itself again then.
        for place, column in enumerate(columns):
            right = column in ("params", "embedding", "input")
            width = max([len(column), *(line[place].cell_len for line in lines)])
            self.add_column(Text(column, justify="right" if right else "left"), key=column, width=width)
        for row, line in zip(rows, lines, strict=True):
            self.add_row(*line, key=row.name)
        wanted = at if same else next((index for index, row in enumerate(rows) if row.name == chosen), 0)
        if rows:
            self.move_cursor(row=min(wanted, len(rows) - 1))

    @on(DataTable.RowSelected)
    def _take(self, event: DataTable.RowSelected) -> None:
        event.stop()
        if (row := self.current) is not None:
            self.post_message(self.Taken(row.name))

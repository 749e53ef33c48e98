"""The catalog as a table that the field of the name searches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable

from deeptune.catalog import CATALOG, BackboneInfo
from deeptune.fetching import Fetch
from deeptune.spec.modalities import MODALITIES

FAMILIES = list(dict.fromkeys(row.family for row in CATALOG.values()))
COLUMNS = ("", "name", "probe", "weights", "params", "input", "embedding", "family")  # the right ones give way first
FEWEST = 3  # columns that stay: mark, name, and what comes next
SCROLLBAR = 3  # cells of the bar and the margin around the table, less the padding at its end


UNKNOWN = Fetch("", "", None, "", "")  # until this machine has been looked at


def weights_text(fetch: Fetch | None) -> str:
    """Say whether weights are here, or the size of the download: `✓ here`, `94 MB to get`, `out of reach`."""
    if fetch is None or fetch is UNKNOWN:
        return "" if fetch else "✓ here"
    return "out of reach" if fetch.obstacle else f"{fetch.amount.removeprefix('about ')} to get".lstrip()


@dataclass(frozen=True)
class Known:
    """Facts about the backbones: the data's modality, what has to be fetched, and the scores of a probe."""

    modality: str | None
    fetches: dict[str, Fetch | None]
    scores: dict[str, str] = field(default_factory=dict)


class BackboneTable(DataTable[Any]):
    """Lists the backbones of a modality whose name or family contains the words of the search.

    Those with weights on this machine come first. The chosen one has a mark.
    """

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

    def show(self, *, words: str, chosen: str, known: Known, width: int) -> None:
        """List the backbones that have the words, or mark the chosen one."""
        modality, fetches, scores = known.modality, known.fetches, known.scores
        parts = words.lower().split()
        away = {row.name: fetches.get(row.name, UNKNOWN) is not None for row in CATALOG.values()}
        rows = [
            row
            for row in sorted(CATALOG.values(), key=lambda row: (away[row.name], FAMILIES.index(row.family)))
            if modality in (None, row.modality) and all(part in f"{row.name} {row.family}" for part in parts)
        ]
        drawn = ([row.name for row in rows], chosen, fetches, scores, width)
        if drawn == self._drawn:
            return
        before, self._drawn, self._rows = self._drawn, drawn, rows
        same = before is not None and before[0] == drawn[0]
        at = self.cursor_row
        self.clear(columns=True)
        family = ""
        lines: list[dict[str, Text]] = []
        for row in rows:
            cells = {
                "": Text("●" if row.name == chosen else " ", style="bold"),
                "name": Text(row.name, style="bold" if row.name == chosen else ""),
                "probe": Text(scores.get(row.name, ""), justify="right"),
                "family": Text(row.family if row.family != family else ""),
                "params": Text(f"{(row.parameters or 0) / 1e6:.1f} M", justify="right"),
                "embedding": Text(f"{row.width:,}", justify="right"),
                "input": Text(f"{row.input_size} {MODALITIES[row.modality].short_unit}", justify="right"),
                "weights": Text(weights_text(fetches.get(row.name, UNKNOWN)), style="dim" if away[row.name] else ""),
            }
            family = row.family
            lines.append(cells)
        widths = {name: max([len(name), *(cells[name].cell_len for cells in lines)]) for name in COLUMNS}
        columns = _fitting(widths, width, probed=bool(scores))
        # A table measures its columns later, and does not always draw itself again then.
        for column in columns:
            right = column in ("probe", "params", "embedding", "input")
            self.add_column(Text(column, justify="right" if right else "left"), key=column, width=widths[column])
        for row, cells in zip(rows, lines, strict=True):
            self.add_row(*(cells[column] for column in columns), key=row.name)
        wanted = at if same else next((index for index, row in enumerate(rows) if row.name == chosen), 0)
        if rows:
            self.move_cursor(row=min(wanted, len(rows) - 1))

    @on(DataTable.RowSelected)
    def _take(self, event: DataTable.RowSelected) -> None:
        event.stop()
        if (row := self.current) is not None:
            self.post_message(self.Taken(row.name))


def _fitting(widths: dict[str, int], room: int, *, probed: bool) -> list[str]:
    """Choose the columns that `room` cells hold whole: the last ones give way first."""
    columns = [column for column in COLUMNS if probed or column != "probe"]
    while len(columns) > FEWEST and sum(widths[column] + 2 for column in columns) + SCROLLBAR > room:
        columns.pop()
    return columns

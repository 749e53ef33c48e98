"""A confusion matrix as a heat map with its numbers. Of many classes only the visible cells are made."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from deeptune.formatting import cut_apart, visible
from deeptune.report.tables import class_titles

LABEL = 18  # cells of a label, at most
SHADES = 5
HEAD = "true → predicted"
HEAD_ROWS = 2  # what is what, and the numbers of the classes


class Matrix(ScrollView, can_focus=True):
    """Shows true classes as rows and predictions as columns. A cell is darker the larger its share of its row."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"matrix--label", "matrix--head", "matrix--right", "matrix--wrong"}
    DEFAULT_CSS = """
    Matrix {
        & > .matrix--label { color: $foreground; }
        & > .matrix--head { color: $text-muted; }
        & > .matrix--right { color: $primary; text-style: bold; }
        & > .matrix--wrong { color: $error; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._counts: list[list[int]] = []
        self._titles: list[str] = []
        self._label = self._cell = 0

    def fill(self, metrics: dict[str, Any]) -> None:
        """Show the matrix of a split's metrics; nothing if they have none."""
        counts, classes = metrics.get("confusion_matrix"), metrics.get("per_class")
        if not _is_matrix(counts, classes):
            counts, classes = [], []
        self._counts = counts or []
        numbers = [f"{number:>{len(str(len(self._counts) - 1))}} " for number in range(len(self._counts))]
        names = cut_apart(_names(classes or []), LABEL - len(numbers[0]) if numbers else LABEL)
        self._titles = [number + name for number, name in zip(numbers, names, strict=True)]
        self._label = max(map(cell_len, self._titles), default=0) + 1
        largest = max((max(row) for row in self._counts), default=0)
        self._cell = max(len(str(largest)), len(str(len(self._counts) - 1)), 2) + 1
        self.virtual_size = Size(self._label + self._cell * len(self._counts), len(self._counts) + HEAD_ROWS)
        self.refresh()

    @property
    def filled(self) -> bool:
        return bool(self._counts)

    def render_line(self, y: int) -> Strip:
        """Draw a line. The header and the names of the rows stay visible."""
        left, top = self.scroll_offset
        ground = self.rich_style
        head = self.get_component_rich_style("matrix--head")
        if not self._counts:
            return Strip.blank(self.size.width, ground)
        if y == 0:
            return Strip([Segment(HEAD, head)]).adjust_cell_length(self.size.width, ground)
        if y == 1:
            cells = [Segment(f"{number:>{self._cell - 1}} ", head) for number in range(len(self._counts))]
            return self._line(Segment(" " * self._label, head), cells, left)
        number = top + y - HEAD_ROWS
        if number >= len(self._counts):
            return Strip.blank(self.size.width, ground)
        label = self.get_component_rich_style("matrix--label")
        title = set_cell_size(self._titles[number], self._label - 1) + " "
        row, total = self._counts[number], sum(self._counts[number])
        first, last = left // self._cell, (left + self.size.width) // self._cell + 1
        blank = [Segment(" " * self._cell * first, ground)] if first else []
        cells = [
            Segment(
                f"{count or '·':>{self._cell - 1}} ", ground + self._heat(count / total if total else 0, at == number)
            )
            for at, count in list(enumerate(row))[first:last]
        ]
        return self._line(Segment(title, label), [*blank, *cells], left)

    def _line(self, label: Segment, cells: list[Segment], left: int) -> Strip:
        room = max(self.size.width - self._label, 0)
        return Strip([label, *Strip(cells).crop_extend(left, left + room, self.rich_style)])

    def _heat(self, share: float, right: bool) -> Style:
        """Return a background between the theme's own and its colour for right or wrong, or a reversed one."""
        ink = self.get_component_styles("matrix--right" if right else "matrix--wrong").color
        ground = self.background_colors[1]
        if not share:
            return self.get_component_rich_style("matrix--head")
        if ink.ansi is not None or ground.ansi is not None:
            return Style(bold=right, color=ink.rich_color, reverse=share >= 0.5)
        shade = ground.blend(ink, 0.15 + 0.7 * round(share * SHADES) / SHADES)
        return Style(color=shade.get_contrast_text(0.95).rich_color, bgcolor=shade.rich_color, bold=right)


def _names(rows: list[dict[str, Any]]) -> list[str]:
    """Return each class as it stands beside its number: its name alone if its value is that number."""
    return [
        visible(row["name"]) if row.get("name") is not None and str(row["class"]) == str(number) else title
        for number, (row, title) in enumerate(zip(rows, class_titles(rows), strict=True))
    ]


def _is_matrix(counts: Any, classes: Any) -> bool:
    """Check whether these are n lists of n counts, and n classes."""
    return (
        isinstance(counts, list)
        and isinstance(classes, list)
        and len(counts) == len(classes)
        and all(isinstance(row, list) and len(row) == len(counts) for row in counts)
        and all(isinstance(count, int) for row in counts for count in row)
        and all(isinstance(row, dict) and "class" in row for row in classes)
    )

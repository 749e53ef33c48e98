"""Lines of plain text in named styles. Only the cells that changed are drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from deeptune.show.chart import Row

STYLES = ("label", "value", "title", "good", "warn", "bad", "busy", "faint", "axis", "cursor", "mark", "key", "on",
          "train", "train-raw", "val", "rate", "norm", "first", "second", "third", "fourth",
          "fifth", "sixth", "seventh", "eighth", "pinned")  # fmt: skip
NEAR = 12  # cells: changes that are nearer are one, as to move there and set a style is as many bytes

MIN_WRAPPED = 20  # cells: a narrower column is not indented

Cells = list[tuple[str, str]]


@lru_cache(20_000)
def wrapped(text: str, width: int, indent: int = 0) -> tuple[str, ...]:
    """Wrap a line into lines of at most `width` cells, all but the first indented."""
    if cell_len(text) <= width or width < 1:
        return (text,)
    indent = indent if width - indent >= MIN_WRAPPED else 0
    first, *rest = (line.plain.rstrip() for line in Content(text[indent:]).wrap(width - indent))
    return (text[:indent] + first, *(" " * indent + line for line in rest))


class Lines(Widget):
    """Shows `rows`, each a list of (text, style name), from the top, and cuts what does not fit."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"line--{style}" for style in STYLES}
    DEFAULT_CSS = """
    Lines {
        height: auto;
        & > .line--label, & > .line--faint { color: $text-muted; }
        & > .line--axis { color: $foreground 35%; }
        & > .line--title { text-style: bold; }
        & > .line--key { color: $primary; text-style: bold; }
        & > .line--on { background: $primary; color: $background; text-style: bold; }
        & > .line--good { color: $success; }
        & > .line--warn { color: $warning; }
        & > .line--bad { color: $error; text-style: bold; }
        & > .line--busy { color: $primary; }
        & > .line--cursor { color: $accent; }
        & > .line--mark { color: $warning; text-style: bold; }
        & > .line--train, & > .line--first { color: $primary; }
        & > .line--train-raw { color: $primary 35%; }
        & > .line--val, & > .line--second { color: $accent; }
        & > .line--rate, & > .line--third { color: $success; }
        & > .line--norm, & > .line--fourth { color: $secondary; }
        & > .line--fifth { color: $error; }
        & > .line--sixth { color: $warning; }
        & > .line--seventh { color: $foreground; }
        & > .line--eighth { color: $text-muted; }
        & > .line--pinned { color: $foreground 40%; }
    }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._rows: list[Row] = []

    def show(self, rows: Sequence[Row]) -> None:
        """Replace the rows. Rows that are the same are not drawn again."""
        before, self._rows = self._rows, list(rows)
        if len(before) != len(self._rows) and self.styles.is_auto_height:
            self._layout_updates += 1  # else Textual may take the height of rows that were laid out a moment ago
            self.refresh(layout=True)
            return
        changed = []
        for y in range(min(max(len(before), len(self._rows)), self.size.height)):
            old, new = (each[y] if y < len(each) else [] for each in (before, self._rows))
            if old != new:
                changed += [Region(x, y, width, 1) for x, width in _changes(old, new, self.size.width)]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        row = self._rows[y] if y < len(self._rows) else []
        ground = self.rich_style
        segments = [Segment(text, self._style(style) if style else ground) for text, style in row]
        return Strip(segments).adjust_cell_length(self.size.width, ground)

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"line--{name}")

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._rows)


def _changes(old: Row, new: Row, width: int) -> list[tuple[int, int]]:
    """List the spans of cells that differ as (x, width); the whole line if a character is not one cell wide."""
    before, after = _cells(old), _cells(new)
    if before is None or after is None:
        return [(0, width)]
    blank = [(" ", "")]
    before += blank * (width - len(before))
    after += blank * (width - len(after))
    runs: list[tuple[int, int]] = []
    for x in range(width):
        if before[x] != after[x]:
            if runs and x - sum(runs[-1]) < NEAR:
                runs[-1] = runs[-1][0], x + 1 - runs[-1][0]
            else:
                runs.append((x, 1))
    return runs


def _cells(row: Row) -> Cells | None:
    if any(cell_len(text) != len(text) for text, _ in row):
        return None
    return [(character, style) for text, style in row for character in text]

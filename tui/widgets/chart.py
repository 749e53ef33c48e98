"""A line chart with a cursor that left and right move, and that shows the values there."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from deeptune.show import chart
from tui.widgets.styled_lines import Lines


class Chart(Lines, can_focus=True):
    """Draws the chart that `plot` was last given, in its own size. A hidden chart is not built."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "Cursor left", show=False, id="chart.left", tooltip="Read values further left"),
        Binding("right", "move(1)", "Cursor right", show=False, id="chart.right", tooltip="Read values further right"),
        Binding("shift+left", "move(-10)", show=False, id="chart.far_left", tooltip="Ten columns to the left"),
        Binding("shift+right", "move(10)", show=False, id="chart.far_right", tooltip="Ten columns to the right"),
        Binding("plus,equals_sign", "zoom(0.5)", show=False, id="chart.zoom_in", tooltip="Half of the x axis"),
        Binding("minus", "zoom(2)", show=False, id="chart.zoom_out", tooltip="Twice as much of the x axis"),
        Binding("0", "zoom(0)", show=False, id="chart.whole", tooltip="The whole x axis"),
    ]
    DEFAULT_CSS = """
    Chart { height: 1fr; min-height: 4; }
    Chart:focus > .line--title { color: $primary; text-style: bold; }
    """

    class Moved(Message):
        """Posted when the cursor moved to an x, or was cleared (None)."""

        def __init__(self, x: float | None) -> None:
            super().__init__()
            self.x = x

    class Zoomed(Message):
        """Posted when the person asked for a part of the x axis, or (None) for all of it."""

        def __init__(self, window: tuple[float, float] | None) -> None:
            super().__init__()
            self.window = window

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._make: Callable[[], chart.Chart] = lambda: chart.Chart([])
        self._drawing = chart.Drawing([])
        self.glyphs = chart.PLAIN
        self.cursor: float | None = None

    def plot(self, make: Callable[[], chart.Chart], cursor: float | None = None) -> None:
        """Draw the chart that `make` gives, with the cursor at an x."""
        self._make, self.cursor = make, cursor
        if self.size.area:
            self._drawing = chart.draw(make(), *self.size, self.glyphs, cursor=cursor)
            self.show(self._drawing.rows)

    def on_resize(self, event: events.Resize) -> None:
        self.plot(self._make, self.cursor)

    def action_move(self, cells: int) -> None:
        drawing = self._drawing
        if not drawing.cells:
            return
        at = drawing.cells - 1 if self.cursor is None else drawing.cell_at(self.cursor) + cells
        if 0 <= at < drawing.cells:
            self.post_message(self.Moved(drawing.x_at(at)))
        elif (shown := self._make()).window is not None:
            window = chart.moved(shown, shown.window, cells / drawing.cells)
            self.post_message(self.Zoomed(window))
            self.post_message(self.Moved(window[cells > 0]))

    def action_zoom(self, by: float) -> None:
        shown = self._make()
        self.post_message(self.Zoomed(chart.zoomed(shown, shown.window, by, self.cursor) if by else None))

    def on_click(self, event: events.Click) -> None:
        cell = event.x - self._drawing.left
        if 0 <= cell < self._drawing.cells and event.y:
            self.post_message(self.Moved(self._drawing.x_at(cell)))

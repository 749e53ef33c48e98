"""A plot of predicted against true numbers, in the size of its widget."""

from __future__ import annotations

from deeptune.show import agreement
from deeptune.show.agreement import Agreement
from deeptune.show.chart import ChartGlyphs
from tui.widgets.styled_lines import Lines


class AgreementPlot(Lines):
    """Plots the test rows of a regression run; hidden if there are none."""

    DEFAULT_CSS = """
    AgreementPlot { height: 1fr; }
    """
    _points: Agreement | None = None

    def plot(self, points: Agreement | None) -> None:
        self._points, self.display = points, points is not None
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        if self._points is not None and self.size.area:
            options = getattr(self.app, "options", None)
            glyphs = ChartGlyphs(ascii=bool(options and not options.dots))
            self.show(agreement.draw(self._points, *self.size, glyphs))

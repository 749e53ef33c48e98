"""Line charts in a terminal: braille dots, two to four a cell, and an ASCII twin of the same layout.

A chart is drawn as plain rows of (text, style name), which Rich, Textual or anything else can colour. Each column of
dots shows the lowest and the highest value that fall in it, so that no spike is lost however many points there are.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from deeptune.report.tables import value_text
from deeptune.show.scale import axis_range, log_ticks, nice_ticks, roomy_range, tick_labels, time_labels, time_ticks
from deeptune.show.series import Series, Span, decimate, gaps_in

Row = list[tuple[str, str]]

BRAILLE = 0x2800
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a cell's left and right column, top to bottom
_RUNS = [[[sum(bits[a : b + 1]) for b in range(4)] for a in range(4)] for bits in _BITS]
_ASCII = {(False, False): " ", (True, False): "'", (False, True): ".", (True, True): ":"}  # upper dots, lower dots
DASH = 4  # cells: series that go through the same cells take turns; where colours do not tell them, a sign a dash


@dataclass(frozen=True)
class Chart:
    """A chart: `unit` of the x axis is `step`, `epoch` or `time` (in seconds); the y axis is log10 when `log`.

    While points are still to come, `growing` keeps the axes from moving with each of them. `from_zero` has 0 on the y
    axis, whatever the values. `window` is the part of the x axis that is shown, by default all of it.
    """

    series: Sequence[Series]
    unit: str = "step"
    log: bool = False
    title: str = ""
    growing: bool = False
    from_zero: bool = False
    window: tuple[float, float] | None = None

    @property
    def x_range(self) -> tuple[float, float]:
        """The smallest and the largest x of its points."""
        lines = [series.x for series in self.series if len(series.x)]
        return axis_range(min((x[0] for x in lines), default=0), max((x[-1] for x in lines), default=1))


@dataclass
class Drawing:
    """The rows of a chart. The plot is `cells` wide, after `left` cells of labels."""

    rows: list[Row]
    left: int = 0
    cells: int = 0
    x_range: tuple[float, float] = (0.0, 1.0)

    def x_at(self, cell: int) -> float:
        """Return the x at the middle of a plot cell, counted from 0."""
        low, high = self.x_range
        return low + (high - low) * min(max((2 * cell + 0.5) / max(2 * self.cells - 1, 1), 0.0), 1.0)

    def cell_at(self, x: float) -> int:
        low, high = self.x_range
        return min(max(round((x - low) / (high - low) * (2 * self.cells - 1)) // 2, 0), self.cells - 1)


@dataclass(frozen=True)
class ChartGlyphs:
    """The characters that charts are drawn with: ASCII only, or not; `mono` where colours do not tell series apart."""

    ascii: bool = False
    mono: bool = False


PLAIN = ChartGlyphs()


class _Canvas:
    """Dots, and which series go through each cell: bit n for the one with number n."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.dots = [[0] * width for _ in range(height)]
        self.through = [[0] * width for _ in range(height)]

    def fill(self, column: int, top: float, bottom: float, bit: int) -> None:
        """Draw a vertical run of dots, ends included, in rows of dots counted from the top."""
        a, b = sorted((round(top), round(bottom)))
        a, b = max(a, 0), min(b, 4 * self.height - 1)
        cell, side = divmod(column, 2)
        runs = _RUNS[side]
        for row in range(a >> 2, (b >> 2) + 1):
            self.dots[row][cell] |= runs[max(a - 4 * row, 0)][min(b - 4 * row, 3)]
            self.through[row][cell] |= bit

    def line(self, number: int, y: array[float], spans: list[Span | None], place: _Scale) -> None:
        """Draw the spans of a series, joined where no gap is between them."""
        bit, before, at = 1 << number, None, 0
        for here, span in enumerate(spans):
            if span is None:
                continue
            if before is not None and span.first == before.last + 1:
                self._join(at, place(y[before.last]), here, place(y[span.first]), bit)
            self.fill(here, place(span.high), place(span.low), bit)
            before, at = span, here

    def _join(self, start: int, y0: float, end: int, y1: float, bit: int) -> None:
        slope = (y1 - y0) / (end - start)
        for column in range(start, end + 1):
            a, b = max(column - 0.5, start), min(column + 0.5, end)
            self.fill(column, y0 + slope * (a - start), y0 + slope * (b - start), bit)


class _Scale:
    """A scale from a value to its row of dots, from the top; without a difference that could overflow."""

    def __init__(self, low: float, high: float, rows: int, *, log: bool) -> None:
        self._log, self._rows = log, rows - 1
        low, high = (math.log10(low), math.log10(high)) if log else (low, high)
        self._high, self._half = high / 2, high / 2 - low / 2

    def __call__(self, value: float) -> float:
        value = math.log10(value) if self._log else value
        return (self._high - value / 2) / self._half * self._rows


def draw(chart: Chart, width: int, height: int, glyphs: ChartGlyphs = PLAIN, *, cursor: float | None = None) -> Drawing:
    """Draw a chart in `height` rows of `width` cells. Its legend shows the values at `cursor`, if there is one."""
    lines = [series for series in chart.series if len(series.x)]
    legend = fitted(_legend(chart, lines, glyphs, cursor), width)
    plot_height = height - (3 if height > 5 else 2)
    x_range = chart.window or chart.x_range
    y_range = _y_range([_within(line, chart.window) for line in lines] if chart.window else lines, chart.log)
    if chart.from_zero and y_range is not None and not chart.log:
        y_range = axis_range(min(y_range[0], 0.0), max(y_range[1], 0.0))
    if chart.growing and y_range is not None:
        x_range = x_range if chart.window else (x_range[0], roomy_range(*x_range)[1])
        y_range = roomy_range(*y_range, log=chart.log)
    if plot_height < 1 or width < 16 or y_range is None:
        nothing = "" if lines and y_range is not None else "nothing to draw yet"
        return Drawing([legend, *blank(nothing, width, height - 1)][:height])
    most = max(3, plot_height // 3)
    ticks = log_ticks(*y_range, most) if chart.log else nice_ticks(*y_range, most)
    labels = tick_labels(ticks)
    left = max(map(len, labels), default=0) + 1
    drawing = Drawing([], left, max(width - left, 1), x_range)
    scale = _Scale(*y_range, 4 * plot_height, log=chart.log)
    canvas = _Canvas(drawing.cells, plot_height)
    for number, line in enumerate(lines):
        canvas.line(number, line.y, decimate(line, x_range, 2 * drawing.cells, log=chart.log), scale)
    cells = _cells(canvas, lines, glyphs)
    for line in lines:
        _mark(cells, line, drawing, scale, glyphs, log=chart.log)
    if cursor is not None and x_range[0] <= cursor <= x_range[1]:
        at, bar = drawing.cell_at(cursor), "|" if glyphs.ascii else "│"
        for row in cells:
            row[at] = (bar if row[at][0] == " " else row[at][0], "cursor")
    beside = {round(scale(tick)) // 4: label for tick, label in zip(ticks, labels, strict=True)}
    edge, notch = ("|", "+") if glyphs.ascii else ("│", "┤")
    for number, row in enumerate(cells):
        label = (f"{beside.get(number, ''):>{left - 1}}", "label")
        drawing.rows.append(joined([label, (notch if number in beside else edge, "axis"), *row]))
    below = _x_axis(chart.unit, drawing, width, glyphs)
    drawing.rows = [legend, *drawing.rows, *(below if height > 5 else below[1:])]
    return drawing


def _within(line: Series, window: tuple[float, float]) -> Series:
    first, last = bisect_left(line.x, window[0]), bisect_right(line.x, window[1])
    return replace(line, x=line.x[first:last], y=line.y[first:last])


def zoomed(chart: Chart, window: tuple[float, float] | None, by: float, at: float | None) -> tuple[float, float] | None:
    """Return the window that is `by` times as wide: around `at`, or up to its right end. None is the whole axis."""
    low, high = chart.x_range
    left, right = window or (low, high)
    width = (right - left) * by
    if width >= high - low:
        return None
    start = right - width if at is None else at - (at - left) * by
    return moved(chart, (start, start + width), 0.0)


def moved(chart: Chart, window: tuple[float, float], by: float) -> tuple[float, float]:
    """Return the window a part of its width further right, within the axis."""
    low, high = chart.x_range
    width = window[1] - window[0]
    start = min(max(window[0] + by * width, low), high - width)
    return start, start + width


def _y_range(lines: Sequence[Series], log: bool) -> tuple[float, float] | None:
    low, high = math.inf, -math.inf
    for line in lines:
        gaps = set(gaps_in(line.y, log=log))
        there = [value for index, value in enumerate(line.y) if index not in gaps] if gaps else line.y
        if len(there):
            low, high = min(low, *there), max(high, *there)
    return axis_range(low, high, log=log) if low <= high else None


def _legend(chart: Chart, lines: Sequence[Series], glyphs: ChartGlyphs, cursor: float | None) -> Row:
    """Return the title, then each series with its last value, or with the one nearest to the cursor."""
    row: Row = [(chart.title, "title")] if chart.title else []
    if cursor is not None:
        row.append((f" at {x_text(cursor, chart.unit)}", "cursor"))
    loud = [(line, sign) for line, sign in zip(lines, _signs(lines, glyphs), strict=True) if not line.quiet]
    for line, sign in loud:
        at = len(line.x) - 1 if cursor is None else nearest(line.x, cursor)
        text = value_text("loss", line.y[at])
        row += [
            ("  " if row else "", ""),
            (sign or ("-" if glyphs.ascii else "━"), line.style),
            (f" {line.name} " if line.name else " ", "label"),
            (text, "value"),
        ]
    marked = next((line for line, _ in loud if line.mark is not None), None)
    if marked is not None and marked.mark is not None and cursor is None:
        where = x_text(marked.x[marked.mark], chart.unit)
        row += [
            ("  ", ""),
            (_star(glyphs), "mark"),
            (" best ", "label"),
            (value_text("loss", marked.y[marked.mark]), "value"),
        ]
        row.append((f" at {where}", "label"))
    return row


def nearest(x: Sequence[float], value: float) -> int:
    """Find the index of the number nearest to a value, in an ascending sequence that is not empty."""
    after = min(bisect_left(x, value), len(x) - 1)
    return after - 1 if after and value - x[after - 1] < x[after] - value else after


def x_text(x: float, unit: str) -> str:
    """Return a place on the x axis: `step 1,200`, `epoch 2.5`, `3:20`."""
    if unit == "time":
        return time_labels([x])[0]
    return f"{unit} {x:,.0f}" if unit == "step" else f"{unit} {x:.1f}".removesuffix(".0")


def _star(glyphs: ChartGlyphs) -> str:
    return "*" if glyphs.ascii else "★"


def _signs(lines: Sequence[Series], glyphs: ChartGlyphs) -> list[str]:
    """Return the sign of each series, where colours do not tell them apart; in ASCII the first keeps its finer dots."""
    loud = [number for number, line in enumerate(lines) if not line.quiet]
    signed = loud[1:] if glyphs.ascii else loud if glyphs.mono and len(loud) > 1 else []
    return [line.sign if number in signed else "" for number, line in enumerate(lines)]


def _cells(canvas: _Canvas, lines: Sequence[Series], glyphs: ChartGlyphs) -> list[Row]:
    """Choose each cell's character and style. Series in the same cells take turns, so that none hides another."""
    pens = [(line.style, sign) for line, sign in zip(lines, _signs(lines, glyphs), strict=True)]
    loud = sum(1 << number for number, line in enumerate(lines) if not line.quiet)
    kinds = {kind for through in canvas.through for kind in through}
    seen = {kind: [pen for number, pen in enumerate(pens) if (kind & loud or kind) >> number & 1] for kind in kinds}
    return [
        [_cell(bits, seen[kind], cell, glyphs) for cell, (bits, kind) in enumerate(zip(dots, through, strict=True))]
        for dots, through in zip(canvas.dots, canvas.through, strict=True)
    ]


def _cell(bits: int, pens: list[tuple[str, str]], cell: int, glyphs: ChartGlyphs) -> tuple[str, str]:
    if not pens:
        return " ", ""
    style, sign = pens[cell // DASH % len(pens)]
    if glyphs.ascii:
        return sign or _ASCII[bool(bits & 0x1B), bool(bits & 0xE4)], style
    return sign if sign and cell % DASH == 0 else chr(BRAILLE | bits), style


def _mark(cells: list[Row], line: Series, drawing: Drawing, scale: _Scale, glyphs: ChartGlyphs, *, log: bool) -> None:
    if line.mark is None:
        return
    value = line.y[line.mark]
    if math.isfinite(value) and not (log and value <= 0):
        row = min(max(round(scale(value)) // 4, 0), len(cells) - 1)
        cells[row][drawing.cell_at(line.x[line.mark])] = (_star(glyphs), "mark")


def _x_axis(unit: str, drawing: Drawing, width: int, glyphs: ChartGlyphs) -> list[Row]:
    """Return the line with its notches, and the labels below it, with the unit at the right end."""
    low, high = drawing.x_range
    most = max(2, drawing.cells // 10)
    ticks = time_ticks(low, high, most) if unit == "time" else nice_ticks(low, high, most, whole=True)
    labels = time_labels(ticks) if unit == "time" else tick_labels(ticks)
    corner, dash, notch = ("+", "-", "+") if glyphs.ascii else ("└", "─", "┴")
    axis, text = [dash] * drawing.cells, [" "] * width
    text[width - len(unit) :] = unit
    end = 0  # of the label before
    for tick, label in zip(ticks, labels, strict=True):
        cell = drawing.cell_at(tick)
        start = min(max(drawing.left + cell - len(label) // 2, end), width - len(label))
        if start < end or start + len(label) >= width - len(unit):
            continue
        axis[cell] = notch
        text[start : start + len(label)] = label
        end = start + len(label) + 1
    return [
        [(" " * (drawing.left - 1), ""), (corner + "".join(axis), "axis")],
        [("".join(text), "label")],
    ]


def joined(row: Row) -> Row:
    """Join the pieces of a row that have the same style."""
    return [("".join(text for text, _ in run), style) for style, run in groupby(row, key=lambda piece: piece[1])]


def fitted(row: Row, width: int, end: str = "") -> Row:
    """Pad a row with blanks to `width` cells, or cut it, with `end` as its last character.

    The characters of its text count as one cell each.
    """
    if end and sum(len(text) for text, _ in row) > width > 0:
        return [*fitted(row, width - 1), (end, row[-1][1])]
    kept: Row = []
    for text, style in row:
        if text := text[:width]:
            kept.append((text, style))
            width -= len(text)
    return joined([*kept, (" " * width, "")] if width else kept)


def blank(text: str, width: int, height: int) -> list[Row]:
    """Make rows that are blank but for a text in their middle."""
    rows = [fitted([], width) for _ in range(height)]
    if text and height > 0:
        rows[height // 2] = fitted([(text[:width].center(width), "label")], width)
    return rows


SPARKS, ASCII_SPARKS = "▁▂▃▄▅▆▇█", "_.-=+*#@"


def spark(values: Sequence[float], width: int, low: float, high: float, glyphs: ChartGlyphs = PLAIN) -> str:
    """Draw the last `width` values, a cell each, by their heights between `low` and `high`; a gap is blank."""
    levels = ASCII_SPARKS if glyphs.ascii else SPARKS
    span = (high - low) or 1.0
    shown = values[-width:] if width > 0 else []
    return "".join(
        levels[min(max(round((value - low) / span * 7), 0), 7)] if math.isfinite(value) else " " for value in shown
    )

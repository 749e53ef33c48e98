"""Predicted against true numbers as a scatter in a terminal, with the line on which they are equal."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deeptune.runs import RunDirectory
from deeptune.show.chart import BRAILLE, PLAIN, ChartGlyphs, Row, blank, fitted, joined
from deeptune.show.scale import nice_ticks, tick_labels
from deeptune.show.scatter import Window, dots, in_cells, whole

if TYPE_CHECKING:
    import numpy as np

MAX_POINTS = 50_000
MIN_SIZE = 24, 6  # cells of a plot's width and height, at least


@dataclass(frozen=True)
class Agreement:
    """The true and the predicted number of each row, and of how many rows these are a part."""

    truth: array[float]
    prediction: array[float]
    rows: int


def read_agreement(run: RunDirectory) -> Agreement | None:
    """Return the test rows of a regression run; None where there are none, or no file that can be read.

    For a thread.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        if "confidence" in pq.read_schema(run.predictions).names:
            return None
        table = pq.read_table(run.predictions, columns=["truth", "prediction"])
        columns = [pc.cast(table[name], "float64") for name in ("truth", "prediction")]
        table = table.filter(pc.and_(*(pc.fill_null(pc.is_finite(column), False) for column in columns)))
        every = -(-len(table) // MAX_POINTS) or 1
        truth, prediction = (array("d", table[name].to_pylist()[::every]) for name in ("truth", "prediction"))
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError):  # Arrow's errors are among these
        return None
    return Agreement(truth, prediction, len(table)) if truth else None


def draw(agreement: Agreement, width: int, height: int, glyphs: ChartGlyphs = PLAIN) -> list[Row]:
    """Draw `height` rows of `width` cells: a title, the points, and the axes, which have one range."""
    import numpy as np

    shown = len(agreement.truth)
    count = f"{shown:,} rows" if shown == agreement.rows else f"{shown:,} of {agreement.rows:,} rows"
    title: Row = [("predicted", "title"), (" over true", "label"), (f"  {count}", "label")]
    if width < MIN_SIZE[0] or height < MIN_SIZE[1]:
        return [fitted(title, width), *blank("", width, height - 1)][:height]
    xy = np.column_stack([np.frombuffer(agreement.truth), np.frombuffer(agreement.prediction)])
    window = _square(whole(xy))
    plot = height - 3
    ticks = nice_ticks(window.bottom, window.top, max(5, plot // 3))
    labels = tick_labels(ticks)
    left = max(map(len, labels), default=0) + 1
    room = width - left
    beside = {_row_of(tick, window, plot): label for tick, label in zip(ticks, labels, strict=True)}
    edge, notch = ("|", "+") if glyphs.ascii else ("│", "┤")
    rows = [fitted(title, width)]
    for number, row in enumerate(_plot(xy, window, room, plot, glyphs)):
        mark = notch if number in beside else edge
        rows.append(joined([(f"{beside.get(number, ''):>{left - 1}}", "label"), (mark, "axis"), *row]))
    return [*rows, *_below(window, left, room, glyphs)]


def _square(window: Window) -> Window:
    """Give both axes the same range."""
    low, high = min(window.left, window.bottom), max(window.right, window.top)
    return Window(low, high, low, high)


def _row_of(value: float, window: Window, height: int) -> int:
    share = (window.top - value) / (window.top - window.bottom)
    return min(max(int(share * height), 0), height - 1)


def _plot(xy: np.ndarray, window: Window, width: int, height: int, glyphs: ChartGlyphs) -> list[Row]:
    import numpy as np

    places = dots(xy, window, width, height)
    inside = ((places >= 0) & (places < [2 * width, 4 * height])).all(axis=1)
    bits, _ = in_cells(places[inside], np.zeros(int(inside.sum()), np.int64), width, height)
    drawn: list[Row] = []
    for y in range(height):
        row: Row = []
        for x, count in enumerate(bits[y * width : (y + 1) * width].tolist()):
            if count:
                row.append((".o#"[min(count.bit_count() // 3, 2)] if glyphs.ascii else chr(BRAILLE | count), "train"))
            else:
                equal = _row_of(window.left + (x + 0.5) / width * (window.right - window.left), window, height) == y
                row.append((("/" if glyphs.ascii else "·") if equal else " ", "axis"))
        drawn.append(row)
    return drawn


def _below(window: Window, left: int, width: int, glyphs: ChartGlyphs) -> list[Row]:
    """Return the axis of the true numbers, with its labels."""
    ticks = nice_ticks(window.left, window.right, max(3, width // 7))
    corner, dash, notch = ("+", "-", "+") if glyphs.ascii else ("└", "─", "┴")
    axis, text = [dash] * width, [" "] * (left + width)
    text[-4:] = "true"
    end = 0
    for tick, label in zip(ticks, tick_labels(ticks), strict=True):
        cell = min(int((tick - window.left) / (window.right - window.left) * width), width - 1)
        start = max(left + cell - len(label) // 2, end)
        if start + len(label) >= left + width - 4:
            continue
        axis[cell] = notch
        text[start : start + len(label)] = label
        end = start + len(label) + 1
    return [[(" " * (left - 1), ""), (corner + "".join(axis), "axis")], [("".join(text), "label")]]

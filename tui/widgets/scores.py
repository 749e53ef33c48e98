"""The metrics of one or more splits side by side, and the classes with the lowest F1."""

from __future__ import annotations

from typing import Any

from deeptune.formatting import safe
from deeptune.report.tables import class_titles, metric_rows, value_text, worst_classes
from deeptune.show.chart import Row
from tui.widgets.styled_lines import Lines, wrapped

MAX_CLASSES = 8
COLUMN, NARROW_COLUMN = 8, 7  # cells of a number
NARROW = 34  # cells of a table below which its columns are narrow
MIN_NAME = 10  # cells of a name, at least


class Scores(Lines):
    """A table whose names are never cut. Long names of metrics wrap."""

    _metrics: dict[str, dict[str, Any]] | None = None
    _nothing = ""

    def tell(self, metrics: dict[str, dict[str, Any]], nothing: str) -> None:
        """Show the metrics of the splits, or why there are none."""
        self._metrics, self._nothing = metrics, nothing
        width = self.size.width or 80
        self.show(score_rows(metrics, width) or [[(part, "label")] for part in wrapped(nothing, width)])

    def on_resize(self) -> None:
        if self._metrics is not None:
            self.tell(self._metrics, self._nothing)


def score_rows(metrics: dict[str, dict[str, Any]], width: int) -> list[Row]:
    """Make a line for each metric with its value on each split, in at most `width` cells, then the weakest classes."""
    tables = {split: dict(metric_rows(scores)) for split, scores in metrics.items()}
    titles = list(dict.fromkeys(title for table in tables.values() for title in table))
    if not titles:
        return []
    first = next(iter(metrics.values()))
    worst = worst_classes(first, MAX_CLASSES)
    names = class_titles(worst) if len(worst) > 1 else []
    column = COLUMN if width >= NARROW else NARROW_COLUMN
    numbers = column * max(len(tables), 2 if names else 1)
    room = min(max(map(len, (*titles, *names))) + 1, max(width - numbers, MIN_NAME))
    rows: list[Row] = [[(" " * room, ""), *((f"{split:>{column}}", "label") for split in tables)]]
    for title in titles:
        values = [(f"{table.get(title, ''):>{column}}", "value") for table in tables.values()]
        rows += _named(title, room, values)
    rows.append(
        [(f"{'rows':<{room}}", "label"), *((f"{each.get('n', 0):>{column},}", "label") for each in metrics.values())]
    )
    if names:
        rows += [[], [(f"{'lowest F1':<{room}}", "title"), (f"{'F1':>{column}}{'rows':>{column}}", "label")]]
        for name, row in zip(names, worst, strict=True):
            values = [(f"{value_text('f1', row['f1']):>{column}}", "value"), (f"{row['support']:>{column},}", "label")]
            rows += _named(name, room, values)
    notes = [safe(note) for note in first.get("notes") or []]
    return rows + [[(part, "label")] for note in notes for part in wrapped(note, width)]


def _named(name: str, room: int, values: Row) -> list[Row]:
    """Make the lines of a name, wrapped, with values beside its last line."""
    *before, last = wrapped(name, room - 1)
    return [*([(part, "label")] for part in before), [(f"{last:<{room}}", "label"), *values]]

"""The differences of runs on their common test rows, as lines of text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deeptune.report.tables import visible
from deeptune.show.chart import Row
from tui.widgets.lines import wrapped

if TYPE_CHECKING:
    from deeptune.report.comparing import Comparison, Pair

NAMES = "ABCDEFGH"
HEAD = ("difference", "95% interval", "p", "p (Holm)")


@dataclass(frozen=True)
class Differences:
    """What is known of the differences: nothing yet, how far their computation is, why there are none, or themselves.

    `ids` are those of the runs, which letters stand for in a reason.
    """

    comparison: Comparison | None = None
    reason: str = ""
    progress: tuple[int, int] | None = None  # pairs of runs done, and in total
    ids: list[str] = field(default_factory=list)

    def rows(self, width: int, minus: str) -> list[Row]:
        """Make a table of each run after the first less the first, in lines of at most `width` cells."""
        if self.progress is not None:
            done, total = self.progress
            return [[], [(f"comparing row by row: {done} of {total} pairs of runs", "busy")]]
        if self.comparison is None:
            if not self.reason:
                return []
            letters = dict(zip(self.ids, NAMES, strict=False))
            ids = "|".join(re.escape(id) for id in sorted(self.ids, key=len, reverse=True))
            reason = re.sub(rf"(?<![\w-])({ids})(?![\w-])", lambda found: letters[found[0]], self.reason)
            return [[], *_lines(f"no differences: {visible(reason)}", width)]
        rows: list[Row] = []
        for pair in self.comparison.pairs:
            if pair.first == 0:
                rows += [[], *_table(pair, minus), *_lines(_flipped(pair, self.comparison.n), width)]
        for note in self.comparison.notes:
            rows += [[], *_lines(note, width)]
        return rows


def _lines(text: str, width: int) -> list[Row]:
    return [[(line, "label")] for line in wrapped(text, width) if line]


def _table(pair: Pair, minus: str) -> list[Row]:
    from deeptune.report.comparing import interval_of, p_text, signed

    lines = [
        (title, signed(name, one.difference), interval_of(name, one), p_text(one.p), p_text(one.p_holm))
        for title, name, one in pair.lines()
    ]
    table = [(f"{NAMES[pair.second]} {minus} {NAMES[pair.first]}", *HEAD), *lines]
    widths = [max(len(line[at]) for line in table) for at in range(len(HEAD) + 1)]
    rows: list[Row] = []
    for at, line in enumerate(table):
        cells = "  ".join(f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        rows.append(
            [(f"{line[0]:<{widths[0]}}  ", "title" if at == 0 else "label"), (cells.replace("−", minus), "value")]
        )
    return rows


def _flipped(pair: Pair, n: int) -> str:
    """Count the rows that one of both has right and the other wrong. Numbers are neither right nor wrong."""
    if not (right := (pair.only_first, pair.only_second)) or not any(right):
        return ""
    first, second = NAMES[pair.first], NAMES[pair.second]
    return f"{sum(right):,} of {n:,} rows flipped: only {first} has {right[0]:,} right, only {second} {right[1]:,}"

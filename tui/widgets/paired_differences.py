"""The differences of runs on common rows, as lines of text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deeptune.formatting import counted, visible
from deeptune.show.chart import Row
from tui.widgets.styled_lines import wrapped

if TYPE_CHECKING:
    from deeptune.report.run_pair import Pair
    from tui.run_comparison import Flipped, ShownComparison

NAMES = "ABCDEFGH"
HEAD = ("difference", "95% interval", "p", "p (Holm)")


@dataclass(frozen=True)
class Differences:
    """The state of the differences: none yet, their progress, the reason why there are none, or themselves.

    `ids` are those of the runs, which letters stand for in a reason.
    """

    compared: ShownComparison | None = None
    reason: str = ""
    progress: tuple[int, int] | None = None  # pairs of runs done, and in total
    ids: list[str] = field(default_factory=list)

    def rows(self, width: int, minus: str, reference: int = 0) -> list[Row]:
        """Make a table of each other run less the one at `reference`, in lines of at most `width` cells."""
        if self.progress is not None:
            done, total = self.progress
            return [[], [(f"comparing row by row: {done} of {total} pairs of runs", "busy")]]
        if self.compared is None:
            if not self.reason:
                return []
            return [[], *_lines(f"no differences: {visible(_lettered(self.reason, self.ids))}", width)]
        found = self.compared
        where = f"{counted(found.n, 'row')} of {found.source}" if found.source else counted(found.n, "test row")
        rows: list[Row] = [[], *([(line, "title")] for line in wrapped(f"on {where}", width))]
        if found.source:
            for place, id in enumerate(found.ids):
                if known := found.learned.get(id):
                    warned = f"! {known:,} of them are in train or val of {NAMES[place]}: its scores here are too good"
                    rows += [[(line, "warn")] for line in wrapped(warned, width, 2)]
        for pair, decision, flipped in found.against(reference):
            rows += [[], *_table(pair, minus), *_lines(_counted(pair, found.n), width)]
            rows += [line for one in flipped for line in _lines(_flipped(pair, one), width)]
            rows += _lines(visible(_lettered(decision, found.ids)).replace("−", minus), width)
        for note in found.notes:
            rows += [[], *_lines(note, width)]
        return rows


def _lettered(text: str, ids: list[str]) -> str:
    """Name runs by their letters."""
    letters = dict(zip(ids, NAMES, strict=False))
    names = "|".join(re.escape(id) for id in sorted(ids, key=len, reverse=True))
    return re.sub(rf"(?<![\w-])({names})(?![\w-])", lambda found: letters[found[0]], text) if names else text


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


def _counted(pair: Pair, n: int) -> str:
    """Count the rows that one of both has right and the other wrong. Numbers are neither right nor wrong."""
    if not (right := (pair.only_first, pair.only_second)) or not any(right):
        return ""
    first, second = NAMES[pair.first], NAMES[pair.second]
    return f"{sum(right):,} of {n:,} rows flipped: only {first} has {right[0]:,} right, only {second} {right[1]:,}"


def _flipped(pair: Pair, one: Flipped) -> str:
    said = f"{NAMES[pair.first]} {one.first}, {NAMES[pair.second]} {one.second}"
    return visible(f"  row {one.row:,}: truth {one.truth}; {said}")

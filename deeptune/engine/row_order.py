"""Puts outputs into the order of the rows, a window at a time, so that a file is never in memory as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from deeptune.data.loading.batch_order import WINDOW
from deeptune.engine.inference import Outputs, Scorer, joined


@dataclass(frozen=True)
class Window:
    """A contiguous slice of a file's rows, with the outputs of those that the model saw.

    `rows` are int64 (n,), ascending; `start` is the place of the first among all rows. `outputs` are in the same order.
    """

    start: int
    rows: np.ndarray
    outputs: Outputs

    @property
    def places(self) -> slice:
        """The places of the rows among all rows."""
        return slice(self.start, self.start + len(self.rows))

    @property
    def seen(self) -> np.ndarray:
        """Which of the rows the model saw, bool (n,)."""
        return np.isin(self.rows, self.outputs.rows, assume_unique=True)


def windows(
    found: Iterable[Outputs], rows: np.ndarray, model: Scorer, *, embed: bool = False, size: int = WINDOW
) -> Iterator[Window]:
    """Yield the outputs of `rows` (int64, ascending) in windows of up to `size` rows. There is at least one window.

    `found` may leave out rows. Its rows may be in any order within each `size` of them, as in a loader that is not
    shuffled. One window is in memory at a time.
    """
    start = 0
    for outputs in _in_order(found, model, size):
        end = int(np.searchsorted(rows, outputs.rows[-1], side="right"))
        yield from _cover(rows, start, end, outputs, size)
        start = end
    yield from _cover(rows, start, max(len(rows), 1), Outputs.nothing(model, embed=embed), size)


def _cover(rows: np.ndarray, start: int, end: int, outputs: Outputs, size: int) -> Iterator[Window]:
    """Yield the rows from place `start` to `end` as one window, or as several if the model saw few of them."""
    for first in range(start, end, size):
        some = rows[first : min(first + size, end)]
        inside = slice(*np.searchsorted(outputs.rows, [some[0], some[-1] + 1])) if len(some) else slice(0)
        yield Window(first, some, outputs.at(inside))


def _in_order(found: Iterable[Outputs], model: Scorer, size: int) -> Iterator[Outputs]:
    """Cut outputs into parts of `size` rows, each sorted by row."""
    waiting: list[Outputs] = []
    count = 0
    for outputs in found:
        while count + len(outputs) >= size:
            waiting.append(outputs.at(slice(size - count)))
            outputs = outputs.at(slice(size - count, None))
            yield _sorted(waiting, model)
            count = 0
        if len(outputs):
            waiting.append(outputs)
            count += len(outputs)
    if waiting:
        yield _sorted(waiting, model)


def _sorted(waiting: list[Outputs], model: Scorer) -> Outputs:
    """Join the parts, sort them by row, and release them."""
    outputs = joined(waiting, model)
    waiting.clear()
    if (np.diff(outputs.rows) > 0).all():
        return outputs
    return outputs.at(np.argsort(outputs.rows))

"""Passing the input columns in pieces, and what is found when their samples are checked."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from deeptune.data.cache.sample_hashes import HASH
from deeptune.data.images.bit_depth import Range
from deeptune.data.images.decode import deep_reason
from deeptune.data.images.decoding_threads import MAX_THREADS
from deeptune.data.modalities.base import Modality, Piece
from deeptune.data.sources.source import Source
from deeptune.errors import DataError
from deeptune.spec.modalities import Input, columns_of, input_words

AT_ONCE = 64  # rows that are decoded between two reports of progress


@dataclass(frozen=True)
class BadSample:
    """A row that cannot be used as it is, and why. `split` is None while no split is known."""

    split: str | None
    row: int
    reason: str


def stream_input(
    source: Source,
    input: Input,
    modality: Modality,
    threads: ThreadPoolExecutor,
    *,
    start: int = 0,
    rows: int = AT_ONCE,
) -> Iterator[tuple[int, Piece]]:
    """Yield the input columns in pieces, as `Source.stream_table` gives them; the threads read files that they name."""
    columns = columns_of(input)
    names_files = source.named is not None
    for first, batch in source.stream_table(columns, start=start, rows=min(rows, MAX_THREADS) if names_files else rows):
        yield first, modality.piece(source, dict(zip(columns, batch.columns, strict=True)), first, threads)
    if source.named is not None:
        source.named.require_unchanged()


@dataclass
class CheckedSamples:
    """The result of checking the rows of a source.

    By row, `reasons` say why some can't be used, and `deep` is the least and greatest value of images of more than
    8 bits for which no range was known. `clipped` are rows with values outside of the range. `hashes` (uint64) are
    those of all samples (`data/cache/sample_hashes.py`).
    """

    reasons: dict[int, str] = field(default_factory=dict)
    deep: dict[int, Range] = field(default_factory=dict)
    clipped: list[int] = field(default_factory=list)
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, HASH))

    def bad(self, rows: np.ndarray, *, deep: bool = True) -> list[BadSample]:
        """List the rows that can't be used, in the order given; without `deep`, as if a range were known."""
        if deep and self.deep:
            reasons = {**self.reasons, **{row: deep_reason(extremes) for row, extremes in self.deep.items()}}
        else:
            reasons = self.reasons
        return [BadSample(None, row, reasons[row]) for row in rows.tolist() if row in reasons]


@contextmanager
def fitting(source: Source, input: Input) -> Iterator[None]:
    """Blame the data for samples that are too large for memory."""
    try:
        yield
    except MemoryError as error:
        raise DataError(
            f"{source.key}: the samples of {input_words(input)} do not fit in memory: {error}",
            hint="Shorten them, or split the file.",
        ) from error

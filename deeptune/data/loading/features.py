"""Features of rows of a source: what a frozen backbone, or its frozen blocks, give, as records of the cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deeptune.data.cache.records import Records


class JoinedFeatures:
    """Vectors of several backbones for the same rows of a source, side by side."""

    def __init__(self, parts: Sequence[Features]) -> None:
        self.parts = parts

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Copy the vectors of rows of the source, float32 (n, width), where width is the sum of the parts' widths."""
        return np.concatenate([part.take(rows) for part in self.parts], axis=1)


class Features:
    """Vectors of `width` float32 values for some rows of a source: one for each row, or one for each of its tokens.

    `rows` (int64, ascending) index the source; record i of `records` belongs to `rows[i]`.
    """

    def __init__(self, records: Records, rows: np.ndarray, width: int) -> None:
        self.records, self.rows, self.width = records, rows, width
        self._all = len(rows) > 0 and int(rows[-1]) == len(rows) - 1  # row i of the source is record i

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Return the records of rows of the source."""
        return rows if self._all else np.searchsorted(self.rows, rows)

    def done(self, rows: np.ndarray) -> np.ndarray:
        """Find which rows of the source are there, bool (n,)."""
        return self.records.done[self.places(rows)]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Copy the vectors of rows of the source, float32 (n, width), or as many as these rows have."""
        return self.at(self.places(rows))

    def at(self, places: np.ndarray) -> np.ndarray:
        """Copy the vectors of records, float32 (n, width), or as many as these have."""
        return self.records.take(places).view(np.float32).reshape(-1, self.width)

    def put(self, rows: np.ndarray, vectors: np.ndarray, lengths: np.ndarray | None = None) -> None:
        """Write the vectors (n, width) of rows of the source; `lengths` (int64) if not each row has one.

        Rows that are there already stay as they are. Raises CacheRefused or TooLarge.
        """
        lengths = np.ones(len(rows), np.int64) if lengths is None else lengths
        new = ~self.done(rows)
        if not new.all():
            vectors = vectors[np.repeat(new, lengths)]
        size = self.width * np.dtype(np.float32).itemsize
        self.records.put(self.places(rows[new]), vectors.astype(np.float32, copy=False), lengths[new] * size)

"""The rows of one split, with their targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deeptune.data.sources.source import Source


@dataclass(frozen=True)
class SplitData:
    """The rows of one split.

    `rows` (int64, ascending) are indices in `source`. `targets` are int64 class indices or float64 numbers in their own
    unit, one per row.

    `hashes` (uint64) are those of the samples, 0 for none, and `groups` (int64) codes of what stays in one split.
    """

    source: Source
    rows: np.ndarray
    targets: np.ndarray
    hashes: np.ndarray | None = None
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def target_of(self, row: int) -> float:
        """Return the target of one of the rows."""
        return float(self.targets[np.searchsorted(self.rows, row)])

"""A source while its rows are assigned to splits: the rows still in use, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from deeptune.data.modalities.checked_samples import BadSample
from deeptune.data.sources.source import Source
from deeptune.data.splits.class_names import LabelColumn
from deeptune.data.splits.split_data import SplitData
from deeptune.errors import listed


@dataclass
class Part:
    """One source while the plan is made: the rows still in use (ascending), and what is known of each."""

    split: str | None  # None: the only source, from which all splits are drawn
    source: Source
    rows: np.ndarray
    targets: np.ndarray
    labels: LabelColumn = field(init=False)
    groups: np.ndarray | None = None
    hashes: np.ndarray | None = None
    bad: list[BadSample] = field(default_factory=list)

    def keep(self, mask: np.ndarray) -> None:
        self.rows, self.targets = self.rows[mask], self.targets[mask]
        self.groups = None if self.groups is None else self.groups[mask]

    def take_hashes(self, hashes: np.ndarray) -> None:
        """Keep the hashes of the rows in use, from those of the source. An empty stand-in for a sample has none."""
        bad = np.array([sample.row for sample in self.bad], np.int64)
        self.hashes = np.where(np.isin(self.rows, bad), 0, hashes[self.rows])

    def data(self, mask: np.ndarray | slice = slice(None)) -> SplitData:
        """Make a split of some of the rows."""
        hashes, groups = (None if one is None else one[mask] for one in (self.hashes, self.groups))
        return SplitData(self.source, self.rows[mask], self.targets[mask], hashes, groups)

    def place(self, key: str) -> str:
        """Return `data.label`, or `data.test, data.label` where the splits are files of their own."""
        return key if self.source.key == "data.path" else f"{self.source.key}, {key}"

    def wheres(self, rows: np.ndarray) -> str:
        return listed(self.source.where(int(row)) for row in rows)

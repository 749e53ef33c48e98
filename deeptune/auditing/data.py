"""The data that an audit looks at: rows of all files in one order, with their splits, labels and measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow.compute as pc

from deeptune.arrow import keys_of, shown
from deeptune.auditing.findings import ColumnFacts, Finding, Severity
from deeptune.auditing.labels import Labels
from deeptune.auditing.measures import Measures
from deeptune.data.sources.source import Source
from deeptune.errors import listed
from deeptune.spec.modalities import Input, columns_of

SEED = 0


class Lengths(Protocol):
    """Counts the tokens of each text (int64 (N,)), before they are cut."""

    def __call__(self, texts: Sequence[str]) -> np.ndarray: ...


@dataclass(frozen=True)
class Tokens:
    """A backbone's tokenizer, which cuts texts at `most` tokens. `lengths` counts them; None without a tokenizer."""

    most: int
    backbone: str | None = None
    lengths: Lengths | None = None


@dataclass
class AuditData:
    """All that the checks read.

    Rows are numbered through the sources: `part` says of which source each row is, `row` which row of that source it
    is. `split` is the place in `split_names` of each row's split, -1 for none. `features` are those of a backbone
    (float32 (N, width), NaN in rows without), or None.
    """

    sources: list[Source]
    modality: str
    input: Input
    task: str
    label: Input | None
    group: str | None
    columns: list[ColumnFacts]
    labels: Labels | None
    measures: Measures
    split: np.ndarray
    split_names: list[str]
    split_column: str | None = None
    features: np.ndarray | None = None
    tokens: Tokens | None = None
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.row)

    @cached_property
    def part(self) -> np.ndarray:
        """The place of each row's source in `sources` (int64 (N,))."""
        return np.repeat(np.arange(len(self.sources)), [source.num_rows for source in self.sources])

    @cached_property
    def row(self) -> np.ndarray:
        """The index of each row in its source (int64 (N,))."""
        return np.concatenate([np.arange(source.num_rows) for source in self.sources])

    @cached_property
    def usable(self) -> np.ndarray:
        """Which rows have a sample (bool (N,))."""
        return self.measures.usable

    def where(self, at: int) -> str:
        """Give a row in words."""
        text = self.sources[int(self.part[at])].where(int(self.row[at]))
        return f"{self.split_names[self.split[at]]} {text}" if self.split[at] >= 0 else text

    def wheres(self, rows: np.ndarray, most: int = 5) -> str:
        """List rows in words."""
        places = [self.where(int(at)) for at in rows[:most]]
        return listed([*places, *[""] * (len(rows) - len(places))], most=most)

    def finding(self, kind: str, severity: Severity, rows: np.ndarray, message: str, fix: str) -> Finding:
        """Make a finding about rows (int64, places in this data)."""
        splits = tuple(self.split_names[at] if at >= 0 else "" for at in self.split[rows]) if self.split_names else None
        return Finding(kind, severity, message, fix, tuple(self.row[rows].tolist()), splits)

    def values(self, column: str) -> np.ndarray | None:
        """Give the values of a column as codes (int64 (N,), -1 for null), the same in all sources.

        None for values that can't be compared.
        """
        return self._codes(column)[0]

    def value_text(self, column: str, code: int) -> str:
        """Give a value of a column, by its code, as text."""
        return self._codes(column)[1][code]

    def _codes(self, column: str) -> tuple[np.ndarray | None, list[str]]:
        if column not in self._known_codes:
            texts: dict[str, int] = {}
            parts = []
            for source in self.sources:
                keys = keys_of(source.column(column))
                if keys is None:
                    self._known_codes[column] = None, []
                    return None, []
                found = pc.dictionary_encode(keys).combine_chunks()
                own = np.array([texts.setdefault(shown(one), len(texts)) for one in found.dictionary], np.int64)
                codes = pc.fill_null(found.indices, -1).to_numpy(zero_copy_only=False)
                parts.append(np.append(own, -1)[codes] if len(own) else np.full(len(codes), -1, np.int64))
            self._known_codes[column] = np.concatenate(parts), list(texts)
        return self._known_codes[column]

    @cached_property
    def _known_codes(self) -> dict[str, tuple[np.ndarray | None, list[str]]]:
        return {}

    @property
    def used_columns(self) -> set[str]:
        """The columns of input, label, group and split."""
        used = [*columns_of(self.input), *columns_of(self.label or []), self.group, self.split_column]
        return {name for name in used if name is not None}

    def rng(self) -> np.random.Generator:
        """Make a generator that draws the same each time."""
        return np.random.default_rng(SEED)

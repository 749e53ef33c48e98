"""A split that the data brings: a column that says train, val or test of each row."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from deeptune.arrow import bare, bare_values, is_text, text_of
from deeptune.data.sources.source import Source
from deeptune.data.splits.split_part import Part
from deeptune.data.splits.stratify import TRAIN, VAL
from deeptune.errors import DataError, listed
from deeptune.formatting import counted
from deeptune.spec.modalities import columns_of
from deeptune.spec.run_spec import SPLITS, RunSpec
from deeptune.spec.values import split_named

LEFT_OUT = -1  # code of a row whose split is null


@dataclass(frozen=True)
class GivenSplit:
    """The column of a split, and the code of each row of its source (int8): 0 train, 1 val, 2 test, -1 for none."""

    column: str
    codes: np.ndarray
    val_in_train: bool = False

    def with_val_in_train(self) -> GivenSplit:
        """Return the split whose rows of val are rows of train."""
        return GivenSplit(self.column, np.where(self.codes == VAL, TRAIN, self.codes), val_in_train=True)

    def notes(self) -> list[str]:
        """Return notes on the split for a person."""
        counts = {split: int((self.codes == code).sum()) for code, split in enumerate(SPLITS)}
        there = ", ".join(f"{split} {count:,}" for split, count in counts.items() if count)
        texts = [f"the splits are those of column {self.column!r}: {there} rows"]
        drawn = [split for split, count in counts.items() if not count and not (split == "val" and self.val_in_train)]
        if self.val_in_train:
            texts[0] += ", those of val among train (train.val = 'cv')"
        if drawn:
            texts.append(f"no row of column {self.column!r} says {' or '.join(drawn)}: drawn from train")
        if null := int((self.codes == LEFT_OUT).sum()):
            rows = counted(null, "row is", "rows are")
            texts.append(f"{rows} left out, as column {self.column!r} is null there")
        return texts

    def parts(self, part: Part) -> dict[str, Part]:
        """Return the rows of a source as a part for each split that the column names."""
        here = self.codes[part.rows]
        found: dict[str, Part] = {}
        for code, split in enumerate(SPLITS):
            if not (here == code).any():
                continue
            own = Part(split, part.source, part.rows, part.targets)
            own.labels, own.groups = part.labels, part.groups
            own.keep(here == code)
            own.bad = [sample for sample in part.bad if self.codes[sample.row] == code]
            found[split] = own
        if "train" not in found:
            raise DataError(
                f"data.split_column: no labelled row of column {self.column!r} says train",
                hint='There is nothing to learn from. data.split_column = "none" draws the splits.',
            )
        return found

    def crossing(self, parts: dict[str, Part], group: str) -> list[str]:
        """Return a warning where rows of one group are in two splits."""
        groups = {split: np.unique(part.groups) for split, part in parts.items() if part.groups is not None}
        texts = []
        for split in list(groups)[1:]:
            both = np.intersect1d(groups[split], groups["train"])
            if len(both):
                rows = int(np.isin(np.asarray(parts[split].groups), both).sum())
                texts.append(
                    f"{len(both):,} of {len(groups[split]):,} groups of {split} (column {group!r}) are in train too, "
                    f"with {rows:,} of its {len(parts[split].rows):,} rows: the score on {split} is optimistic"
                )
        return texts


def given_split(spec: RunSpec, source: Source) -> GivenSplit | None:
    """Return the split of a source by `data.split_column`, or None where splits are drawn.

    Raises DataError for a column that is not there, and for values that name no split.
    """
    column = spec.data.split_column
    if column == "auto":
        column = imported_split(source)
    if column in (None, "none") or spec.data.path is None:
        return None
    source.require(column, key="data.split_column")
    given = GivenSplit(column, _codes(source, column))
    return given.with_val_in_train() if spec.train.val == "cv" else given


def imported_split(source: Source) -> str:
    """Return the column of the split that an import kept, as the metadata of its file say, or `none`.

    Raises DataError where only some of the files have it: rows of test would be drawn into train.
    """
    try:
        column = json.loads((source.schema.metadata or {})[b"deeptune"])["roles"]["split"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return "none"
    if column in source.refused:
        source.require(column)
    return column if column in source.column_names else "none"


def unread_splits(spec: RunSpec, source: Source) -> list[str]:
    """Warn of a column that is named after splits and names them, where `data.split_column` is left to be found."""
    if spec.data.split_column != "auto" or spec.data.path is None:
        return []
    texts = []
    used = {*columns_of(spec.data.label), spec.data.group}
    for name in source.column_names:
        if name in used or "split" not in name.lower() or source.column_names.count(name) > 1:
            continue
        try:
            codes = _codes(source, name)
        except DataError:  # of other values, or of another type
            continue
        if TRAIN in codes and (codes > TRAIN).any():
            texts.append(
                f"column {name!r} says train, val or test, and is not read: the splits are drawn anew. "
                f'data.split_column = "{name}" takes them from it; "none" draws them and is silent'
            )
    return texts


def _codes(source: Source, column: str) -> np.ndarray:
    values = text_of(bare_values(source.column(column)))
    names = source.label_names(column) if source.is_class_label(column) else None
    if not is_text(bare(values.type)) and names is None:
        raise DataError(
            f"data.split_column: column {column!r} of {source.describe()} holds {values.type}, and words were expected",
            hint="Write train, val or test into each row.",
        )
    encoded = values.combine_chunks().dictionary_encode() if isinstance(values, pa.ChunkedArray) else values
    encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    words = [names[value] if names else str(value) for value in encoded.dictionary.to_pylist()]
    splits = [split_named(word) for word in words]
    codes = np.array([LEFT_OUT if split is None else SPLITS.index(split) for split in splits] + [LEFT_OUT], np.int8)
    places = encoded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    unknown = Counter(words[place] for place in places.tolist() if place < len(words) and splits[place] is None)
    if unknown:
        counted = (f"{word!r} ({count:,} {'row' if count == 1 else 'rows'})" for word, count in unknown.most_common())
        raise DataError(
            f"data.split_column: column {column!r} of {source.describe()} has values that name no split: "
            f"{listed(counted)}",
            hint="Each row says train, or val, valid, validation or dev, or test; null leaves a row out.",
        )
    return codes[places]

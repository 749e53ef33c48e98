"""Everything that is decided about the data before training starts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from deeptune.arrow import as_type, shared
from deeptune.data.images.bit_depth import Range
from deeptune.data.modalities.checked_samples import BadSample
from deeptune.data.sources.source import Source
from deeptune.data.splits.class_names import LabelColumn, column_text, relabelling
from deeptune.data.splits.data_warnings import twin_rows
from deeptune.data.splits.split_data import SplitData
from deeptune.data.splits.split_files import sources_fingerprint
from deeptune.errors import DataError, listed
from deeptune.spec.modalities import Input, columns_of
from deeptune.spec.run_spec import SPLITS
from deeptune.tasks import Relabel, Task
from deeptune.tasks.label_columns import LabelTypeError


@dataclass(frozen=True)
class DataPlan:
    """The data of a run: its splits, task and input. A split may be empty, but train never is.

    `blank` holds (split, row) of samples to be replaced by an empty one; `bad_samples` lists them and the skipped.
    `value_range` is that of images of more than 8 bits, None where no training row has such. `split_notes` say, by
    split, what val and test are too small to decide. `outliers` are the rows, by split, whose number is far from the
    others. `duplicate_sets` are codes of equal samples, by split, or empty where no sample is there twice. `learned`
    are the splits that the scored model learned from; val is scored by one that did not learn from it. `drawn` are the
    splits that were drawn at random from the training rows.
    """

    task: Task
    modality: str
    input: Input
    label: Input
    group: str | None
    splits: dict[str, SplitData]
    bad_samples: list[BadSample] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    blank: frozenset[tuple[str, int]] = frozenset()
    value_range: Range | None = None
    notes: list[str] = field(default_factory=list)
    split_notes: dict[str, list[str]] = field(default_factory=dict)
    outliers: dict[str, np.ndarray] = field(default_factory=dict)
    duplicate_sets: dict[str, np.ndarray] = field(default_factory=dict)
    learned: tuple[str, ...] = ("train",)
    drawn: tuple[str, ...] = ()
    split_column: str | None = None  # the column that the splits come from, where the data brings them

    @property
    def all_notes(self) -> list[str]:
        """`notes`, then `split_notes` of all splits."""
        return [*self.notes, *(note for notes in self.split_notes.values() for note in notes)]

    @property
    def outputs(self) -> int:
        """How many numbers the head gives for each sample."""
        return self.task.outputs

    @property
    def fingerprint(self) -> str:
        """`sources_fingerprint` of the splits' sources."""
        return sources_fingerprint({split: data.source for split, data in self.splits.items()})

    def blank_rows(self, split: str) -> frozenset[int]:
        return frozenset(row for where, row in self.blank if where == split)

    def errors(self, split: str) -> dict[int, str]:
        """Say, by row, why rows of a split can't be used.

        They were replaced by an empty sample, or left out of a file that is this split alone. What is left out of a
        file before splits are drawn from it belongs to none of them.
        """
        data = self.splits[split]
        shared = any(len(other) and other.source is data.source for name, other in self.splits.items() if name != split)
        return {
            bad.row: bad.reason
            for bad in self.bad_samples
            if bad.split == split and not (shared and (split, bad.row) not in self.blank)
        }

    def all_rows(self, split: str) -> np.ndarray:
        """Return the rows of a split and those in `errors` that are left out of it (int64, ascending)."""
        return np.union1d(self.splits[split].rows, np.array(list(self.errors(split)), np.int64))

    def truth(self, split: str) -> np.ndarray:
        """Return the targets of `all_rows`, as `Task.find` gives them: a row that was left out may have no label."""
        column = self._labels(split)
        return self.task.find(column.values.take(pa.array(self.all_rows(split))), label_names=column.names)

    def doubtful(self, split: str) -> dict[str, np.ndarray]:
        """Return rows (int64) of a split by why a score without them is worth a look.

        A reason without rows is not there.
        """
        found = {
            "duplicates": twin_rows(self.splits, self.duplicate_sets, split, self.learned),
            "outliers": self.outliers.get(split, np.zeros(0, np.int64)),
        }
        return {reason: rows for reason, rows in found.items() if len(rows)}

    def relabelling(self, split: str) -> Relabel | None:
        """Find what gives labels in a split's file the values of this plan's classes, where they are others."""
        return relabelling(self._labels(split), self.task)

    def _labels(self, split: str) -> LabelColumn:
        return LabelColumn.read(self.splits[split].source, self.label, task=self.task.info.name)

    def splits_table(self) -> pa.Table:
        """Make the table of all rows and their splits.

        Its columns are row, split and label (the class's own value or the number), then group, file and duplicate_set
        (a number that identical samples share, null for others) where there are such.

        `row` is the index in the split's own source; `file` is there when the rows come from several files.
        """
        several = len({file for data in self.splits.values() for file in data.source.files}) > 1
        parts = []
        for split in SPLITS:
            data = self.splits[split]
            if len(data) == 0:
                continue
            columns: dict[str, pa.Array | pa.ChunkedArray] = {
                "row": pa.array(data.rows, pa.int64()),
                "split": pa.array([split] * len(data), pa.string()),
                "label": self.task.decode(data.targets),
            }
            if self.group is not None:
                columns["group"] = as_type(data.source.take(self.group, data.rows), self._group_type())
            if several:
                columns["file"] = pa.array(data.source.file_of(data.rows), pa.string())
            if self.duplicate_sets:
                columns["duplicate_set"] = pa.array(self.duplicate_sets[split], mask=self.duplicate_sets[split] == 0)
            parts.append(pa.table(columns))
        return pa.concat_tables(parts).combine_chunks()

    def _group_type(self) -> pa.DataType:
        """Return the type of the groups of all splits together."""
        assert self.group is not None
        kind = shared([data.source.types[self.group] for data in self.splits.values()])
        assert kind is not None  # or there would be no plan
        return kind


def read_targets(source: Source, label: Input, task: Task) -> np.ndarray:
    """Read the targets of all rows of a source in the terms of `task`, as for an evaluation.

    Classes are compared by name where the file names them. Raises DataError for a missing column or label, a type that
    does not fit, or an unknown class.
    """
    for name in columns_of(label):
        source.require(name, key="data.label")
    try:
        column = LabelColumn.read(source, label, task=task.info.name)
        return task.encode(column.values, label_names=column.names, name=column_text(label), place=source.label_key)
    except LabelTypeError as error:
        classes = f" with the classes {listed(task.class_names)}" if task.class_names else ""
        raise DataError(
            error.message,
            hint=f"The run was trained for {task.info.name}{classes}: give it a file whose column holds such labels.",
        ) from None

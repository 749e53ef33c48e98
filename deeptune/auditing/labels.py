"""The labels of all audited rows, as classes, numbers or flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from deeptune.arrow import is_lists, shown
from deeptune.data.sources.source import Source
from deeptune.data.splits.class_names import LabelColumn
from deeptune.spec.modalities import Input
from deeptune.spec.tasks import TASKS
from deeptune.tasks import task_class
from deeptune.tasks.label_columns import missing

MANY_CLASSES = 1_000  # classes up to which checks compare labels as classes


@dataclass(frozen=True)
class Question:
    """One thing to predict: a class index (int64 (N,), -1 for missing), or a number (float64 (N,), NaN for missing)."""

    name: str
    values: np.ndarray
    classes: tuple[str, ...] = ()

    @property
    def known(self) -> np.ndarray:
        """Which rows have a value (bool (N,))."""
        return self.values >= 0 if self.classes else np.isfinite(self.values)


@dataclass(frozen=True)
class Labels:
    """The labels of all rows. `missing` (bool (N,)) are those that say nothing.

    `codes` (int64 (N,), -1 for missing) are equal where rows have the same class, or the same set of labels; numbers
    have none. `classes` are class names in the order of their codes. `questions` are all that there is to predict, but
    for more than MANY_CLASSES classes.
    """

    task: str
    missing: np.ndarray
    classes: tuple[str, ...] = ()
    codes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    words: bool = False  # whether the labels are strings
    questions: tuple[Question, ...] = ()

    @property
    def of_flags(self) -> bool:
        """Whether a row has any number of labels, each a question of yes or no."""
        return TASKS[self.task].view == "labels"

    def text(self, row: int) -> str:
        """Give the label of a row as a person reads it."""
        if self.missing[row]:
            return "no label"
        if self.classes:
            return self.classes[self.codes[row]]
        if self.of_flags:
            return ", ".join(one.name for one in self.questions if one.values[row] == 1) or "none"
        return ", ".join(f"{one.values[row]:g}" for one in self.questions)


def read_labels(sources: Sequence[Source], label: Input, task: str) -> Labels:
    """Read the label columns of sources, one after the other. Raises DataError as `LabelColumn.read` does."""
    columns = [LabelColumn.read(source, label, task=task) for source in sources]
    absent = np.concatenate([missing(column.values) for column in columns])
    lists = [is_lists(column.values.type) for column in columns]
    if TASKS[task].view == "numbers":
        return Labels(task, absent, questions=_numbers(columns, label, any(lists)))
    if any(lists):
        rows = [frozenset(map(str, row or [])) for column in columns for row in column.values.to_pylist()]
        sets = {one: code for code, one in enumerate(dict.fromkeys(rows))}
        codes = np.where(absent, -1, [sets[row] for row in rows]).astype(np.int64)
        return Labels(task, absent, codes=codes, questions=_flags(rows, absent))
    names = [name for column in columns for name in _names(column)]
    known = [name for name, none in zip(names, absent, strict=True) if not none]
    classes = tuple(sorted(set(known), key=_natural))
    place = {name: code for code, name in enumerate(classes)}
    codes = np.array([-1 if none else place[name] for name, none in zip(names, absent, strict=True)], np.int64)
    words = any(column.names is not None or pa.types.is_string(column.values.type) for column in columns)
    asked = (Question(_title(label), codes, classes),) if 2 <= len(classes) <= MANY_CLASSES else ()
    return Labels(task, absent, classes, codes, words, asked)


def check_labels(sources: Sequence[Source], label: Input, task: str) -> None:
    """Raise DataError where a label column can't be the label of a task."""
    for source in sources:
        if isinstance(label, str):
            task_class(task).check_type(source.column(label), name=label)


def _title(label: Input) -> str:
    return label if isinstance(label, str) else ", ".join(label)


def _names(column: LabelColumn) -> list[str]:
    if column.names is not None:
        return ["" if value is None else column.names[value] for value in column.values.to_pylist()]
    return [shown(value) for value in column.values]


def _natural(name: str) -> tuple[int, float, str]:
    """Sort numbers by their value, before words."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def _numbers(columns: Sequence[LabelColumn], label: Input, lists: bool) -> tuple[Question, ...]:
    if not lists:
        values = [_floats(column.values) for column in columns]
        return (Question(_title(label), np.concatenate(values)),)
    rows = [row or [] for column in columns for row in column.values.to_pylist()]
    width = max(map(len, rows), default=0)
    table = np.full((len(rows), width), np.nan)
    for at, row in enumerate(rows):
        table[at, : len(row)] = [np.nan if value is None else float(value) for value in row]
    names = label if isinstance(label, list) else [f"{label}[{at}]" for at in range(width)]
    return tuple(Question(name, table[:, at]) for at, name in enumerate(names[:width]))


def _floats(values: pa.ChunkedArray) -> np.ndarray:
    try:
        return values.cast(pa.float64()).to_numpy().astype(np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return np.full(len(values), np.nan)


def _flags(rows: Sequence[frozenset[str]], absent: np.ndarray) -> tuple[Question, ...]:
    """Return one question for each label of lists: whether a row has it."""
    names = sorted(set().union(*rows), key=_natural)[:MANY_CLASSES]
    flags = {name: np.array([name in row for row in rows], np.int64) for name in names}
    return tuple(Question(name, np.where(absent, -1, one), ("no", "yes")) for name, one in flags.items())

"""The label column of a file with the names that the file gives its classes: a label means its name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.arrow import is_lists
from deeptune.data.sources.source import Source
from deeptune.errors import DataError, listed
from deeptune.spec.modalities import Input
from deeptune.spec.tasks import TASKS
from deeptune.tasks import Relabel, Task, task_class
from deeptune.tasks.label_columns import list_parts, plain, whole_numbers, without_minus_one


@dataclass(frozen=True)
class LabelColumn:
    """The labels of all rows of a file, as `tasks/label_columns.py` makes them plain; null for a `ClassLabel`'s -1.

    `names[v]` is the name of the class v, where the file names the classes of a column of integers. `unused` says why
    the names in a file's metadata are not those of this column, or is None. `missing` says which labels say nothing.
    """

    values: pa.ChunkedArray
    names: tuple[str, ...] | None = None
    unused: str | None = None
    missing: str = "null, NaN, infinite or empty"
    columns: tuple[str, ...] | None = None

    @classmethod
    def read(cls, source: Source, name: Input, *, task: str) -> LabelColumn:
        """Read the label column of a source.

        Raises DataError as `Source.column` does and, for classes, where files disagree on their names or where a
        `ClassLabel` has a class without a name.
        """
        if isinstance(name, list):
            found = {one: plain(source.column(one)) for one in name}
            return cls(task_class(task).gather(found, place=source.key), columns=tuple(name))
        values = plain(source.column(name))
        if TASKS[task].ordered:
            values = whole_numbers(values)
        if is_lists(values.type) and pt.is_integer(values.type.value_type) and source.is_class_label(name):
            return cls(_named_lists(values, source.label_names(name) or [], f"{source.key}: column {name!r}"))
        if not pt.is_integer(values.type):
            return cls(values)
        class_label = source.is_class_label(name)
        missing = "null, or -1 in a ClassLabel column" if class_label else cls.missing
        if class_label:
            values = without_minus_one(values)
        names = source.label_names(name) if TASKS[task].named_classes else None
        if names is None:
            return cls(values, missing=missing)
        nameless = sorted(set(values.unique().drop_null().to_pylist()) - set(range(len(names))))
        if not nameless:
            return cls(values, tuple(names), missing=missing)
        says = f"the metadata of {source.describe()} names the classes 0 to {len(names) - 1}, and column {name!r} holds"
        if class_label:
            raise DataError(
                f"{source.key}: {says} {listed(nameless)}", hint="Name these classes too, or leave their rows out."
            )
        return cls(values, unused=f"{says} {listed(nameless)}: the names are not used")


def _named_lists(column: pa.ChunkedArray, names: list[str], place: str) -> pa.ChunkedArray:
    """Return lists of the names of classes, from lists of their numbers.

    Raises DataError for a number without a name.
    """
    rows, numbers = list_parts(column)
    nameless = pc.invert(pc.is_in(numbers, pa.array(range(len(names)), numbers.type)))
    if pc.any(nameless).as_py():
        row = int(rows[pc.index(nameless, True).as_py()])
        value = numbers.filter(nameless)[0].as_py()
        raise DataError(
            f"{place} names the classes 0 to {len(names) - 1}, and holds {value} in row {row:,}",
            hint="Name this class too, or leave it out of the lists.",
        )
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(column)))]).astype(np.int32)
    words = pa.array(names, pa.string()).take(numbers)
    mask = pa.array(pc.is_null(column).to_numpy())
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(offsets), words, mask=mask)])


def column_text(name: Input) -> str:
    """Return the label column, or all of several, in a message."""
    return name if isinstance(name, str) else ", ".join(name)


def relabelling(column: LabelColumn, task: Task) -> Relabel | None:
    """Return `Task.relabelling` of the labels of a file; of several columns the function that gathers them."""
    if (columns := column.columns) is not None:
        return lambda table: task.gather({name: plain(table[name]) for name in columns}, place="data.label")
    return task.relabelling(column.values, column.names)


def known_relabelling(column: LabelColumn, task: Task, *, name: Input, place: str) -> Relabel | None:
    """Find the same as `relabelling`, and raise DataError for a class that would become null.

    The run does not know such a class, and its number, or that of another class of the file, is another class of the
    run.
    """
    relabel = relabelling(column, task)
    if column.columns is None and relabel is not None and relabel(column.values).null_count > column.values.null_count:
        task.encode(column.values.drop_null(), label_names=column.names, name=column_text(name), place=place)
    return relabel


def naming_warnings(columns: dict[str, LabelColumn], task: Task, name: str) -> list[str]:
    """Warn of class names that are not used, and of files that number their classes differently.

    `columns` are the label columns of the splits' files.
    """
    texts = list(dict.fromkeys(column.unused for column in columns.values() if column.unused))
    others = [split for split, one in columns.items() if one.columns is None and relabelling(one, task)]
    return texts + [
        f"{split} numbers the classes of column {name!r} differently from train: they are matched by their class names"
        for split in others
    ]

"""The label column of a file with the names that the file gives its classes: a label means its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.data.labels import ClassLabels, Labels, plain
from deeptune.data.source import Source
from deeptune.errors import DataError, listed

Relabel = Callable[[pa.ChunkedArray], pa.Array | pa.ChunkedArray]


@dataclass(frozen=True)
class LabelColumn:
    """The labels of all rows of a file, as `labels.plain` gives them, and null for the -1 of a `ClassLabel`.

    `names[v]` is the name of the class v, where the file names the classes of a column of integers. `unused` says why
    the names in a file's metadata are not those of this column, or is None. `missing` says which labels say nothing.
    """

    values: pa.ChunkedArray
    names: tuple[str, ...] | None = None
    unused: str | None = None
    missing: str = "null, NaN, infinite or empty"

    @classmethod
    def read(cls, source: Source, name: str, *, task: str) -> LabelColumn:
        """Raises DataError as `Source.column` does and, for classes, where files disagree on their names or where a
        `ClassLabel` has a class without a name."""
        values = plain(source.column(name))
        if not pt.is_integer(values.type):
            return cls(values)
        class_label = source.is_class_label(name)
        missing = "null, or -1 in a ClassLabel column" if class_label else cls.missing
        if class_label:
            values = without_minus_one(values)
        names = source.label_names(name) if task == "classification" else None
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


def without_minus_one(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Hugging Face writes a missing `ClassLabel` as -1."""
    return pc.if_else(pc.equal(values, -1), pa.scalar(None, values.type), values)


def relabelling(column: LabelColumn, labels: Labels) -> Relabel | None:
    """A function that gives labels of a file the values of the run's classes with the same names, or None where the
    file's own values mean the same already. A class that the run does not know becomes null, or keeps its name where
    the run's values are names.
    """
    if not isinstance(labels, ClassLabels) or column.names is None:
        return None
    if pt.is_string(labels.arrow_type):
        names = pa.array(column.names)
        return lambda values: names.take(without_minus_one(plain(values)).combine_chunks())
    if labels.names is None:
        return None

    def relabel(values: pa.ChunkedArray) -> pa.ChunkedArray:
        return labels.decode_all(labels.find(without_minus_one(plain(values)), label_names=column.names))

    present = column.values.unique().drop_null()
    own = zip(present.to_pylist(), relabel(pa.chunked_array([present])).to_pylist(), strict=True)
    same = all(new == old or (new is None and old not in labels.values) for old, new in own)
    return None if same else relabel


def known_relabelling(column: LabelColumn, labels: Labels, *, name: str, place: str) -> Relabel | None:
    """`relabelling`. Raises DataError for a class that would become null: the run does not know it, and its number, or
    that of another class of the file, is another class of the run."""
    relabel = relabelling(column, labels)
    if relabel is not None and relabel(column.values).null_count > column.values.null_count:
        assert isinstance(labels, ClassLabels)
        labels.encode(column.values.drop_null(), label_names=column.names, name=name, place=place)
    return relabel


def naming_warnings(columns: dict[str, LabelColumn], labels: Labels, name: str) -> list[str]:
    """What is to be said of class names: those that are not used, and files that number their classes differently.

    `columns` are the label columns of the splits' files.
    """
    texts = list(dict.fromkeys(column.unused for column in columns.values() if column.unused))
    others = [split for split, column in columns.items() if relabelling(column, labels) is not None]
    return texts + [
        f"{split} numbers the classes of column {name!r} differently from train: they are matched by their class names"
        for split in others
    ]

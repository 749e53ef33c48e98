"""The audit of a run's columns at its start, without another look at the samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.arrow import bare, is_text, is_uuid, keys_of
from deeptune.auditing.columns import names_person
from deeptune.auditing.label_names import MAX_CLASSES, says_nothing, variants
from deeptune.data.splits.class_names import column_text
from deeptune.data.splits.plan import DataPlan
from deeptune.errors import listed
from deeptune.spec.modalities import columns_of
from deeptune.spec.tasks import USUAL_TASKS

FIRST_ROWS = 500  # first rows, which tell whether the values of a column repeat


def start_warnings(plan: DataPlan) -> list[str]:
    """Warn of classes that may be meant as one or as none, and of a column of persons that is not the group.

    Duplicates and small classes are in the plan's own warnings.
    """
    return [*_variants(plan), *_minus_one(plan), *_persons(plan)]


def _variants(plan: DataPlan) -> Iterator[str]:
    if not 2 <= plan.task.classes <= MAX_CLASSES:
        return
    names = plan.task.decode(np.arange(plan.task.classes)) if plan.task.view == "classes" else None
    if names is None or not is_text(names.type):
        return
    counts = np.sum([plan.task.counts(data.targets) for data in plan.splits.values()], axis=0)
    found = variants(tuple(names.to_pylist()), counts)
    if found:
        shown = listed((f"{rare!r} like {usual!r}" for rare, usual in found.items()), most=5)
        yield (
            f"{len(found):,} {'class' if len(found) == 1 else 'classes'} of column {column_text(plan.label)!r} may be "
            f"meant as another: {shown}. `deeptune audit` shows the rows"
        )
    nothing = [code for code, name in enumerate(names.to_pylist()) if says_nothing(name)]
    if nothing:
        spelled = listed(repr(names[code].as_py()) for code in nothing)
        yield (
            f"{counts[nothing].sum():,} labels in column {column_text(plan.label)!r} are {spelled}, which is trained "
            'as a class: write null where the label is not known, and set data.on_bad_sample = "skip"'
        )


def _minus_one(plan: DataPlan) -> Iterator[str]:
    """Warn of a class -1 before the classes 0, 1, …, which most often marks rows whose label is not known."""
    if plan.task.info.name != USUAL_TASKS["classes"] or not 3 <= plan.task.classes <= MAX_CLASSES:
        return
    if plan.task.decode(np.arange(plan.task.classes)).to_pylist() != list(range(-1, plan.task.classes - 1)):
        return
    count = sum(int(plan.task.counts(data.targets)[0]) for data in plan.splits.values())
    yield (
        f"{count:,} labels in column {column_text(plan.label)!r} are -1, which is trained as a class: if it says that "
        'the label is not known, write null there, and set data.on_bad_sample = "skip"'
    )


def _persons(plan: DataPlan) -> Iterator[str]:
    if plan.group is not None or plan.split_column is not None:
        return
    sources = {id(data.source): data.source for data in plan.splits.values() if len(data)}
    if len(sources) == len([data for data in plan.splits.values() if len(data)]):
        return  # all splits are files: nothing is drawn
    source = plan.splits["train"].source
    used = {*columns_of(plan.input), *columns_of(plan.label)}
    for name in source.column_names:
        kind = source.types[name]
        able = is_text(bare(kind)) or pt.is_integer(bare(kind)) or is_uuid(kind)
        if name in used or not able or not names_person(name) or source.column_names.count(name) != 1:
            continue
        keys = keys_of(source.head([name], FIRST_ROWS).column(0).drop_null())
        if keys is not None and 1 < pc.count_distinct(keys).as_py() < len(keys):
            yield (
                f"column {name!r} looks like a person's id, and rows of one value may be in several splits: "
                f'data.group = "{name}" keeps them together'
            )

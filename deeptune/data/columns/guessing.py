"""Guesses which columns hold labels and groups, from their names and first values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.arrow import bare, is_bytes, is_text
from deeptune.data.modalities import COLUMN_MODALITIES
from deeptune.data.sources.source import Source
from deeptune.errors import DataError
from deeptune.spec.tasks import USUAL_TASKS
from deeptune.tasks.label_columns import plain

LABEL_NAMES = (
    "labels", "label", "class", "target", "category", "y", "sentiment", "diagnosis", "grade", "score", "dx", "outcome",
    "rating", "stars",
)  # fmt: skip
_LABEL_WORDS = frozenset(LABEL_NAMES) - {"y"} | {"classes", "targets", "truth", "categories", "diagnose"}
# Units whose rows belong together, the likeliest first. Persons come before what a person may share with others.
_PERSONS = ("patient", "subject", "participant", "person", "mrn", "user", "author")
GROUP_WORDS = (*_PERSONS, "group", "case", "study", "site")
_PLACES = frozenset({"path", "file", "filename", "frame", "slice", "volume", "time", "key", "split", "fold", "id"})
_DATE = r"^\s*(?:\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./](?:\d{4}|\d{2}))(?:[T ].*)?$"
FIRST_ROWS = 500  # first rows, which guesses are made from
_MIN_INDICATORS = 2  # columns of 0 and 1 that are labels together


def guess_label(source: Source, first: Mapping[str, pa.Array], inputs: Sequence[str]) -> tuple[list[str], str | None]:
    """Return the columns of the label, and the task where they are not classes; no column where none is likely.

    A column that is named like a label comes first, then lists of names, columns of 0 and 1, the one with the fewest
    values of those that repeat, and the only one of numbers. `first` are first values by column.
    """
    several = [name for name in source.column_names if name not in inputs and _holds_label_lists(source, name)]
    for name in LABEL_NAMES:
        if name in several:
            return [name], USUAL_TASKS["lists"]
    usual = [one.info.input for one in COLUMN_MODALITIES.values()]
    others = {name: values for name, values in first.items() if name not in (*inputs, *usual)}
    named = _named(others)
    if named is not None:
        return [named], _task(others[named])
    if several:
        return several[:1], USUAL_TASKS["lists"]
    others = {
        name: values
        for name, values in others.items()
        if not _is_date(values)
        and not is_grouping(name)
        and name.lower() not in _PLACES
        and values.null_count * 2 <= len(values)
    }
    if len(indicators := _indicators(others)) >= _MIN_INDICATORS:
        return indicators, USUAL_TASKS["lists"]
    distinct = {
        name: count
        for name, values in others.items()
        if not (pt.is_floating(values.type) or is_bytes(values.type))
        and 2 <= (count := len(values.unique())) <= max(2, len(values) // 2)
    }
    if distinct:
        name = min(distinct, key=lambda name: distinct[name])
        return [name], _task(others[name])
    numbers = [name for name, values in others.items() if pt.is_floating(values.type) and len(values.unique()) > 1]
    return (numbers, USUAL_TASKS["numbers"]) if len(numbers) == 1 else ([], None)


def likely_labels(source: Source, inputs: Sequence[str]) -> list[str]:
    """Return the columns that are likely the label by their names and first values, if any."""
    names = [
        name
        for name in source.column_names
        if source.column_names.count(name) == 1 and not pt.is_nested(bare(source.types[name]))
    ]
    names = [name for name in names if not is_bytes(bare(source.types[name]))]
    try:
        first = {name: plain(values).combine_chunks() for name, values in _first_values(source, names).items()}
        return guess_label(source, first, inputs)[0]
    except (DataError, pa.ArrowException):
        return []


def _first_values(source: Source, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    return dict(zip(names, source.head(list(names), FIRST_ROWS).columns, strict=True)) if names else {}


def _named(columns: Mapping[str, pa.Array]) -> str | None:
    """Return the column whose whole name is that of a label, or else one of whose words is, and whose values differ."""
    by_name = {name.lower(): name for name in columns}
    for name in LABEL_NAMES:
        if name in by_name:
            return by_name[name]
    likely = [
        name
        for name, values in columns.items()
        if _LABEL_WORDS.intersection(words_of(name))
        and len(values.unique()) > 1
        and (pt.is_floating(values.type) or len(values.unique()) <= max(2, len(values) // 2))
        and not _is_date(values)
    ]
    return likely[0] if likely else None


def words_of(name: str) -> list[str]:
    """Return the words of a column's name in lower case: `LabelBin` and `label_bin` are both `label`, `bin`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower().replace("_", " ").split()


def _task(values: pa.Array) -> str | None:
    return USUAL_TASKS["numbers"] if pt.is_floating(values.type) else None


def _is_date(values: pa.Array) -> bool:
    if pt.is_temporal(values.type):
        return True
    if not is_text(values.type):
        return False
    there = values.drop_null()
    return len(there) > 0 and bool(pc.all(pc.match_substring_regex(there, _DATE)).as_py())


def _indicators(columns: Mapping[str, pa.Array]) -> list[str]:
    """Return columns of 0 and 1 alone, with both in some of them."""
    found = {}
    for name, values in columns.items():
        if pt.is_integer(values.type) or pt.is_floating(values.type):
            distinct = set(values.unique().drop_null().to_pylist())
            if distinct and distinct <= {0, 1}:
                found[name] = distinct
    return list(found) if any(len(distinct) == 2 for distinct in found.values()) else []


def _holds_label_lists(source: Source, name: str) -> bool:
    """Check whether a column holds lists of names or integers."""
    if source.column_names.count(name) != 1:
        return False
    kind = bare(source.types[name])
    if not (pt.is_list(kind) or pt.is_large_list(kind)):
        return False
    value = bare(kind.value_type)
    return pt.is_integer(value) or is_text(value)


def is_grouping(name: str) -> bool:
    """Check whether a column is named like a unit whose rows belong together."""
    return any(word in name.lower() for word in GROUP_WORDS)


def guess_groups(first: Mapping[str, pa.Array], label: Sequence[str]) -> list[str]:
    """Return columns that are named like a unit and repeat: the run keeps a unit's rows on one side."""
    names = [
        name
        for name, values in first.items()
        if name not in label
        and is_grouping(name)
        and not pt.is_floating(values.type)
        and 1 < len(values.unique()) < len(values)
    ]
    return sorted(names, key=lambda name: next(i for i, word in enumerate(GROUP_WORDS) if word in name.lower()))

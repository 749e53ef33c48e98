"""Columns: what they hold, their likely roles, and those that look like a unit whose rows belong together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.arrow import bare, bare_values, in_words, is_bytes, is_text, is_uuid
from deeptune.auditing.data import AuditData
from deeptune.auditing.findings import ColumnFacts, Finding
from deeptune.data.sources.source import Source
from deeptune.errors import listed
from deeptune.formatting import counted

# Parts of names of columns. The rows of one person depend on each other; those of one site may.
_PERSONS = ("patient", "subject", "participant", "person", "mrn", "donor", "speaker", "animal", "individual", "pid")
_UNITS = (
    "study", "series", "case", "exam", "visit", "specimen", "slide", "user", "author", "customer", "client", "group",
    "family", "household", "session", "video", "recording", "accession", "batch",
)  # fmt: skip
_SITES = ("site", "hospital", "center", "centre", "clinic", "scanner", "institution", "ward", "device", "camera")
_ID_VALUE = re.compile(r"[A-Za-z]{0,12}[-_ ]?\d{2,}[A-Za-z]?|[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
MAX_REPEATS = 50  # rows of a unit, on average, at most, where the name says nothing of persons
MIN_UNITS = 5
SAMPLED = 200  # values by which the form of an id is judged


def column_facts(sources: Sequence[Source], roles: dict[str, str]) -> list[ColumnFacts]:
    """Describe the columns of the first source, over the rows of all. `roles` are those that are known, by name."""
    first, found = sources[0], []
    for field in first.schema:
        kind, nulls, distinct = first.types.get(field.name), None, None
        single = all(source.column_names.count(field.name) == 1 for source in sources)
        if single and kind is not None and _is_plain(kind):
            columns = [source.column(field.name) for source in sources]
            nulls = sum(column.null_count for column in columns)
            distinct = _distinct(columns)
        rows = sum(source.num_rows for source in sources)
        role = roles.get(field.name) or _role(field.name, distinct, rows - (nulls or 0), kind)
        found.append(ColumnFacts(field.name, str(field.type), in_words(field.type), role, nulls, distinct))
    return found


def _is_plain(kind: pa.DataType) -> bool:
    """Check whether values are small enough to be held, and can be compared."""
    inner = bare(kind)
    return is_uuid(kind) or not (pt.is_nested(inner) or is_bytes(inner))


def _distinct(columns: Sequence[pa.ChunkedArray]) -> int | None:
    try:
        if len(columns) == 1:
            return pc.count_distinct(bare_values(columns[0])).as_py()
        return len({value for column in columns for value in pc.unique(bare_values(column)).drop_null().to_pylist()})
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None


def _role(name: str, distinct: int | None, rows: int, kind: pa.DataType | None) -> str | None:
    """Guess what an unused column is: constant, an identifier of each row, a unit, numbers or categories."""
    if distinct is None or not rows or kind is None:
        return None
    if distinct == 1:
        return "constant"
    numbers = pt.is_floating(bare(kind))
    if _word_in(name, (*_PERSONS, *_UNITS, *_SITES)) and distinct < rows and not numbers:
        return "unit"
    if distinct == rows and not numbers and (is_text(bare(kind)) or pt.is_integer(bare(kind))):
        return "row id"
    if pt.is_boolean(bare(kind)) or (not numbers and distinct <= max(2, rows // 20)):
        return "category"
    return "numbers" if numbers or pt.is_integer(bare(kind)) else "text" if is_text(bare(kind)) else None


def _words(name: str) -> list[str]:
    """Split a column's name into lower-case words: `PatientID` and `patient_id` are both `patient`, `id`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return [word for word in re.split(r"[^a-z]+", apart.lower()) if word]


def names_person(name: str) -> bool:
    """Check whether a column is named like a person: `patient_id`, `PatientID`, `subject`, `MRN`."""
    return _word_in(name, _PERSONS) is not None


def _word_in(name: str, known: Sequence[str]) -> str | None:
    words = _words(name)
    joined = "".join(words)
    for one in known:
        plural = {one, one + "s", one + "id", one + "no", one + "nr"}
        if plural & {*words, joined}:
            return one
    return None


def id_like_columns(data: AuditData) -> Iterator[Finding]:
    """Find columns that look like a person or another unit, whose rows would be in several splits of a run."""
    of_group = data.values(data.group) if data.group is not None else None
    for column in data.columns:
        if column.name in data.used_columns or column.role == "constant" or column.distinct is None:
            continue
        kind = _kind_of_unit(data, column)
        if kind is None:
            continue
        codes = data.values(column.name)
        if codes is None:
            continue
        if of_group is not None and (kind != "person" or _is_within(codes, of_group)):
            continue
        rows = len(data) - (column.nulls or 0)
        units = column.distinct
        often = f"{units:,} values in {rows:,} rows"
        first = _first_unit(codes)
        if of_group is not None:
            text = f"column {column.name!r} looks like {_AS[kind]} ({often}), and its rows are in several groups of "
            text += f"{data.group!r}"
        else:
            text = f"column {column.name!r} looks like {_AS[kind]} ({often}): drawn splits would have rows of one "
            text += "value on both sides, so a score would measure how well the model knows them"
        fix = f'data.group = "{column.name}"'
        yield data.finding("id_like_column", "info" if kind == "site" else "warning", first, text, fix)


_AS = {"person": "a person's id", "unit": "a unit whose rows belong together", "site": "a site or a device"}


def _kind_of_unit(data: AuditData, column: ColumnFacts) -> str | None:
    """Say whether a column is like a person, a unit or a site; None for others."""
    rows = len(data) - (column.nulls or 0)
    kind = bare(data.sources[0].types[column.name])
    distinct = column.distinct or 0
    named = is_text(kind) or pt.is_integer(kind) or is_uuid(data.sources[0].types[column.name])
    if not named or not 1 < distinct < rows or distinct > 0.98 * rows:
        return None
    if names_person(column.name):
        return "person"
    if distinct < MIN_UNITS or rows / distinct > MAX_REPEATS:
        return "site" if _word_in(column.name, _SITES) else None
    if _word_in(column.name, _UNITS) or _words(column.name)[-1:] in (["id"], ["uid"], ["uuid"]):
        return "unit"
    if _word_in(column.name, _SITES):
        return "site"
    return "unit" if is_text(kind) and _values_are_ids(data, column.name) else None


def _values_are_ids(data: AuditData, name: str) -> bool:
    values = data.sources[0].head([name], SAMPLED).column(0).drop_null()
    found = [str(value) for value in bare_values(values).to_pylist()]
    return len(found) > 0 and all(_ID_VALUE.fullmatch(one.strip()) for one in found)


def _is_within(codes: np.ndarray, groups: np.ndarray) -> bool:
    """Check whether the rows of each value are in one group."""
    known = codes >= 0
    pairs = np.unique(np.stack([codes[known], groups[known]]), axis=1)
    return bool(pairs.shape[1] == len(np.unique(codes[known])))


def _first_unit(codes: np.ndarray) -> np.ndarray:
    """List the rows of the first value that repeats."""
    counts = np.bincount(codes[codes >= 0])
    return np.flatnonzero(codes == np.argmax(counts > 1)) if (counts > 1).any() else np.zeros(0, np.int64)


def crossing_groups(data: AuditData) -> Iterator[Finding]:
    """Find groups, or persons where no group is named, with rows in two splits."""
    if not data.split_names:
        return
    if data.group is not None:
        yield from _crossing(data, data.group, named=True)
        return
    for column in data.columns:
        if column.name not in data.used_columns and column.distinct and _kind_of_unit(data, column) == "person":
            yield from _crossing(data, column.name, named=False)


def _crossing(data: AuditData, column: str, *, named: bool) -> Iterator[Finding]:
    codes = data.values(column)
    if codes is None:
        return
    known = (codes >= 0) & (data.split >= 0)
    pairs = np.unique(np.stack([codes[known], data.split[known]]), axis=1)
    crossing = np.flatnonzero(np.bincount(pairs[0], minlength=codes.max(initial=-1) + 1) > 1)
    if not len(crossing):
        return
    rows = np.flatnonzero(np.isin(codes, crossing) & (data.split >= 0))
    rows = rows[np.argsort(codes[rows], kind="stable")]
    shown = listed((repr(data.value_text(column, int(code))) for code in crossing), most=5)
    one = len(crossing) == 1
    text = f"{len(crossing):,} {'value' if one else 'values'} of column {column!r} {'has' if one else 'have'} rows in "
    text += f"more than one split ({counted(len(rows), 'row')}): {shown}"
    if named:
        fix = f"move all rows of each {column!r} to one split, for example with data.path = [all files] and "
        fix += f'data.group = "{column}", which draws the splits anew'
        yield data.finding("group_crosses_splits", "error", rows, text, fix)
    else:
        fix = f"if {column!r} names persons, move the rows of each to one split: data.path = [all files] with "
        fix += f'data.group = "{column}"'
        yield data.finding("group_crosses_splits", "warning", rows, text, fix)

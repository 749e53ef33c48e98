"""Label columns of any Arrow type as plain values, and what is refused of them."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.arrow import bare_values, in_words, is_bytes, is_lists, is_uuid, text_of
from deeptune.errors import DataError, listed
from deeptune.spec.tasks import USUAL_TASKS


class LabelTypeError(DataError):
    """The type of a column can't be the label of a task. Its hint is for a spec, which can name another task."""


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a label column as int64, string, bool, double or null, or lists of these; others stay as they are.

    Dictionary encoding and extension types are undone, and bytes that are UTF-8 are text. Decimals without decimal
    places are integers; others, small floats and integers beyond 64 bits with a sign become double, exact to 53 bits.
    """
    named = is_uuid(column.type)
    column = bare_values(column)
    column = column if named else text_of(column)
    kind = column.type
    if is_lists(kind):
        return _one_type([_plain_lists(chunk) for chunk in column.chunks] or [pa.array([], kind)])
    if pt.is_integer(kind) or (pt.is_decimal(kind) and kind.scale == 0):
        return _integers(column)
    if pt.is_floating(kind) or pt.is_decimal(kind):
        return column.cast(pa.float64())
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return column.cast(pa.string()) if kind != pa.string() else column
    return column


def _plain_lists(lists: pa.Array) -> pa.Array:
    """Return lists of plain values."""
    values = plain(pa.chunked_array([pc.list_flatten(lists)])).combine_chunks()
    sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pc.is_null(lists))


def _one_type(chunks: list[pa.Array]) -> pa.ChunkedArray:
    """Join the chunks of a column; those of integers become double where another chunk is."""
    schemas = [pa.schema([("values", chunk.type)]) for chunk in chunks]
    kind = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    return pa.chunked_array([chunk if chunk.type == kind else chunk.cast(kind, safe=False) for chunk in chunks])


def _integers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column.cast(pa.float64(), safe=False)


def list_parts(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Return the values of all lists of a plain list column, and the row (int64) that each is in."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # of no rows
        whole = pa.array([], column.type)
    return pc.list_parent_indices(whole).to_numpy(zero_copy_only=False), pc.list_flatten(whole)


def without_minus_one(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a plain column with null for each -1, which is how Hugging Face writes a missing `ClassLabel`."""
    return pc.if_else(pc.equal(values, -1), pa.scalar(None, values.type), values)


def whole_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a plain column of decimal numbers as integers of 64 bits, where all are such; others as they are.

    pandas writes integers as decimal numbers once one is missing. NaN becomes null.
    """
    if not pt.is_floating(column.type):
        return column
    known = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
    if pc.all(pc.equal(known, pc.floor(known))).as_py():
        with suppress(pa.ArrowInvalid):  # beyond 64 bits
            return known.cast(pa.int64())
    return column


def missing(column: pa.ChunkedArray) -> np.ndarray:
    """Find which labels say nothing (bool, one per row): null, NaN, infinite, or an empty string.

    A list of numbers says nothing where each of them is missing.
    """
    column = plain(column)
    absent = pc.is_null(column)
    if pt.is_floating(column.type):
        absent = pc.or_(absent, pc.fill_null(pc.invert(pc.is_finite(column)), True))
    elif is_lists(column.type) and pt.is_floating(column.type.value_type):
        rows, values = list_parts(column)
        known = pc.fill_null(pc.is_finite(values), False).to_numpy(zero_copy_only=False)
        return np.bincount(rows[known], minlength=len(column)) == 0
    elif pt.is_string(column.type):
        absent = pc.or_(absent, pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True))
    return absent.to_numpy()


def check_numbers(
    column: pa.ChunkedArray, *, name: str, place: str = "data.label", task: str = USUAL_TASKS["numbers"]
) -> None:
    """Raise LabelTypeError when a column holds neither numbers nor lists of these."""
    kind, said = _kind(column, name, place)
    kind = kind.value_type if is_lists(kind) else kind
    if not (pt.is_integer(kind) or pt.is_floating(kind)):
        classes = pt.is_string(kind) or pt.is_boolean(kind)
        hint = (
            f'Cast the column to numbers, or set task = "{USUAL_TASKS["classes"]}".'
            if classes
            else "Name a column of numbers."
        )
        raise LabelTypeError(f"{said}, and {task} needs numbers", hint=hint)


def check_classes(column: pa.ChunkedArray, *, name: str, place: str = "data.label") -> None:
    """Raise LabelTypeError when a column's type is not a class."""
    kind, said = _kind(column, name, place)
    said += ", and classes are integers, strings or booleans"
    if pt.is_floating(kind):
        if pt.is_integer(column.type) or (pt.is_decimal(column.type) and column.type.scale == 0):
            raise LabelTypeError(
                f"{place}: column {name!r} holds integers above {np.iinfo(np.int64).max:,}, more than a class can be",
                hint="Cast the column to strings to keep each number as the name of a class.",
            )
        values = whole_numbers(plain(column))
        if pt.is_integer(values.type) and values.null_count < len(values):
            kind = " (`Int64` in pandas, as some are missing)" if values.null_count else ""
            hint = f"; if these whole numbers are classes, cast the column to integers{kind}."
        else:
            hint = ", or name another label column."
        raise LabelTypeError(said, hint=f'Set task = "{USUAL_TASKS["numbers"]}" to predict numbers{hint}')
    if not (pt.is_integer(kind) or pt.is_string(kind) or pt.is_boolean(kind)):
        hint = "Cast the column, or name another one."
        if is_bytes(kind):
            hint = "They are not UTF-8 text: decode them to strings, or name another column."
        elif is_lists(kind):
            hint = f'Set task = "{USUAL_TASKS["lists"]}" where a row has several labels, or name another column.'
        raise LabelTypeError(said, hint=hint)


def _kind(column: pa.ChunkedArray, name: str, place: str) -> tuple[pa.DataType, str]:
    """Return the type of a plain label column, and how a sentence about it begins.

    Raises DataError where all is null.
    """
    kind = plain(column).type
    if pt.is_null(kind):
        raise DataError(
            f"{place}: every value of column {name!r} is null", hint="Name the column that holds the labels."
        )
    return kind, f"{place}: column {name!r} holds {in_words(column.type)}"


def numbers(column: pa.ChunkedArray, *, name: str = "labels", place: str = "data.label") -> np.ndarray:
    """Return a column of any numeric type as float64, without missing labels. Raises DataError for another one."""
    check_numbers(column, name=name, place=place)
    refuse_missing(column, name, place)
    return plain(column).to_numpy().astype(np.float64)


def refuse_missing(column: pa.ChunkedArray, name: str, place: str) -> None:
    """Raise DataError when a label of a column is missing."""
    rows = np.flatnonzero(missing(column))
    if len(rows):
        raise DataError(
            f"{place}: {len(rows):,} of {len(column):,} labels in column {name!r} are missing "
            f"(null, NaN, infinite, empty, or -1 in a ClassLabel column): rows {listed(rows)}",
            hint="Fill them in or leave these rows out.",
        )


def refuse_flags(column: pa.ChunkedArray, name: str) -> None:
    """Raise DataError where each list says of every label whether a row has it.

    As labels, such lists would be the same two in every row: 0 and 1.
    """
    lists = plain(column)
    lengths = pc.unique(pc.list_value_length(lists)).drop_null().to_pylist()
    if len(lengths) != 1 or lengths[0] < 2 or not set(list_parts(lists)[1].unique().to_pylist()) <= {0, 1}:
        return
    raise DataError(
        f"data.label: every list of column {name!r} holds {lengths[0]:,} zeros and ones, and multilabel needs lists of "
        "the labels that a row has",
        hint="Write the positions of the ones, as [1, 2] for [0, 1, 1]. Where each list has a single one, write its "
        f'position as a number, and set task = "{USUAL_TASKS["classes"]}".',
    )

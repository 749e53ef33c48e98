"""The input column: which one it is, what it may hold, and which of its samples cannot be used."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.data.decode import decode_quietly
from deeptune.data.source import Source
from deeptune.errors import DataError

DEFAULT_INPUT = {"image": "images", "text": "text"}
_EXPECTED = {
    "image": "encoded image bytes: binary, or a struct with a field 'bytes'",
    "text": "strings",
}
_AT_ONCE = 256  # rows handed to the threads between two reports of progress

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BadSample:
    """A row that cannot be used as it is, and why. `split` is None while no split is known."""

    split: str | None
    row: int
    reason: str


def modality_of(kind: pa.DataType) -> str | None:
    """`image` or `text` by an Arrow type, or None."""
    if pt.is_dictionary(kind):
        kind = kind.value_type
        return "text" if _is_string(kind) else None
    if pt.is_struct(kind):
        at = kind.get_field_index("bytes")
        return "image" if at >= 0 and _is_binary(kind.field(at).type) else None
    return "image" if _is_binary(kind) else "text" if _is_string(kind) else None


def _is_binary(kind: pa.DataType) -> bool:
    return pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind) or pt.is_binary_view(kind)


def _is_string(kind: pa.DataType) -> bool:
    return pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)


def resolve_columns(source: Source, modality: str | None = None, input: str | None = None) -> tuple[str, str]:
    """(modality, input column): what is not given is inferred from the columns.

    Raises DataError when it cannot be told, when the column is not there, or when its type does not fit.
    """
    if input is None and modality is None:
        there = [m for m, column in DEFAULT_INPUT.items() if column in source.column_names]
        if len(there) == 2:
            raise DataError(
                f"data.modality: {source.describe()} has a column 'images' and a column 'text'",
                hint='Say which to learn from: data.modality = "image" or "text".',
            )
        if not there:
            raise DataError(
                f"data.input: {source.describe()} has neither a column 'images' nor a column 'text'",
                hint=f"Name the input column with data.input. Its columns: {source.describe_columns()}.",
            )
        modality = there[0]
    if input is None:
        assert modality is not None
        input = DEFAULT_INPUT[modality]
    source.require(input, key="data.input")
    kind = source.schema.field(input).type
    found = modality_of(kind)
    if found is None or (modality is not None and found != modality):
        expected = _EXPECTED[modality] if modality else f"{_EXPECTED['image']}; or {_EXPECTED['text']}"
        raise DataError(
            f"data.input: column {input!r} of {source.describe()} holds {kind}, "
            f"and {modality or 'the input'} needs {expected}",
            hint=f"Set data.input to another column, or data.modality. Its columns: {source.describe_columns()}.",
        )
    return found, input


def input_column(source: Source, input: str) -> pa.ChunkedArray:
    """The input column as bytes or strings: a struct gives its `bytes`, a dictionary its values."""
    column = source.column(input)
    if pt.is_struct(column.type):
        return pa.chunked_array(
            [pc.struct_field(chunk, "bytes") for chunk in column.chunks], type=column.type.field("bytes").type
        )
    return column.cast(pa.large_string()) if pt.is_dictionary(column.type) else column


def check_samples(
    source: Source, input: str, modality: str, rows: np.ndarray | None = None, progress: Progress | None = None
) -> list[BadSample]:
    """The samples among `rows` (all by default) that cannot be used, in the order given.

    Images are decoded, JPEG at an eighth of its size; a text must not be null or blank.
    `progress(done, total)` is called now and then.
    """
    rows = np.arange(source.num_rows) if rows is None else rows
    reasons = _image_reasons if modality == "image" else _text_reasons
    bad: list[BadSample] = []
    try:
        for done, reason in enumerate(reasons(input_column(source, input), rows), start=1):
            if reason:
                bad.append(BadSample(None, int(rows[done - 1]), reason))
            if progress and (done % _AT_ONCE == 0 or done == len(rows)):
                progress(done, len(rows))
    except MemoryError as error:
        raise DataError(
            f"{source.key}: the samples of column {input!r} do not fit in memory: {error}",
            hint="Shorten them, or split the file.",
        ) from error
    return bad


def _image_reasons(column: pa.ChunkedArray, rows: np.ndarray) -> Iterator[str | None]:
    def reason(row: int) -> str | None:
        try:
            decode_quietly(column[int(row)].as_py(), draft=True)
        except DataError as error:
            return error.message
        return None

    # PIL decodes without the interpreter's lock, so threads share the work
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")
        for start in range(0, len(rows), _AT_ONCE):
            yield from pool.map(reason, rows[start : start + _AT_ONCE])


def _text_reasons(column: pa.ChunkedArray, rows: np.ndarray) -> Iterator[str | None]:
    # Chunk by chunk: to take rows of them all, Arrow would first make one array of the whole column.
    blank = [pc.equal(pc.utf8_trim_whitespace(chunk), "") for chunk in column.chunks]
    for value in pa.chunked_array(blank, pa.bool_()).take(pa.array(rows, pa.int64())).to_pylist():
        yield "is null" if value is None else "is blank" if value else None

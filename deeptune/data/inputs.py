"""The input column: which one it is, what it may hold, and which of its samples cannot be used."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.data.decode import decode_quietly
from deeptune.data.source import Source
from deeptune.data.types import bare, bare_values, is_bytes, is_text, is_uuid, reads_as_text, texts
from deeptune.errors import DataError

DEFAULT_INPUT = {"image": "images", "text": "text"}
_EXPECTED = {
    "image": "encoded image bytes: binary, or a struct with a field 'bytes'",
    "text": "strings, or bytes that are UTF-8",
}
AT_ONCE = 64  # rows that are decoded between two reports of progress
FIRST_ROWS = 64  # that tell whether bytes are text
MOST_THREADS = 16
NOT_UTF8 = "is not UTF-8 text"
HANDED = 4  # images that a thread takes at once: to hand over a small one takes a tenth of its decoding

Progress = Callable[[int, int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class BadSample:
    """A row that cannot be used as it is, and why. `split` is None while no split is known."""

    split: str | None
    row: int
    reason: str


def modality_of(kind: pa.DataType) -> str | None:
    """`image` or `text` by an Arrow type, or None. Bytes may be text: `resolve_columns` looks at them."""
    if is_uuid(kind):
        return None
    kind = bare(kind)
    if pt.is_struct(kind):
        at = kind.get_field_index("bytes")
        return "image" if at >= 0 and is_bytes(kind.field(at).type) else None
    return "image" if is_bytes(kind) else "text" if is_text(kind) else None


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
    if found == "image" and (modality == "text" or (modality is None and holds_text(source, input))):
        found = "text" if is_bytes(bare(kind)) else found
    if found is None or (modality is not None and found != modality):
        expected = _EXPECTED[modality] if modality else f"{_EXPECTED['image']}; or {_EXPECTED['text']}"
        raise DataError(
            f"data.input: column {input!r} of {source.describe()} holds {kind}, "
            f"and {modality or 'the input'} needs {expected}",
            hint=f"{_way_on(kind)}Its columns: {source.describe_columns()}.",
        )
    return found, input


def _way_on(kind: pa.DataType) -> str:
    if pt.is_nested(kind) and not pt.is_struct(kind):
        return "Write one sample in each row, without a list around it, or set data.input to another column. "
    return "Set data.input to another column, or data.modality. "


def holds_text(source: Source, name: str) -> bool:
    """Whether a column of bytes is text by its first values, as Impala, Hive and older Spark write text."""
    return is_bytes(bare(source.types[name])) and reads_as_text(source.head([name], FIRST_ROWS).column(0))


def stream_input(source: Source, input: str, *, start: int = 0, rows: int = AT_ONCE) -> Iterator[tuple[int, pa.Array]]:
    """The input column in pieces, as `Source.stream` gives it, as bytes or strings: a struct gives its `bytes`, a
    dictionary its values."""
    for first, values in source.stream(input, start=start, rows=rows):
        yield first, input_values(values)


def input_values(values: pa.Array) -> pa.Array:
    """A piece of an input column as bytes or strings."""
    return bare_values(pc.struct_field(values, "bytes") if pt.is_struct(values.type) else values)


def check_samples(
    source: Source, input: str, modality: str, rows: np.ndarray | None = None, progress: Progress | None = None
) -> list[BadSample]:
    """The samples among `rows` (all by default) that cannot be used, in the order given.

    Images are decoded, JPEG at an eighth of its size; a text must not be null or blank.
    `progress(done, total)` counts the rows of the source.
    """
    wanted = np.ones(source.num_rows, bool) if rows is None else np.isin(np.arange(source.num_rows), rows)
    reasons: dict[int, str] = {}
    with fitting(source, input), decoding_threads() as threads:
        for first, values in stream_input(source, input):
            picked = np.flatnonzero(wanted[first : first + len(values)])
            some = values.take(pa.array(picked))
            found = image_reasons(some, threads) if modality == "image" else text_reasons(some)
            reasons.update((first + at, reason) for at, reason in zip(picked.tolist(), found, strict=True) if reason)
            if progress:
                progress(first + len(values), source.num_rows)
    return [
        BadSample(None, row, reasons[row]) for row in (reasons if rows is None else rows.tolist()) if row in reasons
    ]


@contextmanager
def fitting(source: Source, input: str) -> Iterator[None]:
    """Samples that are too large for memory are the data's fault."""
    try:
        yield
    except MemoryError as error:
        raise DataError(
            f"{source.key}: the samples of column {input!r} do not fit in memory: {error}",
            hint="Shorten them, or split the file.",
        ) from error


@contextmanager
def decoding_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that decode: PIL does so without the interpreter's lock. What it warns of is not shown."""
    with warnings.catch_warnings(), ThreadPoolExecutor(min(MOST_THREADS, cores())) as threads:
        warnings.simplefilter("ignore")
        yield threads


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def image_reasons(values: pa.Array, threads: ThreadPoolExecutor) -> list[str | None]:
    """Why each of some encoded images can't be used, or None; JPEG is decoded at an eighth of its size."""

    def reason(value: pa.Scalar) -> str | None:
        try:
            decode_quietly(value.as_py(), least=1)
        except DataError as error:
            return error.message
        return None

    return each_image(reason, values, threads)


def each_image(do: Callable[[pa.Scalar], T], values: pa.Array, threads: ThreadPoolExecutor) -> list[T]:
    """What `do` gives of each of some encoded images, in order."""
    parts = [values[start : start + HANDED] for start in range(0, len(values), HANDED)]
    return [found for part in threads.map(lambda part: [do(value) for value in part], parts) for found in part]


def text_reasons(values: pa.Array) -> list[str | None]:
    """Why each of some texts, which may be bytes, can't be used, or None."""
    found = texts(values)
    blank = pc.equal(pc.utf8_trim_whitespace(found), "").to_pylist()
    there = pc.is_valid(values).to_pylist()
    return [
        (NOT_UTF8 if there[at] else "is null") if value is None else "is blank" if value else None
        for at, value in enumerate(blank)
    ]

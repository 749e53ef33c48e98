"""The input column: which one it is, what it may hold, and which of its samples cannot be used."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deeptune.arrow import (
    bare,
    bare_values,
    is_bytes,
    is_text,
    is_uuid,
    reads_as_text,
    sample_parts,
    text_of,
    texts,
)
from deeptune.data.decode import RangeUnknown, decode_quietly, deep_reason
from deeptune.data.depth import Range
from deeptune.data.duplicates import HASH, content_hashes
from deeptune.data.encoded import MAX_NAME, file_named, image_bytes, look_like_images
from deeptune.data.source import Source
from deeptune.errors import DataError

DEFAULT_INPUT = {"image": "images", "text": "text"}
_EXPECTED = {
    "image": "one image a row: encoded bytes (binary), file names (strings), or a struct of 'bytes' and 'path'",
    "text": "strings, or bytes that are UTF-8",
}
AT_ONCE = 64  # rows that are decoded between two reports of progress
FIRST_ROWS = 16  # that tell whether bytes are text, and whether a column names files
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
    """`image` or `text` by an Arrow type, or None. Bytes may be text, and strings may name images: `resolve_columns`
    looks at them."""
    if is_uuid(kind):
        return None
    kind = bare(kind)
    if pt.is_struct(kind):
        fields = {one.name: one.type for one in kind}
        if len(fields) < kind.num_fields:
            return None  # two of one name: nobody knows which is meant
        if not pt.is_null(fields.get("bytes", pa.null())):
            return "image" if is_bytes(fields["bytes"]) else None
        return "image" if "path" in fields and is_text(fields["path"]) else None
    return "image" if is_bytes(kind) else "text" if is_text(kind) else None


def resolve_columns(source: Source, modality: str | None = None, input: str | None = None) -> tuple[str, str]:
    """(modality, input column): what is not given is inferred from the columns, and from the first values of strings.

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
    if found is not None and not pt.is_struct(bare(kind)):
        found = modality or _modality_by_values(source, input)
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


def _modality_by_values(source: Source, input: str) -> str:
    """Of strings or bytes: images where the first are names of image files or base64, texts where they are text."""
    first = source.head([input], FIRST_ROWS).column(0)
    if look_like_images(_beginnings(first)):
        return "image"
    return "text" if is_text(bare(first.type)) or holds_text(source, input) else "image"


def holds_text(source: Source, name: str) -> bool:
    """Whether a column of bytes is text by its first values, as Impala, Hive and older Spark write text."""
    kind = source.types[name]
    return is_bytes(bare(kind)) and not is_uuid(kind) and reads_as_text(source.head([name], FIRST_ROWS).column(0))


def attach_files(source: Source, modality: str, input: str) -> None:
    """Make the files that an input column names a part of the data, where it is a column of names.

    That is every column of strings, bytes that are such strings, and a struct where a first row names a file and has no
    bytes.
    """
    if modality != "image":
        return
    parts = sample_parts(source.head([input], FIRST_ROWS).column(0))
    if pt.is_struct(parts.type):
        names = any(file_named({"path": name}, source.folder_of(0)) for name in _paths_alone(parts).values())
    else:
        names = is_text(parts.type) or look_like_images(_beginnings(parts))
    if names:
        source.read_files_named_in(input)


def _beginnings(values: pa.Array) -> list[str | None]:
    """The beginnings of strings, or of bytes that are text: as much of them as a file's name may have."""
    values = bare_values(values)
    if is_bytes(values.type):
        return text_of(pc.binary_slice(values, 0, MAX_NAME)).to_pylist()
    return pc.utf8_slice_codeunits(values, 0, MAX_NAME).to_pylist()


def _paths_alone(structs: pa.Array) -> dict[int, str]:
    """By place, the path in structs that have no bytes."""
    names = [one.name for one in structs.type]
    if "path" not in names:
        return {}
    paths = pc.struct_field(structs, "path").to_pylist()
    held = pc.is_valid(pc.struct_field(structs, "bytes")).to_pylist() if "bytes" in names else [False] * len(paths)
    return {place: path for place, path in enumerate(paths) if path and not held[place]}


@dataclass(frozen=True)
class Piece:
    """Some values of an input column, as bytes or strings. `unread` says, by place, why there is none of a file that a
    row names."""

    values: pa.Array
    unread: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, places: np.ndarray) -> Piece:
        kept = {new: self.unread[old] for new, old in enumerate(places.tolist()) if old in self.unread}
        return Piece(self.values.take(pa.array(places)), kept)


def stream_input(
    source: Source, input: str, threads: ThreadPoolExecutor, *, start: int = 0, rows: int = AT_ONCE
) -> Iterator[tuple[int, Piece]]:
    """The input column in pieces, as `Source.stream` gives it; files that it names are read by the threads."""
    names_files = source.named is not None
    for first, values in source.stream(input, start=start, rows=min(rows, MOST_THREADS) if names_files else rows):
        yield first, input_piece(source, values, first, threads)
    if source.named is not None:
        source.named.require_unchanged()


def input_piece(source: Source, values: pa.Array, first: int, threads: ThreadPoolExecutor) -> Piece:
    """Values of an input column as bytes or strings, of which the first is of the row `first`."""
    if source.named is not None:
        return _read(image_values(source, values), source.folder_of(first), threads)
    return Piece(input_values(values), _unread(values) if pt.is_struct(bare(values.type)) else {})


def input_values(values: pa.Array) -> pa.Array:
    """A piece of an input column that names no files, as bytes or strings."""
    parts = sample_parts(values)
    return pc.struct_field(parts, "bytes") if pt.is_struct(parts.type) else parts


def image_values(source: Source, values: pa.Array) -> pa.Array:
    """A piece of a column of images as `image_bytes` takes its values."""
    parts = sample_parts(values)
    return text_of(parts) if source.named is not None else parts


def _unread(structs: pa.Array) -> dict[int, str]:
    """Which structs without bytes name a file, though the first rows do not."""
    return {
        place: f"has no bytes, and its path {name!r} is not read, as the first rows have bytes: write all alike"
        for place, name in _paths_alone(sample_parts(structs)).items()
    }


def _read(values: pa.Array, folder: Path, threads: ThreadPoolExecutor) -> Piece:
    def read(value: pa.Scalar) -> bytes | DataError | None:
        try:
            return image_bytes(value.as_py(), folder)
        except DataError as error:
            return error

    found = each_image(read, values, threads)
    unread = {place: one.message for place, one in enumerate(found) if isinstance(one, DataError)}
    return Piece(pa.array([None if isinstance(one, DataError) else one for one in found], pa.large_binary()), unread)


@dataclass
class Checked:
    """What was found of the rows of a source.

    By row, `reasons` say why some can't be used, and `deep` is the least and greatest value of images of more than
    8 bits for which no range was known. `clipped` are rows with values outside of the range. `hashes` (uint64) are
    those of all samples (`duplicates.content_hashes`).
    """

    reasons: dict[int, str] = field(default_factory=dict)
    deep: dict[int, Range] = field(default_factory=dict)
    clipped: list[int] = field(default_factory=list)
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, HASH))

    def bad(self, rows: np.ndarray, *, deep: bool = True) -> list[BadSample]:
        """Those of some rows that can't be used, in the order given; without `deep`, as if a range were known."""
        if deep and self.deep:
            reasons = {**self.reasons, **{row: deep_reason(extremes) for row, extremes in self.deep.items()}}
        else:
            reasons = self.reasons
        return [BadSample(None, row, reasons[row]) for row in rows.tolist() if row in reasons]


def check_samples(
    source: Source,
    input: str,
    modality: str,
    rows: np.ndarray | None = None,
    progress: Progress | None = None,
    value_range: Range | None = None,
) -> Checked:
    """Look at the samples among `rows` (all by default).

    Images are decoded, JPEG at an eighth of its size; a text must not be null or blank.
    `progress(done, total)` counts the rows of the source.
    """
    wanted = np.ones(source.num_rows, bool) if rows is None else np.isin(np.arange(source.num_rows), rows)
    checked = Checked(hashes=np.zeros(source.num_rows, HASH))
    with fitting(source, input), decoding_threads() as threads:
        for first, piece in stream_input(source, input, threads):
            checked.hashes[first : first + len(piece)] = content_hashes(piece.values, threads)
            picked = np.flatnonzero(wanted[first : first + len(piece)])
            some = piece.take(picked)
            found = image_findings(some, threads, value_range) if modality == "image" else text_reasons(some.values)
            for at, one in zip(picked.tolist(), found, strict=True):
                if isinstance(one, str):
                    checked.reasons[first + at] = one
                elif isinstance(one, tuple):
                    checked.deep[first + at] = one
                elif one is True:
                    checked.clipped.append(first + at)
            if progress:
                progress(first + len(piece), source.num_rows)
    return checked


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


def image_findings(
    piece: Piece, threads: ThreadPoolExecutor, value_range: Range | None = None
) -> list[str | Range | bool]:
    """Of each of some encoded images why it can't be used, or its least and greatest value where these need a range
    that is not known, or whether values were clipped. JPEG is decoded at an eighth of its size."""

    def finding(value: pa.Scalar) -> str | Range | bool:
        try:
            return decode_quietly(value.as_py(), least=1, value_range=value_range).clipped
        except RangeUnknown as error:
            return error.extremes
        except DataError as error:
            return error.message

    return [piece.unread.get(at, one) for at, one in enumerate(each_image(finding, piece.values, threads))]


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

"""The input columns: which they are, how they pass, and which of their samples cannot be used."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from deeptune.arrow import bare
from deeptune.data.cache.sample_hashes import HASH, sample_hashes
from deeptune.data.images.bit_depth import Range
from deeptune.data.images.decoding_threads import decoding_threads
from deeptune.data.modalities import COLUMN_MODALITIES, MODALITIES, ColumnModality, Modality
from deeptune.data.modalities.base import FIRST_ROWS
from deeptune.data.modalities.checked_samples import CheckedSamples, fitting, stream_input
from deeptune.data.sources.source import Source
from deeptune.errors import DataError
from deeptune.progress import Progress
from deeptune.spec.modalities import Input, ModalityInfo, columns_of


def modality_of(kind: pa.DataType) -> ColumnModality | None:
    """Guess the modality of a column from its Arrow type, or None. Its values may say otherwise."""
    return next((modality for modality in COLUMN_MODALITIES.values() if modality.usual(kind)), None)


def modality_of_column(source: Source, name: str) -> ColumnModality | None:
    """Find the modality of a column from its type and first values, or None."""
    kind = source.types[name]
    able = [modality for modality in COLUMN_MODALITIES.values() if modality.takes(kind)]
    if len(able) < 2:
        return able[0] if able else None
    first = source.head([name], FIRST_ROWS).column(0)
    return next((modality for modality in able if modality.recognises(first)), modality_of(kind))


def resolve_columns(source: Source, modality: str | None = None, input: Input | None = None) -> tuple[str, Input]:
    """Return modality and input columns; infer those not given from the columns and the first values of strings.

    Of an image with a text, the column of the image is the first one of the input. Raises DataError when they cannot
    be inferred, when a column is missing, or when its type does not fit.
    """
    if input is None:
        kind = _modality_by_names(source) if modality is None else MODALITIES[modality]
        modality, input = kind.info.name, kind.info.input
    columns = columns_of(input)
    for column in columns:
        source.require(column, key="data.input")
    given = COLUMN_MODALITIES.get(modality or "")
    if given is None and (modality is not None or len(columns) > 1):
        found = [modality_of_column(source, column) for column in columns]
        if modality is not None or (None not in found and len(set(found)) > 1):
            return "image_text", _image_first(source, columns, found)
    for column in columns:
        held = given or modality_of_column(source, column)
        if held is None or not held.takes(source.schema.field(column).type):
            raise _does_not_fit(source, column, held)
        given, modality = held, held.info.name
    info = MODALITIES[str(modality)].info
    if len(columns) > info.max_columns:
        raise _too_many(source, columns, info)
    return info.name, input


def _image_first(source: Source, columns: list[str], found: list[ColumnModality | None]) -> list[str]:
    """Return the column of images, then that of texts. Where the first values don't tell, they are in this order."""
    info, kinds = MODALITIES["image_text"].info, [one.info.name if one else None for one in found]
    if len(columns) > info.max_columns:
        raise _too_many(source, columns, info)
    if kinds == ["text", "image"]:
        return columns[::-1]
    for column, name in zip(columns, info.parts, strict=False):
        if not COLUMN_MODALITIES[name].takes(source.types[column]):
            raise _does_not_fit(source, column, COLUMN_MODALITIES[name])
    if len(columns) < len(info.parts):
        raise DataError(
            f"data.input: one column is named, and {info.plural} come from {info.expected}",
            hint=f"Its columns: {source.describe_columns()}.",
        )
    return columns


def _too_many(source: Source, columns: list[str], info: ModalityInfo) -> DataError:
    return DataError(
        f"data.input: {len(columns)} columns are named, and {info.plural} come from "
        f"{'one column' if info.max_columns == 1 else f'at most {info.max_columns}'}",
        hint=f"Its columns: {source.describe_columns()}.",
    )


def _modality_by_names(source: Source) -> Modality:
    """Find the modality that has its usual column. Raises DataError where none has, or several."""
    there = [one for one in COLUMN_MODALITIES.values() if one.info.input in source.column_names]
    if len(there) > 1:
        columns = " and ".join(f"a column {one.info.input!r}" for one in there)
        *choices, last = [f'"{name}"' for name in MODALITIES]
        raise DataError(
            f"data.modality: {source.describe()} has {columns}",
            hint=f"Say which to learn from: data.modality = {', '.join(choices)} or {last}.",
        )
    if not there:
        columns = " nor ".join(f"a column {one.info.input!r}" for one in COLUMN_MODALITIES.values())
        raise DataError(
            f"data.input: {source.describe()} has neither {columns}",
            hint=f"{_likely_input(source)} Its columns: {source.describe_columns()}.",
        )
    return there[0]


def _likely_input(source: Source) -> str:
    likely = likely_input(source)
    if likely is None:
        return "A run learns from images or texts, and no column holds any."
    columns, modality = columns_of(likely[0]), likely[1]
    value = f'"{columns[0]}"' if len(columns) == 1 else json.dumps(columns)
    return f"Name the input column: data.input = {value} holds {modality.info.plural}."


def likely_input(source: Source) -> tuple[Input, ColumnModality] | None:
    """Return the input by what columns hold: the first one of images, else the longest texts, or a pair of them."""
    single = [name for name in source.column_names if source.column_names.count(name) == 1]
    with suppress(DataError, pa.ArrowException):  # where a column is damaged, nothing is proposed
        held = {name: modality_of_column(source, name) for name in single}
        for modality in COLUMN_MODALITIES.values():
            if names := [name for name, one in held.items() if one is modality]:
                first = {name: source.head([name], FIRST_ROWS).column(0).combine_chunks() for name in names}
                return modality.likeliest(names, first), modality
    return None


def _does_not_fit(source: Source, column: str, modality: ColumnModality | None) -> DataError:
    kind = source.schema.field(column).type
    expected = [one.info.expected for one in (COLUMN_MODALITIES.values() if modality is None else [modality])]
    return DataError(
        f"data.input: column {column!r} of {source.describe()} holds {kind}, "
        f"and {modality.info.name if modality else 'the input'} needs {'; or '.join(expected)}",
        hint=f"{_way_on(kind)}Its columns: {source.describe_columns()}.",
    )


def _way_on(kind: pa.DataType) -> str:
    if _holds_pixels(kind):
        return (
            "Pixels without a format are not read: write each picture as PNG (`deeptune import` takes arrays in .npz), "
            "or set data.input to another column. "
        )
    if pt.is_nested(kind) and not pt.is_struct(bare(kind)):
        return "Write one sample in each row, without a list around it, or set data.input to another column. "
    return "Set data.input to another column, or data.modality. "


def _holds_pixels(kind: pa.DataType) -> bool:
    """Check whether values are arrays of numbers: tensors, or lists of lists."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return True
    depth = 0
    while pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    return depth > 1 and (pt.is_integer(kind) or pt.is_floating(kind))


def attach_files(source: Source, modality: str, input: Input) -> None:
    """Make the files that an input column names a part of the data."""
    MODALITIES[modality].attach_files(source, input)


def check_samples(
    source: Source,
    input: Input,
    modality: str,
    rows: np.ndarray | None = None,
    progress: Progress | None = None,
    value_range: Range | None = None,
) -> CheckedSamples:
    """Check the samples among `rows` (all by default).

    `progress(done, total)` counts the rows of the source.
    """
    wanted = np.ones(source.num_rows, bool) if rows is None else np.isin(np.arange(source.num_rows), rows)
    checked, kind = CheckedSamples(hashes=np.zeros(source.num_rows, HASH)), MODALITIES[modality]
    with fitting(source, input), decoding_threads() as threads:
        for first, piece in stream_input(source, input, kind, threads):
            checked.hashes[first : first + len(piece)] = sample_hashes(list(piece.columns.values()), threads)
            picked = np.flatnonzero(wanted[first : first + len(piece)])
            for at, found in zip(picked.tolist(), kind.findings(piece.take(picked), threads, value_range), strict=True):
                if isinstance(found, str):
                    checked.reasons[first + at] = found
                elif isinstance(found, tuple):
                    checked.deep[first + at] = found
                elif found is True:
                    checked.clipped.append(first + at)
            if progress:
                progress(first + len(piece), source.num_rows)
    return checked

"""Texts, or pairs of texts: strings, or bytes that are UTF-8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deeptune.arrow import bare, half_character, is_bytes, is_text, is_uuid, reads_as_text, texts
from deeptune.data.images.bit_depth import Range
from deeptune.data.modalities.base import (
    BAD,
    BLANK,
    NOT_UTF8,
    SECOND,
    ColumnModality,
    Piece,
    SampleCheck,
    input_values,
    is_missing,
)
from deeptune.data.shown import ShownSample
from deeptune.errors import DataError
from deeptune.formatting import kind_of
from deeptune.spec.modalities import MODALITIES, Input, columns_of

if TYPE_CHECKING:
    from deeptune.data.sources.source import Source

LENGTH_ROWS = 5_000  # rows that the lengths of texts are taken from
TEXTS_AT_ONCE = 500
_PAIRS = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"), ("text1", "text2"),
    ("text_a", "text_b"), ("sentence_a", "sentence_b"), ("question", "answer"), ("query", "passage"),
)  # fmt: skip


class TextModality(ColumnModality):
    """Texts in a column of strings, or pairs of texts in two."""

    info = MODALITIES["text"]

    def takes(self, kind: pa.DataType) -> bool:
        return not is_uuid(kind) and (is_bytes(bare(kind)) or is_text(bare(kind)))

    def usual(self, kind: pa.DataType) -> bool:
        return self.takes(kind) and is_text(bare(kind))

    def recognises(self, values: pa.Array | pa.ChunkedArray) -> bool:
        """Check for texts; bytes may be text, as Impala, Hive and older Spark write it."""
        return self.usual(values.type) or (self.takes(values.type) and reads_as_text(values))

    def likeliest(self, names: Sequence[str], first: Mapping[str, pa.Array]) -> Input:
        """Return two columns that are usually read as a pair, or else the column with the longest strings."""
        for pair in _PAIRS:
            if set(pair) <= set(names):
                return list(pair)
        lengths = {
            name: pc.mean(pc.utf8_length(first[name])).as_py() or 0
            for name in names
            if name in first and is_text(first[name].type)
        }
        return max(lengths, key=lambda name: lengths[name]) if lengths else names[0]

    def column(self, samples: Sequence[Any]) -> pa.Array:
        """Return strings; None and NaN are missing."""
        return pa.array([_text(row, sample) for row, sample in enumerate(samples)], pa.large_string())

    def piece(self, source: Source, columns: Mapping[str, pa.Array], first: int, threads: ThreadPoolExecutor) -> Piece:
        return Piece({name: input_values(values) for name, values in columns.items()})

    def findings(
        self, piece: Piece, threads: ThreadPoolExecutor, value_range: Range | None = None
    ) -> Sequence[SampleCheck]:
        """Say why each text can't be used: it is null, blank or not UTF-8."""
        names = list(piece.columns)
        return [reason_of(flags, names) for flags in text_flags(list(piece.columns.values())).tolist()]

    def shown(
        self,
        source: Source,
        columns: Mapping[str, pa.Array],
        row: int,
        *,
        value_range: Range | None,
        pixels: int | None = None,
    ) -> ShownSample:
        parts = {name: input_values(values) for name, values in columns.items()}
        flags = int(text_flags(list(parts.values()))[0])
        if flags & BAD:
            raise DataError(str(reason_of(flags, list(parts))))
        found = {name: texts(values)[0].as_py() for name, values in parts.items()}
        return ShownSample(
            text="\n".join(found.values() if len(found) == 1 else (f"{name}: {text}" for name, text in found.items()))
        )

    def lengths(self, source: Source, input: Input) -> tuple[int, int, int] | None:
        lengths: list[int] = []
        for _, batch in source.stream_table(columns_of(input), rows=TEXTS_AT_ONCE):
            counts = [pc.utf8_length(texts(input_values(column))) for column in batch.columns]
            whole = counts[0] if len(counts) == 1 else pc.add(*counts)
            lengths += whole.drop_null().to_pylist()
            if len(lengths) >= LENGTH_ROWS:
                break
        lengths = lengths[:LENGTH_ROWS]
        if not lengths:
            return None
        return int(np.median(lengths)), int(np.percentile(lengths, 95)), max(lengths)


def text_flags(columns: Sequence[pa.Array]) -> np.ndarray:
    """Say why texts can't be used (uint32 (N,)), by their flags; 0 where each of the columns has one."""
    flags = np.zeros(len(columns[0]), np.uint32)
    for place, values in reversed(list(enumerate(columns))):
        found = texts(values)
        blank = pc.equal(pc.utf8_trim_whitespace(found), "")
        null = pc.is_null(values).to_numpy(zero_copy_only=False)
        unread = pc.is_null(found).to_numpy(zero_copy_only=False)
        own = np.where(pc.fill_null(blank, False).to_numpy(zero_copy_only=False), BLANK, 0)
        own = np.where(unread, np.where(null, BAD, BAD | NOT_UTF8), own)
        # The reason names the first bad text of a pair, and a null text before a blank one.
        worse = (own != 0) & ((own & BAD >= flags & BAD) | (flags == 0))
        flags = np.where(worse, own | (SECOND if place else 0), flags).astype(np.uint32)
    return flags


def reason_of(flags: int, names: Sequence[str]) -> str | None:
    """Say why a sample can't be used, by its flags; None where it can. Of a pair the column is named."""
    if not flags & (BAD | BLANK):
        return None
    reason = "is not UTF-8 text" if flags & NOT_UTF8 else "is null" if flags & BAD else "is blank"
    return reason if len(names) == 1 else f"{reason} in column {names[bool(flags & SECOND)]!r}"


def _text(row: int, sample: Any) -> str | None:
    if isinstance(sample, str):
        if (half := half_character(sample)) is not None:
            raise DataError(
                f"row {row} holds half a character ({half!r}), which no text in UTF-8 can hold",
                hint='Replace such halves: text.encode("utf-8", "replace").decode().',
            )
        return str(sample)
    if is_missing(sample):
        return None
    raise DataError(f"row {row} is {kind_of(sample)}", hint="A text is a string.")

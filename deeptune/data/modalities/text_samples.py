"""Texts as a backbone takes them: token ids, int32."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deeptune.arrow import texts
from deeptune.data.modalities import MODALITIES
from deeptune.data.modalities.base import BAD, CUT, Piece
from deeptune.data.modalities.text import reason_of, text_flags
from deeptune.data.samples import Samples, versions_of
from deeptune.data.source import Source
from deeptune.data.text import tokenise, tokenizer_identity
from deeptune.spec.modalities import Input, columns_of

if TYPE_CHECKING:
    from deeptune.backbones.base import TextPreprocessing

TEXTS_AT_ONCE = 2048
LETTERS_AT_ONCE = 4_000_000


class Texts(Samples):
    """Token ids."""

    modality = MODALITIES["text"]
    at_once = TEXTS_AT_ONCE
    done = "tokenised"

    def __init__(self, source: Source, input: Input, preprocessing: TextPreprocessing) -> None:
        super().__init__(source, input)
        self.preprocessing = preprocessing
        self.empty = tokenise([[""]], preprocessing.tokenizer, preprocessing.max_length).ids  # int32

    def make(self, piece: Piece, threads: ThreadPoolExecutor) -> tuple[bytes, np.ndarray, np.ndarray]:
        tokens = tokenise(_lists(texts(piece.values)), self.preprocessing.tokenizer, self.preprocessing.max_length)
        flags = text_flags(list(piece.columns.values())) | np.where(tokens.cut, CUT, 0)
        return tokens.ids.tobytes(), tokens.lengths * 4, flags.astype(np.uint32)

    def ingredients(self) -> dict[str, Any]:
        p = self.preprocessing
        what = {"tokenizer": tokenizer_identity(p.tokenizer), "max_length": p.max_length}
        return {"samples": "tokens", **what, "versions": versions_of("transformers", "tokenizers")}

    def about(self) -> str:
        kind = type(self.preprocessing.tokenizer).__name__
        return f"token ids, {kind}, {self.preprocessing.max_length} tokens"

    @property
    def expected_bytes(self) -> int:
        return self.source.claimed_bytes  # a token of 4 bytes stands for about 4 letters

    def reason(self, row: int) -> str:
        return str(reason_of(int(self.records.flags[row]), columns_of(self.input)))

    def require_texts(self, rows: np.ndarray) -> None:
        """Raise DataError for the first of some rows whose text is null."""
        null = rows[self.records.flags[rows] & BAD != 0]
        if len(null):
            raise self.unusable(int(null[0]))

    def ids(self, row: int, blank: AbstractSet[int] = frozenset()) -> np.ndarray:
        """int32; those of no text for rows in `blank`."""
        return self.empty if row in blank else self.read(row).view(np.int32)

    def lengths(self, rows: np.ndarray, blank: AbstractSet[int] = frozenset()) -> np.ndarray:
        """Tokens of each of some rows, as kept (int64)."""
        empty = np.isin(rows, list(blank))
        return np.where(empty, len(self.empty), self.records.lengths[rows] // 4)

    def remarks(self, rows: np.ndarray) -> list[str]:
        cut, longest = self.cut(rows), self.preprocessing.max_length
        if not cut:
            return []
        return [f"{cut:,} of {len(rows):,} texts are longer than {longest:,} tokens and were cut"]

    def cut(self, rows: np.ndarray, blank: AbstractSet[int] = frozenset()) -> int:
        """How many of some rows lost tokens to the greatest length."""
        return int(((self.records.flags[rows] & CUT != 0) & ~np.isin(rows, list(blank))).sum())


def _lists(values: pa.Array) -> Iterator[list[str]]:
    """Texts in lists of about LETTERS_AT_ONCE bytes: a tokenizer takes many times their size while it works on them."""
    sizes = pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    numbers = (np.cumsum(sizes) - sizes) // LETTERS_AT_ONCE
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
        yield [text or "" for text in values.slice(start, end - start).to_pylist()]

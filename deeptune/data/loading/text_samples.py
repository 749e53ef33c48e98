"""Texts as a backbone takes them: token ids, int32."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from deeptune.arrow import texts
from deeptune.data.loading.dataset import Inputs, SampleOptions
from deeptune.data.loading.samples import StoredSamples, versions_of
from deeptune.data.loading.tokenise import Tokens, collate, padded_width, tokenise, tokenizer_identity
from deeptune.data.modalities import COLUMN_MODALITIES
from deeptune.data.modalities.base import BAD, CUT, Piece
from deeptune.data.modalities.text import reason_of, text_flags
from deeptune.data.sources.source import Source
from deeptune.spec.modalities import Input, columns_of

if TYPE_CHECKING:
    from deeptune.data.loading.preprocessing import TextPreprocessing

TEXTS_AT_ONCE = 2048
LETTERS_AT_ONCE = 4_000_000


class Texts(StoredSamples):
    """Token ids of texts, or of pairs of texts; of pairs with the token type of each where the backbone reads these.

    A row is stored as its ids (4 bytes each), then its types (1 byte each).
    """

    modality = COLUMN_MODALITIES["text"]
    at_once = TEXTS_AT_ONCE
    done = "tokenised"

    def __init__(self, source: Source, input: Input, preprocessing: TextPreprocessing) -> None:
        super().__init__(source, input)
        self.preprocessing = preprocessing
        self.columns = columns_of(input)
        self.pairs = len(self.columns) > 1
        self.typed = self.pairs and preprocessing.token_types
        self.token_bytes = 5 if self.typed else 4
        if self.pairs:
            preprocessing.require_room_for_pairs()
        self._blank = self._records(self._tokenise([[("", "")] if self.pairs else [""]]))

    def _tokenise(self, some: Iterable[Any]) -> Tokens:
        return tokenise(some, self.preprocessing.tokenizer, self.preprocessing.max_length, types=self.typed)

    def _records(self, tokens: Tokens) -> bytes:
        """Encode rows for the store, end to end."""
        if tokens.types is None:
            return tokens.ids.tobytes()
        spans = [slice(*ends) for ends in itertools.pairwise(tokens.offsets.tolist())]
        return b"".join(tokens.ids[span].tobytes() + tokens.types[span].tobytes() for span in spans)

    def make(self, piece: Piece, threads: ThreadPoolExecutor) -> tuple[bytes, np.ndarray, np.ndarray]:
        columns = list(piece.columns.values())
        tokens = self._tokenise(_lists([texts(values) for values in columns]))
        flags = text_flags(columns) | np.where(tokens.cut, CUT, 0)
        return self._records(tokens), tokens.lengths * self.token_bytes, flags.astype(np.uint32)

    def ingredients(self) -> dict[str, Any]:
        p = self.preprocessing
        what = {"tokenizer": tokenizer_identity(p.tokenizer), "max_length": p.max_length, "types": self.typed}
        return {"samples": "tokens", **what, "versions": versions_of("transformers", "tokenizers")}

    def about(self) -> str:
        kind = type(self.preprocessing.tokenizer).__name__
        pairs = " of pairs" if self.pairs else ""
        return f"token ids{pairs}, {kind}, {self.preprocessing.max_length} tokens"

    @property
    def expected_bytes(self) -> int:
        return self.source.claimed_bytes  # a token of 4 bytes stands for about 4 letters

    def reason(self, row: int) -> str:
        return str(reason_of(int(self.records.flags[row]), self.columns))

    def inputs(self, options: SampleOptions) -> Inputs:
        return TextInputs(self, options)

    def require_texts(self, rows: np.ndarray) -> None:
        """Raise DataError for the first of some rows whose text is null."""
        null = rows[self.records.flags[rows] & BAD != 0]
        if len(null):
            raise self.unusable(int(null[0]))

    def ids(self, row: int, blank: AbstractSet[int] = frozenset()) -> np.ndarray:
        """Return token ids (int32) of a row; those of no text for rows in `blank`."""
        return self._tokens(row, blank)[0]

    def _tokens(self, row: int, blank: AbstractSet[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return token ids (int32) and types (uint8, none where these are not stored) of a row."""
        stored = np.frombuffer(self._blank, np.uint8) if row in blank else self.read(row)
        end = 4 * (len(stored) // self.token_bytes)
        return stored[:end].view(np.int32), stored[end:]

    def batch(self, rows: np.ndarray, blank: AbstractSet[int], width: Callable[[int], int]) -> dict[str, Tensor]:
        """Collate rows for a backbone, padded to `width` of the longest (`collate`)."""
        ids, types = zip(*(self._tokens(row, blank) for row in rows.tolist()), strict=True)
        return collate(list(ids), self.preprocessing.pad_id, width, types=list(types) if self.typed else None)

    def lengths(self, rows: np.ndarray, blank: AbstractSet[int] = frozenset()) -> np.ndarray:
        """Count the tokens of each of some rows, as kept (int64)."""
        empty = np.isin(rows, list(blank))
        return np.where(empty, len(self._blank), self.records.lengths[rows]) // self.token_bytes

    def remarks(self, rows: np.ndarray) -> list[str]:
        cut, longest = self.cut(rows), self.preprocessing.max_length
        if not cut:
            return []
        what = "pairs of texts" if self.pairs else "texts"
        return [f"{cut:,} of {len(rows):,} {what} are longer than {longest:,} tokens and were cut"]

    def cut(self, rows: np.ndarray, blank: AbstractSet[int] = frozenset()) -> int:
        """Count the rows that lost tokens to the greatest length."""
        return int(((self.records.flags[rows] & CUT != 0) & ~np.isin(rows, list(blank))).sum())


class TextInputs(Inputs):
    """Texts: {"input_ids", "attention_mask": int64 (B, T)}, and of pairs "token_type_ids"."""

    def __init__(self, samples: Texts, options: SampleOptions) -> None:
        self.samples, self.blank, self.pad_multiple = samples, options.blank, options.pad_multiple
        self.max_length = samples.preprocessing.max_length

    def batch(self, rows: np.ndarray, epoch: int) -> dict[str, Tensor]:
        return self.samples.batch(rows, self.blank, self.padded_width)

    def lengths(self, rows: np.ndarray) -> np.ndarray | None:
        self.samples.require_texts(np.setdiff1d(rows, list(self.blank)))
        return self.samples.lengths(rows, self.blank)

    def truncated(self, rows: np.ndarray) -> int:
        return self.samples.cut(rows, self.blank)

    def padded_width(self, longest: int) -> int:
        return padded_width(longest, self.pad_multiple, self.max_length)


def _lists(columns: Sequence[pa.Array]) -> Iterator[list[Any]]:
    """Yield texts, or pairs of texts, in lists of about LETTERS_AT_ONCE bytes.

    A tokenizer takes many times their size.
    """
    sizes = np.zeros(len(columns[0]), np.int64)
    for values in columns:
        sizes += pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False)
    numbers = (np.cumsum(sizes) - sizes) // LETTERS_AT_ONCE
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(sizes)], strict=True):
        parts = [[text or "" for text in values.slice(start, end - start).to_pylist()] for values in columns]
        yield parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))

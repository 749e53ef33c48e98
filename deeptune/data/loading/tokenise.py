"""Texts to token ids, once and in bulk, and to padded batches."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from deeptune.data.cache.entry import CacheRefused

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Tokens:
    """Token ids of N texts end to end, 4 bytes each: those of text i are `ids[offsets[i] : offsets[i + 1]]`.

    ids: int32; offsets: int64 (N + 1,); cut: bool (N,), which texts lost some; types: uint8, the token type of each id,
    where these were asked for.
    """

    ids: np.ndarray
    offsets: np.ndarray
    cut: np.ndarray
    types: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.cut)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text (int64), as kept."""
        return np.diff(self.offsets)


def tokenise(
    texts: Iterable[list[str] | list[tuple[str, str]]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    types: bool = False,
) -> Tokens:
    """Tokenise each text or pair of texts, and add the special tokens of the tokenizer.

    `texts` comes in lists of texts or of pairs, each of which the fast tokenizer works on in parallel. A sample is cut
    to `max_length` tokens in the tokenizer's own way, so that closing special tokens stay; of a pair the longer text is
    cut first. `types` asks for token types too.
    """
    # Said outright, as older versions of tokenizers otherwise warn when a process forks later on.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    ids: list[np.ndarray] = []
    lengths: list[int] = []
    token_types: list[np.ndarray] = []
    cut: list[bool] = []
    for some in texts:
        if not some:
            continue
        encoded = tokenizer(
            *_columns(some),
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=types,
        )
        found = encoded["input_ids"]
        lengths += map(len, found)
        ids.append(np.fromiter(itertools.chain.from_iterable(found), np.int32, sum(map(len, found))))
        if types:
            joined = itertools.chain.from_iterable(encoded["token_type_ids"])
            token_types.append(np.fromiter(joined, np.uint8, sum(map(len, found))))
        if encoded.encodings:
            cut += (bool(encoding.overflowing) for encoding in encoded.encodings)
        else:
            cut += (
                len(ids_of_one) == max_length and _is_longer(tokenizer, sample, max_length)
                for ids_of_one, sample in zip(found, some, strict=True)
            )
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    flat = np.concatenate(ids) if ids else np.zeros(0, np.int32)
    every_type = np.concatenate([np.zeros(0, np.uint8), *token_types]) if types else None
    return Tokens(flat, offsets, np.array(cut, bool), every_type)


def _columns(some: list[str] | list[tuple[str, str]]) -> list[list[str]]:
    """Return a list of texts, or the first and the second texts of pairs."""
    return [[*column] for column in zip(*some, strict=True)] if isinstance(some[0], tuple) else [some]  # type: ignore


def _is_longer(tokenizer: PreTrainedTokenizerBase, sample: Sequence[str], max_length: int) -> bool:
    """Check whether a text or a pair has more tokens: a tokenizer written in Python does not say that it cut one."""
    parts = (sample,) if isinstance(sample, str) else sample
    return len(tokenizer(*parts, truncation=False, verbose=False)["input_ids"]) > max_length


def tokenizer_identity(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return what decides the ids. Raises CacheRefused where nothing tells one tokenizer of a class from another."""
    return {
        "tokenizer": _digest(tokenizer),
        "kind": type(tokenizer).__name__,
        "sides": [tokenizer.truncation_side, tokenizer.padding_side],
    }


_digests: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, str]] = WeakKeyDictionary()


def _digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256 of all settings but those of the last call. It takes a tenth of a second, so it is kept."""
    size, known = _digests.get(tokenizer, (-1, ""))
    if size == len(tokenizer):  # no token was added since
        return known
    if hasattr(tokenizer, "backend_tokenizer"):
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        ignored = ["truncation", "padding"]  # set by each call
    elif not tokenizer.vocab_files_names:  # of bytes or characters: its settings are all that there is
        content = dict(tokenizer.init_kwargs)
        ignored = ["name_or_path", "is_local", "local_files_only"]  # where it was found
    else:
        raise CacheRefused(f"a {type(tokenizer).__name__} has no files or settings that distinguish it from others")
    for name in ignored:
        content.pop(name, None)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    _digests[tokenizer] = len(tokenizer), digest
    return digest


def padded_width(longest: int, multiple: int = 1, most: int | None = None) -> int:
    """Return how many tokens wide a batch is; never 0.

    It is its longest text, rounded up to a multiple, but not beyond `most`, as a model may have no more places.
    """
    longest = max(1, longest)
    rounded = -(-longest // multiple) * multiple
    return rounded if most is None else max(longest, min(rounded, most))


def collate(
    ids: list[np.ndarray],
    pad_id: int,
    width: Callable[[int], int] = padded_width,
    *,
    types: list[np.ndarray] | None = None,
) -> dict[str, Tensor]:
    """Pad texts to a batch: `input_ids`, `attention_mask` and, with `types`, `token_type_ids`.

    Each is int64 (B, T), padded on the right to `width` of the longest.

    A text without any token becomes one padding token that is attended to, so that no row is all padding.
    """
    lengths = np.array([len(one) for one in ids])
    inside = np.arange(width(int(lengths.max()))) < lengths[:, None]
    input_ids = np.full(inside.shape, pad_id, np.int64)
    input_ids[inside] = np.concatenate(ids)
    found = {"input_ids": torch.from_numpy(input_ids)}
    if types is not None:
        token_types = np.zeros(inside.shape, np.int64)
        token_types[inside] = np.concatenate(types)
        found["token_type_ids"] = torch.from_numpy(token_types)
    inside[:, 0] = True
    return {**found, "attention_mask": torch.from_numpy(inside.astype(np.int64))}

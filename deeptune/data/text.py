"""Texts to token ids, once and in bulk, and to padded batches."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenise(
    texts: Iterable[list[str]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[list[np.ndarray], int]:
    """Token ids (int32) of each text, special tokens included as the tokenizer adds them, and how many were cut.

    `texts` comes in lists, each of which the fast tokenizer works on in parallel. A text is cut to `max_length`
    tokens in the tokenizer's own way, so that closing special tokens stay.
    """
    # Said outright, as older versions of tokenizers otherwise warn when a process forks later on.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    ids: list[np.ndarray] = []
    truncated = 0
    for some in texts:
        if not some:
            continue
        encoded = tokenizer(
            some,
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        ids += [np.array(one, np.int32) for one in encoded["input_ids"]]
        truncated += sum(bool(encoding.overflowing) for encoding in encoded.encodings or ())
    return ids, truncated


def collate(ids: list[np.ndarray], pad_id: int) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`, int64 (B, T), padded on the right to the longest of the batch.

    A text without any token becomes one padding token that is attended to, so that no row is all padding.
    """
    longest = max(1, *map(len, ids))
    input_ids = np.full((len(ids), longest), pad_id, np.int64)
    mask = np.zeros((len(ids), longest), np.int64)
    for row, one in enumerate(ids):
        input_ids[row, : len(one)] = one
        mask[row, : max(1, len(one))] = 1
    return {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(mask)}

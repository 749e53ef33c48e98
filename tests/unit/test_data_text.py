"""Tokenising in bulk, cutting, and padding."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from deeptune.data.loading.tokenise import collate, padded_width, tokenise


def test_ids_with_special_tokens_and_cut_texts(tokenizer):
    tokens = tokenise([["a good film", "a bad bad bad film"], [], ["oh", ""]], tokenizer, 5)
    assert [tokens[i].tolist() for i in range(len(tokens))] == [[2, 4, 5, 7, 3], [2, 4, 6, 6, 3], [2, 1, 3], [2, 3]]
    assert tokens.lengths.tolist() == [5, 5, 3, 2]
    assert tokens.cut.tolist() == [False, True, False, False]


def test_ids_take_four_bytes_a_token(tokenizer):
    tokens = tokenise([["a good film"] * 1000] * 3, tokenizer, 8)
    assert (tokens.ids.dtype, tokens.ids.nbytes) == (np.int32, 4 * 5 * 3000)
    assert tokens.offsets.dtype == np.int64
    assert tokens[2999].base is not None  # a view, not a copy


def test_no_texts_at_all(tokenizer):
    tokens = tokenise([], tokenizer, 8)
    assert (len(tokens), tokens.lengths.tolist(), len(tokens.ids)) == (0, [], 0)


def test_a_tokenizer_without_special_tokens(bare_tokenizer):
    tokens = tokenise([["a good film", ""]], bare_tokenizer, 2)
    assert [tokens[0].tolist(), tokens[1].tolist()] == [[4, 5], []]
    assert tokens.cut.tolist() == [True, False]


def test_padding_is_on_the_right_and_to_the_longest():
    batch = collate([np.array([2, 4, 3], np.int32), np.array([2, 3], np.int32), np.array([9], np.int32)], pad_id=50256)
    assert batch["input_ids"].tolist() == [[2, 4, 3], [2, 3, 50256], [9, 50256, 50256]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    assert {value.dtype for value in batch.values()} == {torch.int64}


def test_a_text_without_tokens_is_attended_to_somewhere():
    nothing = np.array([], np.int32)
    batch = collate([nothing, np.array([4, 5], np.int32)], pad_id=0)
    assert batch["input_ids"].tolist() == [[0, 0], [4, 5]]
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert collate([nothing], pad_id=7)["input_ids"].tolist() == [[7]]


@pytest.mark.parametrize(
    ("longest", "multiple", "most", "width"),
    [(0, 1, None, 1), (5, 1, 512, 5), (1, 8, 512, 8), (8, 8, 512, 8), (9, 8, 512, 16), (9, 8, 12, 12), (12, 8, 12, 12)],
)
def test_a_batch_is_rounded_up_but_not_beyond_what_the_model_takes(longest, multiple, most, width):
    assert padded_width(longest, multiple, most) == width


def test_the_same_as_the_tokenizers_own_padding(tokenizer):
    texts = ["a good film", "bad", "a a a a a a a a", "film good"]
    tokens = tokenise([texts], tokenizer, 6)
    theirs = tokenizer(texts, padding=True, truncation=True, max_length=6, return_tensors="pt", padding_side="right")
    ours = collate([tokens[i] for i in range(4)], 0)
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert torch.equal(ours["attention_mask"], theirs["attention_mask"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_after_tokenising_warns_of_nothing(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    code = """
import os, sys
from transformers import PreTrainedTokenizerFast
from deeptune.data.loading.tokenise import tokenise
tokenizer = PreTrainedTokenizerFast.from_pretrained(sys.argv[1])
tokenise([["a good film"] * 500], tokenizer, 8)
child = os.fork()
if child == 0:
    os._exit(0 if tokenizer("a")["input_ids"] == [2, 4, 3] else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    env = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=env, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stderr == ""

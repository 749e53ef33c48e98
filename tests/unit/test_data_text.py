"""Tokenising in bulk, cutting, and padding."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from deeptune.data.text import collate, tokenise

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film"]


def tokenizer(special: bool = True) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")


def test_ids_with_special_tokens_and_cut_texts():
    ids, truncated = tokenise([["a good film", "a bad bad bad film"], [], ["oh", ""]], tokenizer(), 5)
    assert [one.tolist() for one in ids] == [[2, 4, 5, 7, 3], [2, 4, 6, 6, 3], [2, 1, 3], [2, 3]]
    assert {one.dtype for one in ids} == {np.dtype(np.int32)}
    assert truncated == 1


def test_a_tokenizer_without_special_tokens():
    ids, truncated = tokenise([["a good film", ""]], tokenizer(special=False), 2)
    assert [one.tolist() for one in ids] == [[4, 5], []]
    assert truncated == 1


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


def test_the_same_as_the_tokenizers_own_padding():
    texts = ["a good film", "bad", "a a a a a a a a", "film good"]
    ids, _ = tokenise([texts], tokenizer(), 6)
    theirs = tokenizer()(texts, padding=True, truncation=True, max_length=6, return_tensors="pt", padding_side="right")
    ours = collate(ids, 0)
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert torch.equal(ours["attention_mask"], theirs["attention_mask"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_after_tokenising_warns_of_nothing(tmp_path):
    code = """
import os
from test_data_text import tokenizer
from deeptune.data.text import tokenise
tokenise([["a good film"] * 500], tokenizer(), 8)
if os.fork() == 0:
    tokenizer()("a")
    os._exit(0)
os.wait()
"""
    env = {k: v for k, v in os.environ.items() if k != "TOKENIZERS_PARALLELISM"}
    env["PYTHONPATH"] = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""

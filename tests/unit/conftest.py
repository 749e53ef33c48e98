"""Small real things that several unit tests need."""

from __future__ import annotations

import pytest
from pictures import png
from tokenizers import Tokenizer, models, pre_tokenizers, processors


def _words(special: bool):
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        frame = [("[CLS]", 2), ("[SEP]", 3)]
        core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")


@pytest.fixture
def tokenizer():
    """Eight words: [PAD] [UNK] [CLS] [SEP] a good bad film are 0 … 7; texts are framed by [CLS] and [SEP]."""
    return _words(special=True)


@pytest.fixture
def bare_tokenizer():
    """The same words without special tokens around a text."""
    return _words(special=False)


@pytest.fixture
def tokens(tokenizer):
    from deeptune.data.loading.preprocessing import TextPreprocessing

    return TextPreprocessing(tokenizer, max_length=5, pad_id=0)


@pytest.fixture
def photos(tmp_path):
    for name in ("cats/1.png", "cats/2.png", "dogs/old/3.png", "dogs/4.png"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(colour=(len(name), int(name[-5]), 0)))
    return tmp_path / "photos"

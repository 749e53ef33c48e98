"""A tiny text backbone in a folder of its own, as `hf:FOLDER` reads it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def review_bert(tmp_path_factory):
    """Two layers of BERT, random weights, with a word-piece tokenizer trained on the sample's own texts."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    from deeptune.data.source import Source

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    trained = BertWordPieceTokenizer(lowercase=True)
    texts = Source.open("sample:movie_snippets").column("text").slice(0, 400).to_pylist()
    trained.train_from_iterator(texts, vocab_size=600, show_progress=False)
    tokenizer = BertTokenizerFast(tokenizer_object=trained._tokenizer, model_max_length=64)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=48, max_position_embeddings=64,
        )  # fmt: skip
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder

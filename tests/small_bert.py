"""A BERT that is small enough to train in a test."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def save_small_bert(folder: Path, texts: Iterable[str], *, vocabulary: int, limit: int, **config: Any) -> Path:
    """Save two layers of BERT with random weights and a tokenizer trained on `texts`, of at most `limit` tokens each.

    `config` are settings of transformers' BertConfig, such as dropout.
    """
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    learned = BertWordPieceTokenizer(lowercase=True)
    learned.train_from_iterator(texts, vocab_size=vocabulary, show_progress=False)
    tokenizer = BertTokenizerFast(tokenizer_object=learned._tokenizer, model_max_length=limit)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        settings = BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=48, max_position_embeddings=limit, **config,
        )  # fmt: skip
        BertModel(settings, add_pooling_layer=False).save_pretrained(folder)
    return folder

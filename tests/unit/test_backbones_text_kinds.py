"""Text models that are nearly like BERT: their tokenizers, the names in their weight files, their longest text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hub import TEXTS, save_bert_tokenizer, save_tiny_bert
from safetensors.torch import load_file, save_file
from torch import Tensor

from deeptune.backbones import load_backbone
from deeptune.data.loading.tokenise import tokenise, tokenizer_identity
from deeptune.errors import WeightsError
from deeptune.fetching.hub import has_tokenizer
from deeptune.spec.run_spec import BackboneSpec

T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
CANINE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def load(folder: Path, **options: Any) -> Any:
    return load_backbone(BackboneSpec(name=f"hf:{folder}", **options))


def batch_of(backbone: Any, texts: list[str]) -> dict[str, Tensor]:
    ids = [backbone.preprocessing.tokenizer(text)["input_ids"] for text in texts]
    longest = max(map(len, ids))
    pad = backbone.preprocessing.pad_id
    mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in ids])
    return {"input_ids": torch.tensor([one + [pad] * (longest - len(one)) for one in ids]), "attention_mask": mask}


# Tokenizers.


def save_byt5(folder: Path) -> None:
    transformers.ByT5Tokenizer().save_pretrained(folder)
    transformers.T5Config(vocab_size=384, **T5).save_pretrained(folder)


def save_canine(folder: Path) -> None:
    transformers.CanineTokenizer().save_pretrained(folder)
    transformers.CanineConfig(num_hash_buckets=64, **CANINE).save_pretrained(folder)


@pytest.mark.parametrize("save", [save_byt5, save_canine])
def test_a_tokenizer_of_bytes_or_characters_needs_no_vocabulary_file(save: Any, tmp_path: Path) -> None:
    save(tmp_path)
    assert has_tokenizer(tmp_path)
    backbone = load(tmp_path, weights="random")
    with torch.no_grad():
        batch = batch_of(backbone, ["a", "", "good acting and a good plot"])
        together = backbone(batch)
        alone = torch.cat([backbone(batch_of(backbone, [text])) for text in ("a", "", "good acting and a good plot")])
    assert torch.allclose(together, alone, atol=1e-5)


def test_settings_of_another_tokenizer_are_no_vocabulary(tmp_path: Path) -> None:
    save_bert_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert not has_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[1]")
    assert not has_tokenizer(tmp_path)


def test_a_tokenizer_file_alone_is_a_tokenizer(tmp_path: Path) -> None:
    """No settings name a padding token then; the configuration does."""
    save_tiny_bert(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "special_tokens_map.json").unlink(missing_ok=True)
    backbone = load(tmp_path)
    assert backbone.preprocessing.pad_id == 0
    assert backbone.preprocessing.tokenizer(TEXTS[1])["input_ids"][0] == 2


def test_a_python_tokenizer_tells_which_texts_it_cut() -> None:
    tokens = tokenise([["good", "goods", "a good film"]], transformers.ByT5Tokenizer(), 5)
    assert tokens.lengths.tolist() == [5, 5, 5]
    np.testing.assert_array_equal(tokens.cut, [False, True, True])


def test_tokenizers_of_bytes_are_told_apart_by_their_settings(tmp_path: Path) -> None:
    first, other = transformers.ByT5Tokenizer(), transformers.ByT5Tokenizer(extra_ids=7)
    first.save_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    twice = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer_identity(again) == tokenizer_identity(twice) != tokenizer_identity(other)


# Weights.


@pytest.mark.parametrize("kept", ["encoder", "shared"])
def test_a_checkpoint_of_the_encoder_alone_loads(kept: str, tmp_path: Path) -> None:
    """T5EncoderModel writes its configuration as one without a decoder; the table of tokens has two names."""
    tokens = save_bert_tokenizer(tmp_path)
    torch.manual_seed(0)
    trained = transformers.T5EncoderModel(transformers.T5Config(vocab_size=tokens, **T5)).eval()
    trained.save_pretrained(tmp_path)
    assert not json.loads((tmp_path / "config.json").read_text())["is_encoder_decoder"]
    if kept == "encoder":
        state = load_file(tmp_path / "model.safetensors")
        state["encoder.embed_tokens.weight"] = state.pop("shared.weight")
        save_file(state, tmp_path / "model.safetensors")
    backbone = load(tmp_path)
    batch = batch_of(backbone, [TEXTS[0]])
    with torch.no_grad():
        torch.testing.assert_close(backbone.features(batch), trained(**batch).last_hidden_state)
    assert (backbone.width, backbone.pooling) == (32, "mean")


def test_an_encoder_saved_as_a_module_of_its_own_loads(tmp_path: Path) -> None:
    tokens = save_bert_tokenizer(tmp_path)
    config = transformers.BartConfig(
        vocab_size=tokens, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    trained = transformers.BartModel(config).eval().encoder
    config.save_pretrained(tmp_path)
    save_file({k: v.clone() for k, v in trained.state_dict().items()}, tmp_path / "model.safetensors")
    backbone = load(tmp_path)
    batch = batch_of(backbone, [TEXTS[0]])
    with torch.no_grad():
        torch.testing.assert_close(backbone.features(batch), trained(**batch).last_hidden_state)


def test_a_missing_weight_of_the_encoder_is_an_error(tmp_path: Path) -> None:
    tokens = save_bert_tokenizer(tmp_path)
    transformers.T5EncoderModel(transformers.T5Config(vocab_size=tokens, **T5)).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["encoder.block.1.layer.0.SelfAttention.q.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 missing: encoder\.block\.1\.layer\.0\.SelfAttention\.q\.weight"):
        load(tmp_path)


@pytest.mark.parametrize("prefix", ["", "bert.", "model.bert.", "0.auto_model.", "module.encoder.bert."])
def test_names_in_a_weight_file_may_have_any_prefix(prefix: str, tmp_path: Path) -> None:
    expected = load(save_tiny_bert(tmp_path)).fingerprint
    whole = load_file(tmp_path / "model.safetensors")
    state = {
        prefix + name.removeprefix("bert."): tensor for name, tensor in whole.items() if name.startswith("bert.")
    }  # the encoder alone, without pooler and without the head of pretraining
    save_file(state, tmp_path / "model.safetensors")
    assert load(tmp_path).fingerprint == expected


def test_names_of_another_model_are_refused(tmp_path: Path) -> None:
    save_tiny_bert(tmp_path)
    save_file({"layers.0.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="does not fit the backbone"):
        load(tmp_path)


# The longest text.


def test_a_sentence_encoders_own_length_is_its_default(tmp_path: Path) -> None:
    save_tiny_bert(tmp_path)
    assert load(tmp_path).preprocessing.max_length == 64
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 24, "do_lower_case": false}')
    assert load(tmp_path).preprocessing.max_length == 24
    assert load(tmp_path, max_length=40).preprocessing.max_length == 40


@pytest.mark.parametrize("content", ['{"max_seq_length": null}', "[]", "{", '{"max_seq_length": -1}', "{}"])
def test_settings_of_a_sentence_encoder_without_a_length_change_nothing(content: str, tmp_path: Path) -> None:
    save_tiny_bert(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text(content)
    assert load(tmp_path).preprocessing.max_length == 64


# BigBird.


def test_bigbirds_attention_does_not_depend_on_the_texts_before(tmp_path: Path) -> None:
    """It turns to full attention at the first short text, for good."""
    tokens = save_bert_tokenizer(tmp_path, limit=200)
    config = transformers.BigBirdConfig(
        vocab_size=tokens, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=200, block_size=4, num_random_blocks=1, attention_type="block_sparse",
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    long = {"input_ids": torch.randint(5, 15, (1, 160)), "attention_mask": torch.ones(1, 160, dtype=torch.int64)}
    short = {name: value[:, :8] for name, value in long.items()}
    backbone = load(tmp_path, weights="random")
    with torch.no_grad():
        before = backbone(long)
        backbone(short)
        assert torch.equal(backbone(long), before)

"""Networks in which padding reaches the text: their texts pass by length, and what was found out is found out once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hub import save_bert_tokenizer, save_tiny_bert
from torch import Tensor

from deeptune.backbones import load_backbone
from deeptune.backbones.transformers import TransformersBackbone
from deeptune.backbones.unpadded import by_length
from deeptune.data.cache.entry import cache_folder
from deeptune.errors import CheckpointError, WeightsError
from deeptune.model.build import build_model
from deeptune.spec.run_spec import BackboneSpec, DataSpec, RunSpec, TuningSpec

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "max_position_embeddings": 64}


def save_fnet(folder: Path) -> Path:
    """FNet mixes tokens by a Fourier transform over all that stand in a row, and has no mask."""
    tokens = save_bert_tokenizer(folder)
    transformers.FNetConfig(vocab_size=tokens, pad_token_id=0, **SMALL).save_pretrained(folder)
    return folder


def save_opt(folder: Path) -> Path:
    """OPT as in its 350M size: what comes out is narrower than the hidden states."""
    tokens = save_bert_tokenizer(folder)
    config = transformers.OPTConfig(
        vocab_size=tokens, hidden_size=32, word_embed_proj_dim=16, num_hidden_layers=2, ffn_dim=64,
        num_attention_heads=2, max_position_embeddings=64, pad_token_id=0, bos_token_id=2, eos_token_id=3,
        do_layer_norm_before=False,
    )  # fmt: skip
    config.save_pretrained(folder)
    return folder


def load(folder: Path, **options: Any) -> Any:
    return load_backbone(BackboneSpec(name=f"hf:{folder}", weights="random"), **options)


def texts(lengths: list[int]) -> dict[str, Tensor]:
    ids = torch.randint(5, 14, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def test_texts_of_one_length_pass_together_and_without_padding() -> None:
    seen = []

    def function(inputs: dict[str, Tensor]) -> Tensor:
        seen.append(tuple(inputs["input_ids"].shape))
        assert inputs["attention_mask"].all()
        return inputs["input_ids"].unsqueeze(-1).float()

    batch = texts([4, 2, 4, 7, 2])
    found = by_length(function, batch)
    assert seen == [(2, 2), (2, 4), (1, 7)]
    assert torch.equal(found.squeeze(-1).long(), batch["input_ids"])  # each in its place, and 0 beyond its end


def test_short_texts_are_padded_to_what_the_network_needs() -> None:
    widths = []

    def function(inputs: dict[str, Tensor]) -> Tensor:
        widths.append(inputs["input_ids"].shape[1])
        return inputs["input_ids"].unsqueeze(-1).float()

    found = by_length(function, texts([2, 1]), shortest=4, pad_id=9)
    assert widths == [4]
    assert found.shape == (2, 2, 1)


def test_a_text_without_a_token_counts_as_one_token() -> None:
    batch = texts([3, 1])
    batch["attention_mask"][1] = 0
    assert by_length(lambda inputs: inputs["input_ids"].unsqueeze(-1).float(), batch).shape == (2, 3, 1)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_gradient_is_that_of_texts_which_pass_one_by_one(method: str, tmp_path: Path) -> None:
    spec = BackboneSpec(name=f"hf:{save_fnet(tmp_path)}", weights="random")
    run = RunSpec(data=DataSpec(path="x"), backbone=spec, tuning=TuningSpec(method=method))  # type: ignore[arg-type]
    model = build_model(run, load_backbone(spec), 2).eval()
    batch = texts([3, 9, 6])
    model(batch).square().sum().backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    net = model.backbone.net
    for row, length in enumerate([3, 9, 6]):  # by the library itself
        vectors = net(input_ids=batch["input_ids"][row : row + 1, :length]).last_hidden_state
        model.head(vectors.mean(1)).square().sum().backward()
    assert found
    for name, parameter in model.named_parameters():
        if name in found:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_the_log_says_that_texts_pass_without_padding(tmp_path: Path) -> None:
    (note,) = load(save_fnet(tmp_path / "fnet")).notes
    assert "batches of equal length, without padding" in note
    assert load(save_tiny_bert(tmp_path / "bert")).notes == []


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_width_is_that_of_what_comes_out(device: str, tmp_path: Path) -> None:
    backbone = load(save_opt(tmp_path), device=device)
    assert backbone.net.config.hidden_size == 32
    assert backbone.width == 16


def test_what_was_found_is_kept_for_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    folder = save_fnet(tmp_path / "fnet")
    first = load(folder)
    (kept,) = (cache_folder() / "probes").glob("*.json")
    monkeypatch.setattr(TransformersBackbone, "run", lambda *_: pytest.fail("a token passed"))
    again = load(folder)
    assert (again.width, again.padding_reaches, again.notes) == (first.width, True, first.notes)
    monkeypatch.undo()
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    for damaged in ("{", "[]", '{"found": 3}', '{"found": {"width": 3}}'):
        kept.write_text(damaged)
        assert load(folder).padding_reaches
        assert json.loads(kept.read_text())["found"]["padding_reaches"]
    load(folder, seed=1)
    assert len(list((cache_folder() / "probes").glob("*.json"))) == 2  # other weights


def test_a_cache_that_cannot_be_written_costs_a_pass_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "file"))
    assert load(save_fnet(tmp_path / "fnet")).padding_reaches


def test_a_run_goes_by_what_was_found_when_it_started(tmp_path: Path) -> None:
    """The padding token's row of MobileBERT may be zero before training, and any number afterwards."""
    load(save_fnet(tmp_path / "fnet")).save_config(tmp_path / "config")
    stored = json.loads((tmp_path / "config" / "probe.json").read_text())
    assert stored == {"width": 32, "shortest": 1, "padding_reaches": True}
    (tmp_path / "config" / "probe.json").write_text(json.dumps(stored | {"padding_reaches": False}))
    assert not load(tmp_path / "fnet", config_dir=tmp_path / "config").padding_reaches
    (tmp_path / "config" / "probe.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"probe\.json cannot be read"):
        load(tmp_path / "fnet", config_dir=tmp_path / "config")


def test_an_older_run_is_asked_with_the_weights_that_it_was_trained_to(tmp_path: Path) -> None:
    folder = save_fnet(tmp_path / "fnet")
    load(folder).save_config(tmp_path / "config")
    (tmp_path / "config" / "probe.json").unlink()
    spec = BackboneSpec(name=f"hf:{folder}")
    backbone: Any = load_backbone(spec, config_dir=tmp_path / "config", load_weights=False)
    assert (backbone.fingerprint, backbone._behaviour, backbone.width) == (None, None, 32)
    assert backbone.padding_reaches


def test_a_network_that_needs_more_than_text_is_refused(tmp_path: Path) -> None:
    tokens = save_bert_tokenizer(tmp_path)
    transformers.BrosConfig(vocab_size=tokens, num_attention_heads=2, **SMALL).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"does not give a vector for each token of a text \(.*bbox"):
        load(tmp_path)
    shutil.rmtree(tmp_path)


def test_clearing_the_cache_forgets_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    monkeypatch.setenv("DEEPTUNE_CACHE", str(tmp_path / "cache"))
    load(save_fnet(tmp_path / "fnet"))
    assert command("cache", "clear", "--older-than", "1").code == 0
    assert (tmp_path / "cache" / "probes").is_dir()
    assert command("cache", "clear").code == 0
    assert not (tmp_path / "cache" / "probes").exists()

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from hub import TEXTS, save_bert_tokenizer, save_tiny_bert, save_tiny_gpt2
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertForMaskedLM, GPT2Model

from deeptune.backbones import load_backbone
from deeptune.backbones.weights import fingerprint
from deeptune.errors import SpecError, WeightsError
from deeptune.spec.run_spec import BackboneSpec

SHORT, LONG = TEXTS[1], TEXTS[2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {"bert": save_tiny_bert(root / "bert"), "gpt2": save_tiny_gpt2(root / "gpt2")}


def spec(folder: Path, **options: object) -> BackboneSpec:
    return BackboneSpec(name=f"hf:{folder}", **options)  # type: ignore[arg-type]


def encode(backbone, texts: list[str], pad_to: int = 0) -> dict[str, torch.Tensor]:
    tokens = [backbone.preprocessing.tokenizer(text)["input_ids"] for text in texts]
    length = max(pad_to, *(len(ids) for ids in tokens))
    ids = torch.full((len(texts), length), backbone.preprocessing.pad_id)
    mask = torch.zeros(len(texts), length, dtype=torch.int64)
    for row, row_ids in enumerate(tokens):
        ids[row, : len(row_ids)] = torch.tensor(row_ids)
        mask[row, : len(row_ids)] = 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("name", ["bert", "gpt2"])
@pytest.mark.parametrize("pooling", ["auto", "mean", "max", "cls", "last"])
def test_padding_never_leaks(folders: dict[str, Path], name: str, pooling: str) -> None:
    backbone = load_backbone(spec(folders[name], pooling=pooling))
    with torch.no_grad():
        together = backbone(encode(backbone, [SHORT, LONG], pad_to=40))
        for row, text in enumerate([SHORT, LONG]):
            alone = backbone(encode(backbone, [text]))
            torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-5)
        # What stands under the mask makes no difference either.
        batch = encode(backbone, [SHORT, LONG], pad_to=40)
        batch["input_ids"][batch["attention_mask"] == 0] = 3
        torch.testing.assert_close(backbone(batch), together, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_features_are_transformers_last_hidden_state_and_pooling_reduces_them(
    folders: dict[str, Path], name: str
) -> None:
    reference = AutoModel.from_pretrained(folders[name]).eval()
    for pooling in ("auto", "mean", "max", "cls", "last"):
        backbone = load_backbone(spec(folders[name], pooling=pooling))
        batch = encode(backbone, [SHORT, LONG])
        with torch.no_grad():
            hidden = reference(**batch).last_hidden_state
            counted = [hidden[row, : int(n)] for row, n in enumerate(batch["attention_mask"].sum(1))]
            torch.testing.assert_close(backbone.features(batch), hidden, rtol=1e-5, atol=1e-6)
            how = backbone.pooling
            expected = {
                "mean": [tokens.mean(0) for tokens in counted], "max": [tokens.amax(0) for tokens in counted],
                "cls": [tokens[0] for tokens in counted], "last": [tokens[-1] for tokens in counted],
            }[how]  # fmt: skip
            torch.testing.assert_close(backbone(batch), torch.stack(expected), rtol=1e-5, atol=1e-6)
        if pooling == "auto":
            assert how == {"bert": "mean", "gpt2": "last"}[name]


def test_a_text_without_a_token_gives_numbers(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        backbone = load_backbone(spec(folder))
        batch = encode(backbone, [SHORT, LONG])
        batch["attention_mask"][0] = 0
        assert backbone(batch).isfinite().all()


def test_the_pooler_exists_only_where_it_is_asked_for(tmp_path: Path, folders: dict[str, Path]) -> None:
    assert not any("pooler" in name for name in load_backbone(spec(folders["bert"])).state_dict())
    with pytest.raises(WeightsError, match=r"2 missing: pooler\.dense\.bias, pooler\.dense\.weight"):
        load_backbone(spec(folders["bert"], pooling="pooler"))  # a masked language model was saved without one
    shutil.copytree(folders["bert"], tmp_path, dirs_exist_ok=True)
    torch.manual_seed(0)
    trained = AutoModel.from_pretrained(folders["bert"]).eval()
    trained.save_pretrained(tmp_path)
    backbone = load_backbone(spec(tmp_path, pooling="pooler"))
    batch = encode(backbone, [SHORT, LONG])
    with torch.no_grad():
        torch.testing.assert_close(backbone(batch), trained(**batch).pooler_output, rtol=1e-5, atol=1e-6)
    with pytest.raises(SpecError, match="no pooling 'pooler'"):
        load_backbone(spec(folders["gpt2"], pooling="pooler"))


def test_gpt2_pads_with_its_end_of_text_on_the_right(folders: dict[str, Path]) -> None:
    preprocessing = load_backbone(spec(folders["gpt2"])).preprocessing
    assert preprocessing.pad_id == preprocessing.tokenizer.eos_token_id
    assert preprocessing.tokenizer.padding_side == "right"


def test_max_length_stays_within_model_tokenizer_and_512(tmp_path: Path) -> None:
    for limit, expected in ((64, 64), (600, 512)):
        folder = save_tiny_bert(tmp_path / str(limit), limit=limit)
        assert load_backbone(spec(folder)).preprocessing.max_length == expected
    assert load_backbone(spec(folder, max_length=600)).preprocessing.max_length == 600
    assert load_backbone(spec(folder, max_length=5)).preprocessing.max_length == 5
    with pytest.raises(SpecError, match="positions for 600 tokens, got 601"):
        load_backbone(spec(folder, max_length=601))
    save_bert_tokenizer(folder, limit=30)
    assert load_backbone(spec(folder)).preprocessing.max_length == 30


def test_roberta_counts_positions_from_after_the_padding_index(tmp_path: Path) -> None:
    tokens = save_bert_tokenizer(tmp_path, limit=10_000)
    config = transformers.RobertaConfig(
        vocab_size=tokens, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=42, pad_token_id=0,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    backbone = load_backbone(spec(tmp_path, weights="random"))
    assert backbone.preprocessing.max_length == 41
    batch = {"input_ids": torch.full((1, 41), 5), "attention_mask": torch.ones(1, 41, dtype=torch.int64)}
    assert backbone(batch).isfinite().all()


def test_of_an_encoder_and_decoder_the_encoder_is_used(tmp_path: Path) -> None:
    tokens = save_bert_tokenizer(tmp_path)
    config = transformers.T5Config(vocab_size=tokens, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    torch.manual_seed(0)
    trained = transformers.T5ForConditionalGeneration(config).eval()
    trained.save_pretrained(tmp_path)
    backbone = load_backbone(spec(tmp_path))
    batch = encode(backbone, [SHORT, LONG])
    assert not any("decoder" in name for name in backbone.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(backbone.features(batch), trained.encoder(**batch).last_hidden_state)
    assert (backbone.pooling, backbone.width) == ("mean", 32)


@pytest.mark.parametrize("model", [transformers.ViTConfig(), transformers.CLIPConfig(), transformers.WhisperConfig()])
def test_what_does_not_read_text_is_refused(tmp_path: Path, model: transformers.PreTrainedConfig) -> None:
    model.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"reads images|does not read text alone") as error:
        load_backbone(spec(tmp_path, weights="random"))
    assert ("timm:" in str(error.value)) == isinstance(model, transformers.ViTConfig)


def test_a_layer_that_the_file_lacks_is_an_error_and_not_random(tmp_path: Path, folders: dict[str, Path]) -> None:
    shutil.copytree(folders["bert"], tmp_path, dirs_exist_ok=True)
    state = load_file(tmp_path / "model.safetensors")
    state["bert.encoder.layer.7.output.dense.bias"] = state.pop("bert.encoder.layer.1.output.dense.bias")
    state["bert.encoder.layer.0.output.dense.weight"] = torch.zeros(3, 4)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError) as error:
        load_backbone(spec(tmp_path))
    for part in (
        "1 missing: encoder.layer.1.output.dense.bias",
        "1 unexpected: bert.encoder.layer.7.output.dense.bias",
        "1 of another shape: encoder.layer.0.output.dense.weight (3, 4) instead of (32, 64)",
    ):
        assert part in error.value.message


def test_half_precision_files_are_loaded_as_float32(tmp_path: Path, folders: dict[str, Path]) -> None:
    shutil.copytree(folders["gpt2"], tmp_path, dirs_exist_ok=True)
    GPT2Model.from_pretrained(folders["gpt2"], dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    for weights in ("pretrained", "random"):
        assert {p.dtype for p in load_backbone(spec(tmp_path, weights=weights)).parameters()} == {torch.float32}


def test_random_weights_are_the_same_bits_for_a_seed(folders: dict[str, Path]) -> None:
    first, again, other = (
        load_backbone(spec(folders["bert"], weights="random"), seed=seed).fingerprint for seed in (1, 1, 2)
    )
    assert first == again != other


def test_weights_by_path_bring_their_own_tokenizer_or_take_the_names(tmp_path: Path, folders: dict[str, Path]) -> None:
    whole = load_backbone(spec(folders["bert"]))
    for weights in (folders["bert"], folders["bert"] / "model.safetensors"):
        backbone = load_backbone(BackboneSpec(name="bert-base-cased", weights=str(weights)))
        assert backbone.fingerprint == whole.fingerprint
        assert backbone.preprocessing.tokenizer.get_vocab() == whole.preprocessing.tokenizer.get_vocab()
    torch.save(BertForMaskedLM.from_pretrained(folders["bert"]).state_dict(), tmp_path / "alone.pth")
    assert load_backbone(spec(folders["bert"], weights=str(tmp_path / "alone.pth"))).fingerprint == whole.fingerprint


def test_a_saved_configuration_rebuilds_the_backbone_without_its_folder(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    backbone = load_backbone(spec(folders["gpt2"], weights="random"), seed=4)
    backbone.save_config(tmp_path / "config")
    for name in ("hf:somewhere/that-is-gone", "gpt2"):
        again = load_backbone(BackboneSpec(name=name, weights="random"), seed=4, config_dir=tmp_path / "config")
        assert again.fingerprint == backbone.fingerprint
        batch = encode(backbone, [SHORT, LONG])
        assert all(torch.equal(batch[key], encode(again, [SHORT, LONG])[key]) for key in batch)
    empty = load_backbone(BackboneSpec(name="gpt2"), config_dir=tmp_path / "config", load_weights=False)
    assert empty.fingerprint is None
    assert empty.state_dict().keys() == backbone.state_dict().keys()


def test_the_fingerprint_is_of_what_was_loaded(folders: dict[str, Path]) -> None:
    backbone = load_backbone(spec(folders["bert"]))
    before = backbone.fingerprint
    assert before == fingerprint(backbone.net)
    with torch.no_grad():
        next(backbone.net.parameters()).add_(1)
    assert backbone.fingerprint == before != fingerprint(backbone.net)


def test_broken_folders_are_named(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(WeightsError, match="no such folder"):
        load_backbone(spec(tmp_path / "nowhere"))
    with pytest.raises(WeightsError, match=r"no config\.json"):
        load_backbone(spec(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(WeightsError, match="an adapter of PEFT"):
        load_backbone(spec(tmp_path))
    shutil.copytree(folders["bert"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text('{"model_type": "of-the-future"}')
    with pytest.raises(WeightsError, match=r"config\.json: cannot be read"):
        load_backbone(spec(tmp_path))
    shutil.copy(folders["bert"] / "config.json", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(WeightsError, match=r"model\.safetensors: cannot be read as weights"):
        load_backbone(spec(tmp_path))


def test_a_tokenizer_that_knows_more_than_the_model_is_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    shutil.copytree(folders["gpt2"], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 10}))
    with pytest.raises(WeightsError, match="do not belong together"):
        load_backbone(spec(tmp_path, weights="random"))

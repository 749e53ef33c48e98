"""What is found out about a text network by passing a few tokens, over many architectures in small.

Each is built and passed by transformers itself, unpadded and one text at a time: that is what is compared with.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hub import save_bert_tokenizer
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from deeptune.backbones import load_backbone
from deeptune.errors import SpecError
from deeptune.model.build import build_model
from deeptune.model.lora import adapters
from deeptune.spec.run_spec import BackboneSpec, DataSpec, RunSpec, TuningSpec

# What a small model has of each of these sizes; a configuration takes those that it knows.
SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "emb_dim", "dim", "embedding_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_encoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("head_dim", "d_kv", "d_head", "state_size", "attention_window"), 8),
    **dict.fromkeys(("intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_inner"), 64),
    **dict.fromkeys(("n_inner", "hidden_dim", "max_position_embeddings", "n_positions", "num_hash_buckets"), 64),
    **dict.fromkeys(("true_hidden_size", "intra_bottleneck_size"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "num_key_value_heads", "conv_kernel", "time_step_rank"), 4),
    "vocab_size": 80, "num_experts_per_tok": 2, "expand": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "cls_token_id": 1, "sep_token_id": 2,
}  # fmt: skip
KINDS = (
    "albert", "bart", "bert", "big_bird", "bigbird_pegasus", "biogpt", "blenderbot", "bloom", "camembert", "canine",
    "convbert", "ctrl", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "esm", "falcon",
    "flaubert", "fnet", "gemma", "gpt2", "gpt_bigcode", "gpt_neox", "led", "llama", "longformer", "longt5", "m2m_100",
    "mamba", "marian", "mbart", "megatron-bert", "mistral", "mobilebert", "modernbert", "mpnet", "mpt", "mt5", "mvp",
    "nystromformer", "openai-gpt", "opt", "pegasus", "phi", "plbart", "prophetnet", "qwen2", "qwen3", "rembert",
    "roberta", "roformer", "rwkv", "splinter", "stablelm", "switch_transformers", "t5", "umt5", "xlm", "xlm-roberta",
    "xlnet", "yoso",
)  # fmt: skip
PADDED_APART = {"canine", "convbert", "fnet", "mobilebert", "nystromformer", "yoso"}
# Of these no layer is called that PEFT could adapt: they compute with grouped convolutions or quantised layers.
WITHOUT_TARGETS = ("ibert", "squeezebert")


def small_config(kind: str) -> PreTrainedConfig:
    cls = CONFIG_MAPPING[kind]
    known = cls()
    names = {*known.to_dict(), *(known.attribute_map or {})}
    return cls(**{name: value for name, value in SMALL.items() if name in names})


def save_small(kind: str, folder: Path) -> nn.Module:
    """The network of a random model of a kind, which is in the folder; no weight of it is zero."""
    config = small_config(kind)
    config.use_cache = False
    cls = MODEL_MAPPING[type(config)]
    torch.manual_seed(0)
    model: Any = (cls[0] if isinstance(cls, tuple) else cls)._from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    save_bert_tokenizer(folder)
    return (model.get_encoder() if config.is_encoder_decoder else model).eval()


def texts(lengths: tuple[int, ...]) -> dict[str, Tensor]:
    ids = torch.randint(5, 15, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(3))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def alone(net: nn.Module, batch: dict[str, Tensor], pooling: str) -> Tensor:
    """Each text passed by itself by the library, and pooled by hand."""
    found = []
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        length = int(mask.sum())
        vectors = net(input_ids=ids[None, :length], attention_mask=mask[None, :length]).last_hidden_state[0]
        found.append(vectors[-1] if pooling == "last" else vectors.mean(0))
    return torch.stack(found)


def with_gradient(net: Any, names: list[str], batch: dict[str, Tensor]) -> set[str]:
    """The layers whose adapter gets a gradient, by PEFT's own adapters beside each of them."""
    net = copy.deepcopy(net)
    kind = getattr(net.config, "model_type", "")
    net.config.model_type = "any"  # PEFT refuses some layers of Mamba by its name
    inject_adapter_in_model(LoraConfig(r=2, target_modules=names), net)
    torch.manual_seed(0)
    vectors = net(**batch).last_hidden_state
    (vectors * torch.randn_like(vectors)).sum().backward()
    net.config.model_type = kind
    return {name for name, layer in adapters(net) if (g := layer.lora_B["default"].weight.grad) is not None and g.any()}


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize("kind", KINDS)
def test_width_padding_and_adapters_are_what_the_library_itself_does(kind: str, tmp_path: Path) -> None:
    net = save_small(kind, tmp_path)
    spec = BackboneSpec(name=f"hf:{tmp_path}")
    backbone: Any = load_backbone(spec)
    lengths = (5, 24, 9, 5) if kind == "canine" else (2, 24, 7, 2)
    batch = texts(lengths)
    with torch.no_grad():
        expected = alone(net, batch, backbone.pooling)
        found = backbone(batch)
        padded = net(**{name: value[:2] for name, value in batch.items()}).last_hidden_state[0, : lengths[0]]
    assert backbone.width == expected.shape[1]
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    by_itself = {name: value[:1, : lengths[0]] for name, value in batch.items()}
    with torch.no_grad():
        difference = (padded - net(**by_itself).last_hidden_state[0]).abs().max() / padded.abs().max()
    assert backbone.padding_reaches == (difference > 1e-4) == (kind in PADDED_APART)

    run = RunSpec(data=DataSpec(path="x"), backbone=spec, tuning=TuningSpec(method="lora"))
    linear = [name for name, module in net.named_modules() if isinstance(module, (nn.Linear, Conv1D))]
    whole = texts((24, 24))
    able = with_gradient(net, linear, whole)
    model = build_model(run, backbone, 2).eval()
    model(whole).square().sum().backward()
    targets = dict(adapters(backbone.net))
    assert targets
    assert {name for name, layer in targets.items() if layer.lora_B["default"].weight.grad.any()} == set(targets)
    refused = {name for name in able if kind == "mamba" and name.endswith("out_proj")}
    assert set(targets) == able - refused


@pytest.mark.parametrize("kind", WITHOUT_TARGETS)
def test_a_model_without_a_layer_to_adapt_says_what_to_do(kind: str, tmp_path: Path) -> None:
    save_small(kind, tmp_path)
    spec = BackboneSpec(name=f"hf:{tmp_path}")
    run = RunSpec(data=DataSpec(path="x"), backbone=spec, tuning=TuningSpec(method="lora"))
    with pytest.raises(SpecError, match=r"no layer of .* can take an adapter") as error:
        build_model(run, load_backbone(spec), 2)
    assert "tuning.method = 'partial'" in str(error.value)

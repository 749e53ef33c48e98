"""Every name of the catalog is built, embeds and learns."""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hub import save_bert_tokenizer, save_gpt2_tokenizer
from torch import Tensor, nn
from torchvision.models import convnext, get_model_weights, regnet, vgg, vision_transformer
from transformers import BertConfig, GPT2Config

from deeptune.backbones import Backbone, ImagePreprocessing, load_backbone
from deeptune.catalog import CATALOG, TORCHVISION_LOADER
from deeptune.model.build import TunedModel, build_model
from deeptune.model.lora import is_adapter_key
from deeptune.spec.estimate import Counts, count_parameters
from deeptune.spec.run_spec import BackboneSpec, DataSpec, HeadSpec, RunSpec, TuningSpec

WIDTHS = {"gpt2-medium": (1024, 16), "gpt2-large": (1280, 20)}


@pytest.mark.parametrize("name", CATALOG)
def test_the_catalog_says_what_the_library_builds(name: str) -> None:
    """In full size, on the meta device: parameters, width, preprocessing, and the share that LoRA trains."""
    info = CATALOG[name]
    spec = BackboneSpec(name=name, weights="random")
    backbone = load_backbone(spec, device="meta")
    assert sum(p.numel() for p in backbone.net.parameters()) == info.parameters
    assert (backbone.width, backbone.pooling) == (info.width, info.pooling)
    if info.modality == "text":
        assert backbone.net.config.max_position_embeddings == info.input_size
    else:
        size = info.input_size
        assert backbone.preprocessing.image_size == size
        with torch.no_grad():
            assert backbone({"images": torch.empty(1, 3, size, size, device="meta")}).shape == (1, info.width)
    if info.loader == TORCHVISION_LOADER:
        weights = get_model_weights(name).DEFAULT
        preset = weights.transforms()
        assert backbone.preprocessing == ImagePreprocessing(
            preset.crop_size[0],
            preset.resize_size[0],
            preset.interpolation.value,
            tuple(preset.mean),
            tuple(preset.std),
        )
        assert weights.url.endswith(f"/{info.weights_file}")

    run = RunSpec(data=DataSpec(path="x"), backbone=spec, tuning=TuningSpec(method="lora"))
    trainable, total = build_model(run, backbone, 10).counts()
    assert count_parameters(run, info, 10) == Counts(trainable, total)
    assert 0 < trainable < (0.10 if info.is_cnn else 0.05) * total


class Narrow(nn.Linear):
    """64 wide where VGG says 4,096."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(*(64 if size == 4096 else size for size in (inputs, outputs)))


def shallow(stages: list[Any]) -> list[Any]:
    """ConvNeXt's stages with one block each."""
    for stage in stages:
        stage.num_layers = 1
    return stages


def narrow_regnet(build: Any) -> Any:
    """torchvision's builder of RegNets, with one block in each stage, and at most two groups in each block."""

    def built(params: Any, *rest: Any, **options: Any) -> Any:
        params.depths = [1 for _ in params.depths]
        params.widths = [min(width, 2 * group) for width, group in zip(params.widths, params.group_widths, strict=True)]
        return build(params, *rest, **options)

    return built


def cut(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> BackboneSpec:
    """The spec of a backbone that two slow cores can train at once: small images, and what is large is cut.

    ViTs have two blocks instead of 12 to 32, each stage of a ConvNeXt or RegNet one,
    VGG's two wide layers 64 outputs instead of 4,096, and texts two layers and a vocabulary of a few words.
    Everything else is whole.
    """
    info = CATALOG[name]
    if info.modality == "text":
        if info.family == "bert":
            BertConfig(vocab_size=save_bert_tokenizer(folder), num_hidden_layers=2).save_pretrained(folder)
        else:
            width, heads = WIDTHS.get(name, (768, 12))
            config = GPT2Config(
                vocab_size=save_gpt2_tokenizer(folder),
                n_embd=width,
                n_head=heads,
                n_layer=2,
                bos_token_id=0,
                eos_token_id=0,
            )
            config.save_pretrained(folder)
        return BackboneSpec(name=name, weights="random")
    if info.family == "vit":
        build = vision_transformer._vision_transformer
        monkeypatch.setattr(
            vision_transformer, "_vision_transformer", lambda **options: build(**options | {"num_layers": 2})
        )
    elif info.family == "vgg":
        monkeypatch.setattr(vgg, "nn", SimpleNamespace(**vars(nn) | {"Linear": Narrow}))
    elif info.family == "convnext":
        build = convnext._convnext
        monkeypatch.setattr(convnext, "_convnext", lambda blocks, *rest, **kw: build(shallow(blocks), *rest, **kw))
    elif info.family == "regnet":
        monkeypatch.setattr(regnet, "_regnet", narrow_regnet(regnet._regnet))
    size = 2 * int(name.rpartition("_")[2]) if info.family == "vit" else 224 if info.family == "maxvit" else 32
    return BackboneSpec(name=name, weights="random", image_size=size)


def batch(backbone: Backbone) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    if backbone.info.modality == "text":
        mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
        return {"input_ids": torch.randint(5, 15, (2, 6), generator=generator), "attention_mask": mask}
    size = backbone.preprocessing.image_size
    return {"images": torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=generator)}


def step(model: TunedModel, inputs: dict[str, Tensor]) -> set[str]:
    """One optimisation step; the names of the parameters that had a gradient."""
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-3)
    loss = nn.functional.cross_entropy(model(inputs), torch.tensor([0, 1]))
    assert loss.isfinite()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    names = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    optimizer.zero_grad()
    return names


@pytest.mark.parametrize("name", CATALOG)
def test_every_name_embeds_and_takes_a_step_in_each_method(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """See `cut` for what of the large ones is left out."""
    spec = cut(name, tmp_path, monkeypatch)
    backbone = load_backbone(spec, config_dir=tmp_path)
    inputs = batch(backbone)
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}

    for method in ("partial", "lora", "full"):  # the backbone is the same one, and `full` is the one that changes it
        run = RunSpec(
            data=DataSpec(path="x"),
            backbone=spec,
            head=HeadSpec(layers=2, embedding_size=8),
            tuning=TuningSpec(method=method),
        )
        model = build_model(run, backbone, 2).eval()
        with torch.no_grad():
            embedding = model.embed(inputs)
            assert embedding.shape == (2, 8)
            assert embedding.isfinite().all()
            assert torch.equal(model.last_layer(embedding), model(inputs))
            assert backbone(inputs).shape == (2, backbone.width)
        head = {f"head.{key}" for key, _ in model.head.named_parameters()}
        learned = step(model, inputs)
        if method == "partial":
            assert learned == head
        elif method == "lora":
            assert learned == head | {key for key, _ in model.named_parameters() if is_adapter_key(key)}
            assert len(learned) > len(head)
        else:
            assert learned == {key for key, _ in model.named_parameters()}
        if method != "full":
            after = backbone.state_dict()
            same = (torch.equal(tensor, after[inside(key, after)]) for key, tensor in before.items())
            assert all(same)
        if method == "lora":
            model.merge()
    del model, backbone, before
    gc.collect()


def inside(key: str, state: dict[str, Tensor]) -> str:
    """Where a tensor of the plain backbone is found once its attention is unfused and its layers are adapted."""
    renamed = key.replace("in_proj_", "qkv.").replace("self_attention.out_proj", "self_attention.proj")
    layer, _, leaf = renamed.rpartition(".")
    return next(name for name in (key, renamed, f"{layer}.base_layer.{leaf}") if name in state)

"""Every method and variant of LoRA in every family and both memory formats: it passes, learns, merges and is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hub import save_tiny_bert, save_tiny_gpt2
from torch import Tensor, nn

from deeptune.backbones import Backbone, load_backbone
from deeptune.model.build import build_model
from deeptune.model.lora import is_adapter_key
from deeptune.spec.run_spec import BackboneSpec, DataSpec, LoraSpec, RunSpec, TrainSpec, TuningSpec

IMAGES = {  # name, pixels
    "resnet18": 32, "densenet121": 32, "swin_t": 32, "efficientnet_b0": 32, "efficientnet_lite0": 32, "vgg11_bn": 32,
    "convnext_tiny": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "vit_b_32": 32, "timm:test_vit": 32, "timm:test_convnext": 32, "timm:test_byobnet": 32, "timm:test_mambaout": 32,
}  # fmt: skip
METHODS = ["partial", "full", "lora", "rslora", "dora"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {"bert": save_tiny_bert(root / "bert"), "gpt2": save_tiny_gpt2(root / "gpt2")}


@pytest.fixture(scope="module")
def two_layers() -> Any:
    """A ViT of two blocks instead of twelve."""
    from torchvision.models import vision_transformer

    build = vision_transformer._vision_transformer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vision_transformer, "_vision_transformer", lambda **options: build(**options | {"num_layers": 2}))
        yield


def batch_of(backbone: Backbone) -> dict[str, Tensor]:
    numbers = torch.Generator().manual_seed(0)
    if backbone.info.modality == "text":
        mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
        return {"input_ids": torch.randint(5, 15, (2, 6), generator=numbers), "attention_mask": mask}
    size = backbone.preprocessing.image_size  # type: ignore[union-attr]
    return {"images": torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=numbers)}


def one_step(run: RunSpec, backbone: Backbone, memory_format: str) -> tuple[dict[str, Tensor], Tensor]:
    """What is stored after a step of training, and the logits in eval mode then."""
    run = run.model_copy(update={"train": TrainSpec(memory_format=memory_format)})  # type: ignore[arg-type]
    model = build_model(run, backbone, 2)
    batch = batch_of(backbone)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-2)
    model.eval()  # no dropout: both formats take the same step
    nn.functional.cross_entropy(model(batch), torch.tensor([0, 1])).backward()
    optimizer.step()
    with torch.no_grad():
        logits = model(batch)
        state = {name: tensor.clone() for name, tensor in model.tuned_state().items()}
        if run.tuning.method == "lora":
            model.merge()
            torch.testing.assert_close(model(batch), logits, rtol=1e-3, atol=1e-4)
    return state, logits


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [*IMAGES, "bert", "gpt2"])
def test_both_memory_formats_take_the_same_step(
    name: str, method: str, folders: dict[str, Path], two_layers: Any
) -> None:
    options = {"name": f"hf:{folders[name]}"} if name in folders else {"name": name, "image_size": IMAGES[name]}
    if name == "vgg11_bn":
        options["pooling"] = "mean"  # without its two wide layers
    spec = BackboneSpec(weights="random", **options)  # type: ignore[arg-type]
    lora = LoraSpec(rank=2, variant=method) if method in METHODS[2:] else LoraSpec()  # type: ignore[arg-type, call-arg]
    tuning = TuningSpec(method="lora" if method in METHODS[2:] else method, lora=lora)  # type: ignore[arg-type]
    run = RunSpec(data=DataSpec(path="x"), backbone=spec, tuning=tuning)
    formats = ["contiguous"] if name in folders else ["contiguous", "channels_last"]
    found = [one_step(run, load_backbone(spec), layout) for layout in formats]
    state, logits = found[0]
    assert (tuning.method == "lora") == any(is_adapter_key(key) for key in state)
    for other_state, other_logits in found[1:]:
        assert other_state.keys() == state.keys()
        torch.testing.assert_close(other_logits, logits, rtol=1e-2, atol=1e-3)

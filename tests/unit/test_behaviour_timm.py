"""What is found out about an image network by passing one image through it, over many of timm's architectures.

The adapters of the small ones are compared with PEFT's own gradients. Of the others, which are built without memory, it
is compared whether the module is called by the network's code.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from deeptune.backbones import load_backbone
from deeptune.backbones.behaviour import idle_layers
from deeptune.backbones.timm import TimmBackbone
from deeptune.catalog import TIMM_LOADER, BackboneInfo
from deeptune.data.loading.preprocessing import ImagePreprocessing
from deeptune.errors import SpecError
from deeptune.model.build import build_model
from deeptune.model.lora import adapters, find_targets
from deeptune.spec.run_spec import BackboneSpec, DataSpec, LoraSpec, RunSpec, TuningSpec

TINY: dict[str, Any] = {"depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": 32, "patch_size": 16}
STAGES: dict[str, Any] = {"depths": (1, 1), "embed_dim": 24, "num_heads": (2, 3), "img_size": 32, "window_size": 4}
# Pixels, and what makes the network small.
SMALL: dict[str, tuple[int, dict[str, Any]]] = {
    **dict.fromkeys(
        (
            "test_byobnet", "test_convnext", "test_convnext2", "test_efficientnet", "test_efficientnet_gn",
            "test_efficientnet_ln", "test_mambaout", "test_nfnet", "test_resnet", "lcnet_035",
            "mobilenetv3_small_050",
            "regnetx_002", "efficientvit_b0", "starnet_s050", "convnext_zepto_rms", "resnet10t",
        ),
        (64, {}),
    ),
    "test_vit": (32, {"img_size": 32}),
    "test_vit2": (32, {"img_size": 32}),
    "test_vit3": (32, {"img_size": 32}),
    "vit_tiny_patch16_224": (32, TINY),
    "deit_tiny_patch16_224": (32, TINY),
    "deit_tiny_distilled_patch16_224": (32, TINY),
    "vit_relpos_small_patch16_224": (32, TINY),
    "beit_base_patch16_224": (32, TINY),
    "eva02_tiny_patch14_224": (32, TINY),
    "cait_xxs24_224": (32, TINY | {"num_heads": 4}),
    "swin_tiny_patch4_window7_224": (32, STAGES),
    "swinv2_tiny_window8_256": (32, STAGES),
    "mixer_s32_224": (32, {"img_size": 32}),
    "resmlp_12_224": (32, {"img_size": 32}),
    "pvt_v2_b0": (64, {"depths": (1, 1, 1, 1)}),
}  # fmt: skip
WITHOUT_MEMORY = (
    "botnet26t_256", "coat_lite_tiny", "coatnet_nano_rw_224", "convit_tiny", "convmixer_768_32",
    "cspresnet50", "davit_tiny", "densenet121", "dla34", "dpn68", "ecaresnet26t", "edgenext_xx_small",
    "efficientformer_l1", "efficientformerv2_s0", "efficientvit_m0", "fastvit_t8", "fbnetv3_b",
    "gmixer_12_224", "gmlp_s16_224", "poolformer_s12", "repghostnet_050", "focalnet_tiny_srf",
    "gcvit_xxtiny", "ghostnet_050", "hardcorenas_a", "hgnet_tiny", "hiera_tiny_224", "hrnet_w18_small",
    "inception_next_atto", "inception_v3", "legacy_seresnet18", "levit_128s", "maxvit_pico_rw_256", "mobilevit_xxs",
    "mobilevitv2_050", "mvitv2_tiny", "nest_tiny", "nextvit_small", "pit_ti_224", "res2net50_26w_4s",
    "resnest14d", "resnetv2_50", "rexnet_100", "skresnet18", "swiftformer_xs", "swin_s3_tiny_224",
    "tiny_vit_5m_224", "tresnet_m", "vgg11", "visformer_tiny", "volo_d1_224", "xcit_nano_12_p16_224",
)  # fmt: skip


def backbone_of(name: str, size: int, options: dict[str, Any]) -> TimmBackbone:
    """A small random network without zeros among its weights: timm starts some branches at zero."""
    torch.manual_seed(0)
    net: Any = timm.create_model(name, pretrained=False, num_classes=0, **options).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    preprocessing = ImagePreprocessing(size, size, "bilinear", (0.5,) * 3, (0.5,) * 3)
    info = BackboneInfo(f"timm:{name}", "timm", "image", TIMM_LOADER, name)
    with torch.no_grad():
        width = net(torch.zeros(1, 3, size, size)).shape[1]
    return TimmBackbone(info, net, width=width, pooling="head", preprocessing=preprocessing)


def adaptable(net: nn.Module) -> list[str]:
    return [
        name
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    ]


def with_gradient(backbone: TimmBackbone, names: list[str]) -> set[str]:
    """The layers whose adapter gets a gradient, by PEFT's own adapters beside each of them."""
    net = copy.deepcopy(backbone.net)
    inject_adapter_in_model(LoraConfig(r=2, target_modules=names), net)
    torch.manual_seed(1)
    vectors = net(torch.randn(2, 3, *(backbone.preprocessing.image_size,) * 2))
    (vectors * torch.randn_like(vectors)).sum().backward()
    return {name for name, layer in adapters(net) if (g := layer.lora_B["default"].weight.grad) is not None and g.any()}


def run_of(backbone: TimmBackbone) -> RunSpec:
    spec = BackboneSpec(name=backbone.info.name, weights="random")
    return RunSpec(data=DataSpec(path="x"), backbone=spec, tuning=TuningSpec(method="lora"))


@pytest.mark.parametrize("name", SMALL)
def test_adapters_are_where_pefts_own_get_a_gradient(name: str) -> None:
    backbone = backbone_of(name, *SMALL[name])
    layers = adaptable(backbone.net)
    bypassed = set(layers) - with_gradient(backbone, layers)
    assert set(idle_layers(backbone, {name: backbone.net.get_submodule(name) for name in layers})) == bypassed
    # Swin V2, BEiT and EVA read `qkv.weight` past the layer, until their switch makes them call it.
    assert all(layer.endswith("qkv") for layer in bypassed)
    assert bool(bypassed) == name.startswith(("swinv2", "beit", "eva"))

    batch = backbone.sample()
    with torch.no_grad():
        before = backbone(batch)
    model = build_model(run_of(backbone), backbone, 2).eval()
    found = dict(adapters(backbone.net))
    assert found.keys() & bypassed == {layer for layer in bypassed if layer in found}
    assert bypassed <= found.keys()
    with torch.no_grad():
        torch.testing.assert_close(backbone(batch), before, rtol=1e-4, atol=1e-5)
    (model.pooled(batch) * torch.randn(1, backbone.width)).sum().backward()
    assert all(layer.lora_B["default"].weight.grad.any() for layer in found.values())


@pytest.mark.parametrize("name", WITHOUT_MEMORY)
def test_adapters_are_beside_layers_that_are_called(name: str) -> None:
    backbone: Any = load_backbone(BackboneSpec(name=f"timm:{name}", weights="random"), device="meta")
    called: set[str] = set()
    for layer in adaptable(backbone.net):
        backbone.net.get_submodule(layer).register_forward_hook(lambda *_, layer=layer: called.add(layer))
    targets = find_targets(backbone, "auto")
    assert called  # the probe passed an image
    with torch.no_grad():
        images = {"images": torch.empty(1, 3, *(backbone.preprocessing.image_size,) * 2, device="meta")}
        assert backbone(images).shape == (1, backbone.width)
    assert targets
    assert set(targets) <= called


def test_layers_behind_zeros_get_no_adapter() -> None:
    """Random weights of Swin V2 start every block at zero: what does not reach the output can't learn."""
    size, options = SMALL["swinv2_tiny_window8_256"]
    backbone = backbone_of("swinv2_tiny_window8_256", size, options)
    with torch.no_grad():
        nn.init.zeros_(backbone.net.layers[0].blocks[0].norm1.weight)
        nn.init.zeros_(backbone.net.layers[0].blocks[0].norm1.bias)
    build_model(run_of(backbone), backbone, 2)
    names = {name for name, _ in adapters(backbone.net)}
    assert not any(name.startswith("layers.0.blocks.0.attn") for name in names)
    assert "layers.1.blocks.0.attn.qkv" in names
    assert "no adapter is put beside" in backbone.notes[0]


def test_named_targets_that_cannot_act_are_refused() -> None:
    backbone = backbone_of("vit_tiny_patch16_224", *SMALL["vit_tiny_patch16_224"])
    backbone.net.blocks[0].mlp.fc1, unused = nn.Identity(), nn.Linear(48, 48)
    backbone.net.blocks[0].mlp.fc2 = nn.Linear(48, 48)
    backbone.net.unused = unused
    with pytest.raises(
        SpecError,
        match=r"tuning\.lora\.targets: 'unused' names layers of .* could not learn",
    ) as error:
        find_targets(backbone, ["qkv", "unused"])
    assert "Name endings that can be adapted: " in str(error.value)
    assert "unused" not in str(error.value).partition("adapted: ")[2]
    assert "blocks.0.attn.qkv" in find_targets(backbone, ["qkv"])


def test_no_adapter_acts_in_a_network_of_grouped_convolutions() -> None:
    backbone = backbone_of("test_resnet", 64, {})
    backbone.net.forward_features = lambda images: images
    backbone.net.forward_head = lambda features, pre_logits: features.mean((2, 3))
    with pytest.raises(SpecError, match=r"no layer of timm:test_resnet can take an adapter"):
        find_targets(backbone, LoraSpec().targets)


def test_layers_that_are_not_called_are_known_without_memory() -> None:
    backbone: Any = load_backbone(BackboneSpec(name="timm:beit_base_patch16_224", weights="random"), device="meta")
    layers = {name: backbone.net.get_submodule(name) for name in adaptable(backbone.net)}
    assert idle_layers(backbone, layers) == [name for name in layers if name.endswith("qkv")]
    assert any(name.endswith("qkv") for name in find_targets(backbone, "auto"))

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hub import save_tiny_bert, save_tiny_gpt2
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from deeptune.backbones import Backbone, load_backbone
from deeptune.errors import SpecError
from deeptune.model.build import TunedModel, build_model
from deeptune.model.lora import find_targets, is_adapter_key, resolve_rank
from deeptune.spec.run_spec import BackboneSpec, DataSpec, LoraSpec, RunSpec, TuningSpec

# One of each family; the text folders are made once.
SMALL = {
    "resnet18": 32, "densenet121": 32, "swin_t": 64, "efficientnet_b0": 64, "vgg11": 32, "vit_b_32": 64,
    "efficientnet_lite0": 64, "timm:vit_tiny_patch16_224": 32, "timm:convnext_atto": 64, "timm:resnet10t": 32,
    "convnext_tiny": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "maxvit_t": 224,
    "timm:mobilenetv2_035": 32,
    "timm:swin_tiny_patch4_window7_224": 64, "bert": 0, "gpt2": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {"bert": save_tiny_bert(root / "bert"), "gpt2": save_tiny_gpt2(root / "gpt2")}


def make(name: str, folders: dict[str, Path], **lora: object) -> tuple[Backbone, RunSpec]:
    options = {"name": f"hf:{folders[name]}"} if name in folders else {"name": name, "image_size": SMALL[name]}
    spec = BackboneSpec(weights="random", **options)  # type: ignore[arg-type]
    tuning = TuningSpec(method="lora", lora=LoraSpec(**lora))  # type: ignore[arg-type]
    return load_backbone(spec), RunSpec(data=DataSpec(path="x"), backbone=spec, tuning=tuning)


def inputs(backbone: Backbone) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    if backbone.info.modality == "text":
        mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
        return {"input_ids": torch.randint(5, 15, (2, 6), generator=generator), "attention_mask": mask}
    size = backbone.preprocessing.image_size
    return {"images": torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=generator)}


def shake_adapters(model: nn.Module) -> None:
    """B starts at zero, and then A has no gradient and merging is nothing: give B values."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))


def relative(left: Tensor, right: Tensor) -> float:
    return float((left - right).norm() / right.norm())


VARIANTS = [(name, "lora") for name in SMALL] + [
    (name, variant) for name in ("resnet18", "swin_t", "bert", "gpt2") for variant in ("rslora", "dora")
]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_every_adapter_learns_the_backbone_does_not_and_merging_changes_nothing(
    name: str, variant: str, folders: dict[str, Path]
) -> None:
    backbone, spec = make(name, folders, variant=variant)
    batch = inputs(backbone)
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
                module.weight.fill_(1)  # timm starts residual branches at zero, and nothing behind a zero learns
        for part, parameter in backbone.named_parameters():
            if part.endswith("layer_scale"):
                parameter.fill_(1)  # a ConvNeXt starts its residual branches at 1e-6, where float32 shows no change
        plain = backbone(batch)
    backbone.fingerprint = None  # its weights are others now
    model = build_model(spec, backbone, 3).eval()
    with torch.no_grad():
        # An adapter that starts at zero is not a change. DoRA divides by a norm and multiplies it back.
        assert relative(backbone(batch), plain) < 1e-4
    shake_adapters(model)

    model(batch).square().sum().backward()
    learning = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    adapters = {n for n, _ in model.named_parameters() if is_adapter_key(n)}
    assert adapters
    assert learning == adapters | {n for n, _ in model.head.named_parameters(prefix="head")}
    assert learning == {n for n, p in model.named_parameters() if p.requires_grad}

    with torch.no_grad():
        unmerged = model.embed(batch)
        assert relative(unmerged, plain) > 1e-5  # the adapters act
        model.merge()
        assert relative(model.embed(batch), unmerged) < 1e-4
    assert not any(is_adapter_key(n) for n in model.state_dict())


@pytest.mark.parametrize(
    ("name", "limit"),
    [("timm:convnext_atto", 0.05), ("timm:mobilenetv2_035", 0.1), ("timm:vit_tiny_patch16_224", 0.05)],
)
def test_other_models_get_a_rank_that_keeps_the_share_small(name: str, limit: float, folders: dict[str, Path]) -> None:
    backbone, spec = make(name, folders)
    trainable, total = build_model(spec, backbone, 2).counts()
    assert 0.003 < trainable / total < limit


def test_an_explicit_rank_and_alpha_are_kept(folders: dict[str, Path]) -> None:
    backbone, _ = make("bert", folders)
    assert resolve_rank(backbone, LoraSpec(rank=7)) == (7, 14.0)
    assert resolve_rank(backbone, LoraSpec(rank=7, alpha=3.5)) == (7, 3.5)
    model = build_model(make("bert", folders, rank=7, alpha=3.5)[1], backbone, 2)
    layer = model.backbone.net.encoder.layer[0].attention.self.query
    assert (layer.r["default"], layer.scaling["default"]) == (7, 0.5)


@pytest.mark.parametrize("name", ["swin_t", "vit_b_32"])
def test_adapters_on_fused_attention_act(name: str, folders: dict[str, Path]) -> None:
    """Layers that torchvision reads past: change the adapters of the attention alone, and the output must move."""
    backbone, spec = make(name, folders, targets=["qkv", "proj"])
    batch = inputs(backbone)
    model = build_model(spec, backbone, 3).eval()
    assert sum(is_adapter_key(n) for n, _ in model.named_parameters()) == 12 * 2 * 2
    with torch.no_grad():
        before = model(batch)
        for n, parameter in model.named_parameters():
            if ".lora_B." in n:
                parameter.fill_(0.1)
                assert not torch.equal(model(batch), before), n
                parameter.zero_()


@pytest.mark.parametrize("variant", ["lora", "rslora", "dora"])
@pytest.mark.parametrize(
    ("name", "targets"), [("bert", ["query", "value"]), ("gpt2", ["c_attn", "c_fc"]), ("resnet18", ["conv1"])]
)
def test_the_adapted_backbone_equals_a_peft_model(
    name: str, targets: list[str], variant: str, folders: dict[str, Path]
) -> None:
    backbone, spec = make(name, folders, targets=targets, rank=3, alpha=5.0, variant=variant)
    config = LoraConfig(
        r=3, lora_alpha=5, target_modules=targets, use_rslora=variant == "rslora", use_dora=variant == "dora"
    )
    reference = copy.deepcopy(backbone)
    peft = get_peft_model(reference.net, config)
    reference.net = peft.base_model.model
    model = build_model(spec, backbone, 2).eval()
    shake_adapters(model)
    reference.load_state_dict(backbone.state_dict())  # the same names, so nothing else was adapted
    reference.eval()
    batch = inputs(backbone)
    with torch.no_grad():
        assert torch.equal(backbone(batch), reference(batch))


def test_grouped_convolutions_are_left_out() -> None:
    backbone = load_backbone(BackboneSpec(name="efficientnet_b0", weights="random"), device="meta")
    modules = dict(backbone.net.named_modules())
    found = find_targets(backbone, "auto")
    convolutions = {name for name, module in modules.items() if isinstance(module, nn.Conv2d)}
    assert set(found) == {name for name in convolutions if modules[name].groups == 1}
    assert len(found) < len(convolutions)


def test_vgg_adapts_its_wide_layers_too() -> None:
    backbone = load_backbone(BackboneSpec(name="vgg11", weights="random"), device="meta")
    assert {"classifier.0", "classifier.3", "features.0"} <= set(find_targets(backbone, "auto"))


@pytest.mark.parametrize(
    ("name", "targets", "parts"),
    [
        ("gpt2", ["query"], ["c_attn", "c_proj", "c_fc"]),
        ("swin_t", ["attention"], ["qkv", "proj", "mlp.0", "reduction"]),
    ],
)
def test_targets_that_match_nothing_are_answered_with_candidates(
    name: str, targets: list[str], parts: list[str], folders: dict[str, Path]
) -> None:
    backbone, spec = make(name, folders, targets=targets)
    with pytest.raises(SpecError, match="matches no layer") as error:
        build_model(spec, backbone, 2)
    assert all(part in str(error.value) for part in parts)


def test_only_grouped_convolutions_are_refused(folders: dict[str, Path]) -> None:
    backbone, spec = make("timm:convnext_atto", folders, targets=["conv_dw"])
    with pytest.raises(SpecError, match="matches only grouped convolutions"):
        build_model(spec, backbone, 2)


def test_a_top_level_name_does_not_adapt_layers_below_it(folders: dict[str, Path]) -> None:
    backbone, _ = make("timm:vit_tiny_patch16_224", folders)
    found = find_targets(backbone, ["patch_embed.proj"])
    assert found == ["patch_embed.proj"]


def test_the_initial_adapters_depend_on_the_seed_alone(folders: dict[str, Path]) -> None:
    def state(seed: int) -> dict[str, Tensor]:
        backbone, spec = make("bert", folders)
        torch.seed()
        spec = spec.model_copy(update={"train": spec.train.model_copy(update={"seed": seed})})
        return build_model(spec, backbone, 2).tuned_state()

    first, again, other = state(1), state(1), state(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_what_is_stored_of_an_adapted_model_makes_the_same_model(folders: dict[str, Path]) -> None:
    backbone, spec = make("gpt2", folders)
    model = build_model(spec, backbone, 2)
    shake_adapters(model)
    state = {name: tensor.clone() for name, tensor in model.tuned_state().items()}
    assert all(name.startswith("head.") or is_adapter_key(name) for name in state)
    again: TunedModel = build_model(spec, make("gpt2", folders)[0], 2)
    again.load_tuned_state(state)
    batch = inputs(backbone)
    with torch.no_grad():
        assert torch.equal(model.eval()(batch), again.eval()(batch))


@pytest.mark.parametrize("name", ["bert", "vit_b_32", "resnet18"])
def test_adapters_take_the_16_bits_of_autocast_and_give_what_peft_gives(name: str, folders: dict[str, Path]) -> None:
    backbone, spec = make(name, folders, rank=2)
    model = build_model(spec, backbone, 2).eval()
    shake_adapters(model)
    layers = [layer for layer in backbone.net.modules() if isinstance(layer, LoraLayer)]
    seen: set[torch.dtype] = set()
    for layer in layers:
        layer.lora_A["default"].register_forward_pre_hook(lambda _, args: seen.add(args[0].dtype))

    def passed() -> Tensor:
        seen.clear()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return model(inputs(backbone))

    ours = passed()
    assert torch.bfloat16 in seen
    for layer in layers:
        layer.cast_input_dtype_enabled = True
    theirs = passed()
    assert seen == {torch.float32}
    assert torch.equal(ours, theirs)

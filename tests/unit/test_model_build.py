from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hub import save_tiny_bert
from torch import Tensor, nn

from deeptune.backbones import Backbone, load_backbone
from deeptune.errors import CheckpointError
from deeptune.model.build import TunedModel, build_model
from deeptune.spec.run_spec import BackboneSpec, DataSpec, HeadSpec, RunSpec, TrainSpec, TuningSpec


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


def run_spec(method: str, *, seed: int = 42, unfreeze: int = 0, batch_norm: str = "train", **head: object) -> RunSpec:
    return RunSpec(
        data=DataSpec(path="x"),
        backbone=BackboneSpec(name="resnet18", weights="random", image_size=32),
        head=HeadSpec(**head),  # type: ignore[arg-type]
        tuning=TuningSpec(method=method, unfreeze=unfreeze),  # type: ignore[arg-type]
        train=TrainSpec(seed=seed, batch_norm=batch_norm),  # type: ignore[call-arg, arg-type]
    )


def make(method: str, **options: object) -> TunedModel:
    spec = run_spec(method, **options)  # type: ignore[arg-type]
    return build_model(spec, load_backbone(spec.backbone, seed=1), 3)


IMAGES = {
    "images": torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
}
TARGETS = torch.tensor([0, 1, 2, 0])


def steps(model: nn.Module, batch: dict[str, Tensor], targets: Tensor, count: int = 2) -> None:
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.01)
    for _ in range(count):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), targets).backward()
        optimizer.step()


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_partial_leaves_the_backbone_as_it_was_bit_by_bit() -> None:
    model = make("partial")
    before = state(model)
    steps(model, IMAGES, TARGETS)
    assert not any(module.training for module in model.backbone.modules())
    assert changed(before, state(model)) == {"head.last_layer.weight", "head.last_layer.bias"}


def test_lora_leaves_the_backbone_and_its_running_statistics_as_they_were() -> None:
    model = make("lora")
    before = state(model)
    steps(model, IMAGES, TARGETS)
    tuned = set(model.tuned_state())
    assert changed(before, state(model)) == tuned
    assert sum("running_mean" in name for name in before) > 0


def test_full_changes_every_weight_and_the_running_statistics() -> None:
    model = make("full")
    before = state(model)
    steps(model, IMAGES, TARGETS)
    assert changed(before, state(model)) == before.keys()


@pytest.mark.parametrize(("method", "unfreeze"), [("full", 0), ("partial", 2)])
def test_frozen_batch_norm_learns_its_weights_but_keeps_its_statistics(method: str, unfreeze: int) -> None:
    model = make(method, unfreeze=unfreeze, batch_norm="frozen")
    before = state(model)
    steps(model, IMAGES, TARGETS)
    statistics = {name for name in before if name.rpartition(".")[2] in ("running_mean", "running_var")}
    after = changed(before, state(model))
    assert statistics
    assert not after & statistics
    assert "backbone.net.layer4.0.bn1.weight" in after


def test_of_a_partly_frozen_backbone_the_last_blocks_alone_learn_statistics_included() -> None:
    model = make("partial", unfreeze=2)
    before = state(model)
    steps(model, IMAGES, TARGETS)
    assert {name.split(".")[2] for name in before.keys() - changed(before, state(model)) if "net" in name} == {
        "conv1", "bn1", "layer1", "layer2", "layer3"
    }  # fmt: skip
    assert changed(before, state(model)) == set(model.tuned_state())
    assert "backbone.net.layer4.0.bn1.running_mean" in model.tuned_state()
    learning = [name for name, module in model.backbone.net.named_modules() if module.training]
    assert learning
    assert all(name.startswith(("layer4.", "avgpool", "fc")) for name in learning)
    assert not any(module.training for module in model.eval().modules())


def test_the_boundary_stands_in_for_the_frozen_blocks() -> None:
    model = make("partial", unfreeze=3).eval()
    assert model.cut is not None
    with torch.no_grad():
        boundary = {"boundary": model.cut.prefix(IMAGES)}
        assert torch.equal(model(boundary), model(IMAGES))
        assert torch.equal(model.embed(boundary), model.embed(IMAGES))


def test_partial_builds_no_graph_through_the_backbone() -> None:
    model = make("partial")
    assert not model.pooled(IMAGES).requires_grad
    assert model(IMAGES).requires_grad


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("method", ["partial", "full", "lora"])
def test_the_last_layer_of_the_embedding_is_the_logits(method: str, layers: int) -> None:
    model = make(method, layers=layers, embedding_size=7, dropout=0.3).eval()
    with torch.no_grad():
        embedding = model.embed(IMAGES)
        assert embedding.shape == (4, 512 if layers == 1 else 7)
        assert torch.equal(model.last_layer(embedding), model(IMAGES))


def test_pooled_features_stand_in_for_the_backbone() -> None:
    model = make("partial", layers=2).eval()
    with torch.no_grad():
        pooled = model.backbone(IMAGES)
        assert torch.equal(model({"features": pooled}), model(IMAGES))
        assert torch.equal(model.embed({"features": pooled}), model.embed(IMAGES))


def test_the_head_starts_as_torchs_own_layers_do_after_the_seed() -> None:
    model = make("partial", seed=9, layers=2, embedding_size=5)
    torch.manual_seed(9)
    first, last = nn.Linear(512, 5), nn.Linear(5, 3)
    assert torch.equal(model.head.embedding[0].weight, first.weight)
    assert torch.equal(model.last_layer.weight, last.weight)


@pytest.mark.parametrize("method", ["partial", "full", "lora"])
def test_counts_are_of_trainable_and_all_parameters(method: str) -> None:
    model = make(method)
    head, backbone = 512 * 3 + 3, 11_176_512
    adapters = sum(tensor.numel() for name, tensor in model.tuned_state().items() if "lora_" in name)
    trainable = {"partial": head, "full": head + backbone, "lora": head + adapters}[method]
    assert model.counts() == (trainable, head + backbone + (adapters if method == "lora" else 0))


def test_counts_include_the_blocks_that_learn() -> None:
    layer4 = 8_393_728  # torchvision.models.resnet18().layer4
    assert make("partial", unfreeze=2).counts() == (layer4 + 512 * 3 + 3, 11_176_512 + 512 * 3 + 3)
    spec = run_spec("partial", unfreeze=2)
    unbuilt = build_model(spec, load_backbone(spec.backbone, device="meta"), 3)
    assert unbuilt.counts() == make("partial", unfreeze=2).counts()


@pytest.mark.parametrize(("method", "unfreeze"), [("partial", 0), ("partial", 3), ("full", 0), ("lora", 0)])
def test_what_is_stored_makes_the_same_model(method: str, unfreeze: int) -> None:
    model = make(method, unfreeze=unfreeze)
    steps(model, IMAGES, TARGETS)
    stored = {name: tensor.clone() for name, tensor in model.tuned_state().items()}
    if method == "partial" and not unfreeze:
        assert stored.keys() == {"head.last_layer.weight", "head.last_layer.bias"}
    again = make(method, seed=7, unfreeze=unfreeze)
    again.load_tuned_state(stored)
    with torch.no_grad():
        assert torch.equal(again.eval()(IMAGES), model.eval()(IMAGES))


def test_a_state_that_is_not_the_models_own_is_refused() -> None:
    model = make("partial")
    stored = dict(model.tuned_state())
    stored["head.bias"] = stored.pop("head.last_layer.bias")
    stored["head.last_layer.weight"] = torch.zeros(4, 512)
    with pytest.raises(CheckpointError) as error:
        model.load_tuned_state(stored)
    for part in ("missing: head.last_layer.bias", "unexpected: head.bias", "of another shape: head.last_layer.weight"):
        assert part in error.value.message
    with pytest.raises(CheckpointError, match="unexpected"):
        model.load_tuned_state(make("full").tuned_state())


def test_a_text_model_trains_with_its_dropout_and_is_exact_without(bert: Path) -> None:
    spec = run_spec("full").model_copy(update={"backbone": BackboneSpec(name=f"hf:{bert}")})
    backbone: Backbone = load_backbone(spec.backbone)
    model = build_model(spec, backbone, 2)
    batch = {
        "input_ids": torch.tensor([[2, 6, 7, 3], [2, 8, 3, 0]]),
        "attention_mask": torch.tensor([[1] * 4, [1, 1, 1, 0]]),
    }
    before = state(model)
    steps(model, batch, torch.tensor([0, 1]))
    left = before.keys() - changed(before, state(model))
    assert left <= {"backbone.net.embeddings.position_ids", "backbone.net.embeddings.token_type_ids"}
    model.train()
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))

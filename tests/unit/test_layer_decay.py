"""Learning rates by layer, against timm's own groups and against the layers of a text model."""

from __future__ import annotations

import pytest
import timm
from timm.optim import param_groups_layer_decay

from deeptune.backbones import load_backbone
from deeptune.engine.optimizers import layer_shares, make_optimizer
from deeptune.model.build import build_model
from deeptune.spec.model_spec import BackboneSpec
from deeptune.spec.toml import validate


def model_and_spec(backbone: str, *, method: str = "full", **train):
    spec = validate(
        {
            "data": {"path": "sample:openclipart7"},
            "backbone": {"name": backbone, "weights": "random"},
            "tuning": {"method": method},
            "train": {
                "learning_rate": 0.01, "head_learning_rate": 0.002, "weight_decay": 0.05, "epochs": 1, **train,
            },
        }
    )  # fmt: skip
    return build_model(spec, load_backbone(BackboneSpec(name=backbone, weights="random"), seed=0), 3), spec


@pytest.mark.parametrize("name", ["test_vit", "resnet18", "test_efficientnet"])
def test_the_rates_are_those_of_timm(name):
    model, _ = model_and_spec(f"timm:{name}")
    net = timm.create_model(name, num_classes=0)
    groups = param_groups_layer_decay(net, layer_decay=0.7)
    by_parameter = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    expected = {f"backbone.net.{name}": by_parameter[id(value)] for name, value in net.named_parameters()}
    assert layer_shares(model, 0.7) == pytest.approx(expected)


def test_of_a_text_model_the_embeddings_are_slowest_and_the_last_layer_has_the_whole_rate(tiny_bert):
    model, _ = model_and_spec(f"hf:{tiny_bert}")
    shares = layer_shares(model, 0.5)
    assert {share for name, share in shares.items() if ".embeddings." in name} == {0.25}
    assert {share for name, share in shares.items() if ".layer.0." in name} == {0.5}
    assert {share for name, share in shares.items() if ".layer.1." in name} == {1.0}


def test_the_groups_of_the_optimizer_have_these_rates_and_the_head_its_own():
    model, spec = model_and_spec("resnet18", layer_decay=0.5)
    rates = {
        id(parameter): group["lr"]
        for group in make_optimizer(model, spec.train).param_groups
        for parameter in group["params"]
    }
    named = dict(model.named_parameters())
    assert rates[id(named["backbone.net.conv1.weight"])] == pytest.approx(0.01 * 0.5**8)
    assert rates[id(named["backbone.net.layer4.1.conv2.weight"])] == 0.01
    assert {rates[id(parameter)] for parameter in model.head.parameters()} == {0.002}


def test_adapters_have_the_rate_of_their_block():
    model, spec = model_and_spec("resnet18", method="lora", layer_decay=0.5)
    groups = make_optimizer(model, spec.train).param_groups
    assert sorted({round(0.01 / group["lr"]) for group in groups if group["lr"] != 0.002}) == [
        1, 2, 4, 8, 16, 32, 64, 128, 256,
    ]  # fmt: skip


def test_a_decay_of_one_leaves_the_groups_as_they_are():
    model, spec = model_and_spec("resnet18")
    assert {group["lr"] for group in make_optimizer(model, spec.train).param_groups} == {0.01, 0.002}

"""When the statistics of batch normalisation stay what they were."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import timm
import torch

from deeptune.engine.prepare import prepare
from deeptune.engine.resume import EarlierAttempt
from deeptune.spec.defaults import batch_norm
from deeptune.spec.run_spec import RunSpec
from deeptune.spec.toml import validate


def spec(path="x", *, backbone="timm:test_resnet", weights="pretrained", **train) -> RunSpec:
    return validate(
        {
            "data": {"path": str(path)},
            "backbone": {"name": backbone, "weights": str(weights), "image_size": 32},
            "tuning": {"method": "full"},
            "train": {"device": "cpu", "workers": 0, **train},
        }
    )


@pytest.mark.parametrize(
    ("train", "weights", "chosen"),
    [
        ({}, "pretrained", "frozen"),
        ({}, "random", "train"),
        ({"batch_norm": "train"}, "pretrained", "train"),
        ({"batch_norm": "frozen"}, "random", "frozen"),
    ],
)
def test_pretrained_statistics_stay_unless_asked_otherwise(train, weights, chosen):
    assert batch_norm(spec(weights=weights, **train), statistics=True) == chosen


def test_a_backbone_without_statistics_has_none_to_keep():
    assert batch_norm(spec(batch_norm="frozen"), statistics=False) == "train"


@pytest.mark.parametrize(("backbone", "chosen"), [("test_resnet", "frozen"), ("test_vit", "train")])
def test_a_run_knows_whether_its_backbone_has_statistics(image_file, tmp_path, backbone, chosen):
    weights = tmp_path / "weights.pth"
    torch.save(timm.create_model(backbone).state_dict(), weights)
    ready = prepare(spec(image_file(), backbone=f"timm:{backbone}", weights=weights))
    assert ready.spec.train.batch_norm == chosen
    norms = [module for module in ready.model.train().modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert [module.training for module in norms] == [False] * len(norms)
    assert bool(norms) == (chosen == "frozen")


@pytest.mark.parametrize(("then", "expected"), [({}, "train"), ({"batch_norm": "auto"}, "auto")])
def test_a_run_of_a_version_without_the_key_still_updates_them(then, expected):
    earlier = SimpleNamespace(record={"spec": {"data": {"value_range": "none"}, "train": then}})
    assert EarlierAttempt.with_earlier_defaults(earlier, spec()).train.batch_norm == expected

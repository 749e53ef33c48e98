"""Each row's optimizer: what it does to real weights on real data, and that its state is stored and put back exactly."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from deeptune.engine.optimizers import make_optimizer
from deeptune.engine.train_state import put_optimizer, take_optimizer
from deeptune.spec.model import TrainSpec
from deeptune.spec.optimizers import OPTIMIZERS
from deeptune.spec.toml import validate


def train_spec(optimizer: str) -> TrainSpec:
    return validate(
        {
            "data": {"path": "sample:openclipart7"},
            "backbone": {"name": "resnet18"},
            "tuning": {"method": "full"},
            "train": {
                "optimizer": optimizer, "learning_rate": 0.01, "head_learning_rate": 0.002, "weight_decay": 0.05,
            },
        }
    ).train  # fmt: skip


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"body": nn.Linear(64, 16), "head": nn.Linear(16, 10)})


def loss_of(model: nn.ModuleDict, step: int) -> torch.Tensor:
    images, digits = load_digits(return_X_y=True)
    rows = slice(32 * step, 32 * (step + 1))
    hidden = torch.relu(model["body"](torch.tensor(images[rows], dtype=torch.float32) / 16))
    return nn.functional.cross_entropy(model["head"](hidden), torch.tensor(digits[rows]))


def train(model: nn.ModuleDict, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_stored_state_continues_bit_by_bit(name: str) -> None:
    model, other = network(), network()
    optimizer = make_optimizer(model, train_spec(name))
    train(model, optimizer, range(5))
    other.load_state_dict(model.state_dict())
    resumed = make_optimizer(other, train_spec(name))
    put_optimizer(resumed, *take_optimizer(optimizer))
    train(model, optimizer, range(5, 10))
    train(other, resumed, range(5, 10))
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_every_class_name_is_that_of_its_optimizer() -> None:
    for name, row in OPTIMIZERS.items():
        assert type(make_optimizer(network(), train_spec(name))).__name__ == row.torch_class

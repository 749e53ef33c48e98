"""Each optimizer row: what it does to real weights on real data, and that its state is stored and restored exactly."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from deeptune.engine.optimizers import make_optimizer
from deeptune.engine.train_state import load_optimizer_state_dict, optimizer_state_dict
from deeptune.spec.optimizers import OPTIMIZERS
from deeptune.spec.run_spec import TrainSpec
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
    load_optimizer_state_dict(resumed, optimizer_state_dict(optimizer))
    train(model, optimizer, range(5, 10))
    train(other, resumed, range(5, 10))
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_every_class_name_is_that_of_its_optimizer() -> None:
    for name, row in OPTIMIZERS.items():
        assert type(make_optimizer(network(), train_spec(name))).__name__ == row.torch_class


def test_adamax_takes_the_steps_of_its_paper() -> None:
    """Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 2, written out here, with L2 decay of matrices."""
    model, plain = network(), network()
    train(model, make_optimizer(model, train_spec("adamax")), range(40))

    first = {name: torch.zeros_like(p) for name, p in plain.named_parameters()}
    largest = {name: torch.zeros_like(p) for name, p in plain.named_parameters()}
    for step in range(40):
        loss = loss_of(plain, step)
        gradients = torch.autograd.grad(loss, list(plain.parameters()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(plain.named_parameters(), gradients, strict=True):
                gradient = gradient + 0.05 * parameter if parameter.ndim == 2 else gradient
                first[name] = 0.9 * first[name] + 0.1 * gradient
                largest[name] = torch.maximum(0.999 * largest[name], gradient.abs() + 1e-8)
                rate = 0.002 if name.startswith("head.") else 0.01
                parameter -= rate / (1 - 0.9 ** (step + 1)) * first[name] / largest[name]

    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter, plain.get_parameter(name), atol=1e-5), name
    assert loss_of(model, 40).item() < 0.9 * loss_of(network(), 40).item()


@pytest.mark.parametrize("name", ["adamw", "adam", "nadam", "adamax"])
def test_the_first_step_of_an_adam_is_corrected_for_its_bias(name: str) -> None:
    """Without the correction the first step of Adam would be 3.2 times the learning rate, that of Adamax a tenth."""
    model = network()
    before = model["body"].bias.detach().clone()
    train(model, make_optimizer(model, train_spec(name)), range(1))
    moved = (model["body"].bias.detach() - before).abs()
    assert float(moved.max()) == pytest.approx(0.01, rel=0.06)

"""fp16 with loss scaling, by the real scaler and the real fused optimizers on the CPU."""

from __future__ import annotations

import pytest
import torch

from deeptune.backbones import load_backbone
from deeptune.data.loading.loader import Batch
from deeptune.engine import loop, optimizer_step
from deeptune.engine.device import Compute
from deeptune.engine.loss import Criterion
from deeptune.engine.optimizer_step import Learner
from deeptune.model.build import build_model
from deeptune.spec.toml import validate

FP16 = Compute(torch.device("cpu"), torch.float16, "a test")


class Repeated:
    """The same batch of random features in each step."""

    def __init__(self, width: int, steps: int) -> None:
        torch.manual_seed(0)
        self.batch = Batch({"features": 256 * torch.randn(8, width)}, torch.arange(8) % 2, torch.arange(8))
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def set_epoch(self, epoch: int, *, skip: int = 0) -> None: ...

    def __iter__(self):
        return iter([self.batch] * self.steps)


def trained(monkeypatch, optimizer: str, *, scale: float, steps: int):
    """A head trained from a first loss scale: its weights, and the optimizer's state after each step."""
    spec = validate(
        {
            "data": {"path": "none.parquet"},
            "backbone": {"name": "timm:test_resnet", "weights": "random", "image_size": 32},
            "tuning": {"method": "partial"},
            "train": {
                "epochs": 1, "batch_size": 8, "device": "cpu", "optimizer": optimizer, "learning_rate": 1e-5,
                "head_learning_rate": 1e-5, "weight_decay": 0.0, "warmup": 0.0, "schedule": "constant",
                "token_budget": 0, "checkpoint_every": "1 h", "early_stopping": {"patience": 0, "metric": "val/loss"},
            },
        }
    )  # fmt: skip
    torch.manual_seed(0)
    backbone = load_backbone(spec.backbone, seed=0)
    model = build_model(spec, backbone, 2)
    states, made, scaler = [], [], torch.amp.GradScaler("cpu", init_scale=scale)
    make = optimizer_step.make_optimizer

    def kept(*arguments):
        made.append(make(*arguments))
        return made[-1]

    def after_a_step() -> None:
        states.append({key: torch.clone(value) for state in made[0].state.values() for key, value in state.items()})

    with monkeypatch.context() as patch:
        patch.setattr(optimizer_step, "make_optimizer", kept)
        patch.setattr(Compute, "scaler", lambda self: scaler)
        loop.fit(
            Learner(model, Criterion("cross_entropy"), FP16), spec.train, Repeated(backbone.width, steps),
            loop.Hooks(check=after_a_step),
        )  # fmt: skip
    return {name: value.clone() for name, value in model.tuned_state().items()}, states, scaler.get_scale()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_step_that_overflows_leaves_the_optimizer_alone(monkeypatch, optimizer) -> None:
    _, states, _ = trained(monkeypatch, optimizer, scale=2.0**127, steps=2)
    assert states[0] == {}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_after_overflows_is_that_without_them(monkeypatch, optimizer) -> None:
    scales = [2.0**127, 2.0**10]
    overflowing, states, scale = trained(monkeypatch, optimizer, scale=scales[0], steps=30)
    skipped = sum(state == {} for state in states)
    assert skipped > 0
    assert scale == scales[0] / 2**skipped  # the scaler is updated in each step
    plain, _, _ = trained(monkeypatch, optimizer, scale=scales[1], steps=30 - skipped)
    for name, value in plain.items():
        torch.testing.assert_close(overflowing[name], value, rtol=1e-3, atol=1e-4)

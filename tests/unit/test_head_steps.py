"""A head on stored features takes its steps by hand: the bits are those of autograd and of PyTorch's own optimizer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deeptune.data.cache.records import MemoryRecords
from deeptune.data.loading.dataset import Dataset, FeatureInputs
from deeptune.data.loading.features import Features
from deeptune.data.loading.loader import Loader, LoaderOptions
from deeptune.engine.device import Compute
from deeptune.engine.head_steps import HeadSteps
from deeptune.engine.loop import Hooks, Trainer
from deeptune.engine.loss import Criterion
from deeptune.engine.optimizer_step import Learner
from deeptune.engine.optimizers import QuickAdam
from deeptune.errors import RunStopped
from deeptune.model.build import TunedModel
from deeptune.model.head import Head
from deeptune.spec.run_spec import HeadSpec, TrainSpec

ROWS, WIDTH, OUTPUTS = 50, 12, 3


class NoBackbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.members: dict = {}
        self.net = nn.Identity()

    def blocks(self) -> list[str]:
        return []


def targets(loss: str) -> np.ndarray:
    generator = np.random.default_rng(1)
    if loss == "cross_entropy":
        return generator.integers(0, OUTPUTS, ROWS)
    if loss == "bce":
        return generator.integers(0, 2, (ROWS, OUTPUTS)).astype(np.float32)
    found = generator.standard_normal((ROWS, OUTPUTS)).astype(np.float32)
    found[::7, 1] = np.nan  # a missing target
    return found


def trainer(
    loss: str,
    hooks: Hooks | None = None,
    *,
    layers: int = 1,
    dropout: float = 0.0,
    activation: str = "relu",
    one: bool = False,
    **options,
) -> Trainer:
    torch.manual_seed(0)
    x = (np.random.default_rng(0).standard_normal((ROWS, WIDTH)) * 3 + 1).astype(np.float32)
    features = Features(MemoryRecords(ROWS, 1e9), np.arange(ROWS), WIDTH)
    features.put(np.arange(ROWS), x)
    wanted = targets(loss)[:, 0] if one else targets(loss)
    dataset = Dataset(FeatureInputs([features]), np.arange(ROWS), wanted)
    spec = HeadSpec(layers=layers, dropout=dropout, activation=activation, embedding_size=9)
    head = Head(spec, WIDTH, 1 if one else OUTPUTS)
    head.standardise(torch.from_numpy(x))
    spec = TrainSpec(
        **{
            "epochs": 3, "batch_size": 8, "learning_rate": 0.05, "head_learning_rate": 0.05, "weight_decay": 0.5,
            "loss": loss, "token_budget": 0, "precision": "fp32", "device": "cpu", "memory_format": "contiguous",
            "batch_norm": "train", "early_stopping": {"metric": "val/loss", "patience": 0}, "checkpoint_every": "1 h",
            **options,
        }
    )  # fmt: skip
    weights = torch.tensor([0.5, 1.0, 2.0]) if options.get("class_weights") else None
    model = TunedModel(NoBackbone(), head, "partial")  # type: ignore[arg-type]
    learner = Learner(model, Criterion(loss, weights, spec.label_smoothing), Compute(torch.device("cpu"), None, ""))
    return Trainer(
        learner, spec, Loader(dataset, LoaderOptions(8, shuffle=True, kept_on=torch.device("cpu"))), hooks or Hooks()
    )


def content(trainer: Trainer) -> dict[str, object]:
    tensors = trainer.state_dict().tensors | trainer.model.state_dict()
    found = {name: tensor.detach().numpy().tobytes() for name, tensor in tensors.items()}
    return {**found, "losses": [epoch["train"]["loss"] for epoch in trainer.history.epochs]}


CASES = [
    ("cross_entropy", {}),
    ("cross_entropy", {"class_weights": "balanced", "label_smoothing": 0.1, "accumulation": 3}),
    ("bce", {"clip_norm": 0.01, "optimizer": "adam"}),
    ("mse", {"clip_norm": 0.0, "average": "ema"}),
    ("huber", {"optimizer": "sgd"}),
    ("cross_entropy", {"class_weights": "balanced", "clip_norm": 0.3}),
    ("mse", {"one": True, "clip_norm": 1e6}),
    ("cross_entropy", {"layers": 2, "clip_norm": 0.2}),
    ("cross_entropy", {"layers": 2, "dropout": 0.4, "activation": "gelu"}),
    ("mse", {"one": True, "layers": 2, "activation": "silu", "clip_norm": 0.0}),
    ("bce", {"layers": 2, "activation": "tanh", "optimizer": "adam"}),
]


@pytest.mark.parametrize(("loss", "options"), CASES)
def test_the_bits_are_those_of_autograd(monkeypatch, loss, options) -> None:
    quick = trainer(loss, **options)
    assert (quick.stepper.only_layer is None) == (options.get("layers") == 2)
    assert (quick.stepper.quick is None) == (options.get("optimizer") == "sgd")
    assert (quick.stepper.by_hand is None) == (quick.stepper.quick is None or "accumulation" in options)
    quick.fit()
    with monkeypatch.context() as patch:
        patch.setattr(Head, "only_layer", None)
        patch.setattr(QuickAdam, "of", lambda _optimizer: None)
        plain = trainer(loss, **options)
    plain.batches = Loader(plain.batches.dataset, LoaderOptions(8, shuffle=True))
    assert plain.stepper.by_hand is plain.stepper.quick is plain.stepper.only_layer is None
    plain.fit()
    assert content(quick) == content(plain)


@pytest.mark.parametrize("bad", [np.nan, 3e38])
def test_a_step_that_is_not_finite_changes_nothing_by_hand_either(monkeypatch, bad) -> None:
    def fitted() -> tuple[dict[str, object], list[str]]:
        found: list[str] = []
        training = trainer("cross_entropy", Hooks(warn=found.append), layers=2, dropout=0.3)
        features = training.batches.dataset.inputs.views[0]
        damaged = features.take(np.arange(ROWS))
        damaged[7] = bad
        copy = Features(MemoryRecords(ROWS, 1e9), np.arange(ROWS), WIDTH)
        copy.put(np.arange(ROWS), damaged)
        training.batches.dataset.inputs.views = [copy]
        training.fit()
        return {**content(training), "skipped": training.history.skipped}, found

    quick = fitted()
    assert quick[0]["skipped"]
    monkeypatch.setattr(QuickAdam, "of", lambda _optimizer: None)
    assert fitted() == quick


def test_memory_that_runs_out_in_a_step_by_hand_leaves_it_to_autograd(monkeypatch) -> None:
    whole = trainer("cross_entropy")
    whole.fit()
    find, failed = HeadSteps.find, []

    def fails_once(self, *args):
        if not failed:
            failed.append(True)
            raise MemoryError
        return find(self, *args)

    monkeypatch.setattr(HeadSteps, "find", fails_once)
    again = trainer("cross_entropy")
    again.fit()
    assert failed
    assert content(again) == content(whole)


def test_training_resumes_to_the_same_bits() -> None:
    whole = trainer("cross_entropy")
    whole.fit()

    def stop() -> None:
        if cut.history.steps == 10:
            raise RunStopped("stopped")

    cut = trainer("cross_entropy", Hooks(check=stop))
    with pytest.raises(RunStopped):
        cut.fit()
    resumed = trainer("cross_entropy")
    resumed.stepper.step([next(iter(resumed.batches))])  # states that the loaded ones replace
    resumed.model.load_state_dict(cut.model.state_dict())
    resumed.load_state_dict(cut.state_dict())
    resumed.stepper.unread.clear()
    resumed.fit()
    assert content(resumed) == content(whole)

"""Settings of training in whole runs: early stopping, class weights, augmentation, optimizers and schedules."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from image_runs import image_spec, run

from deeptune.engine.run import execute
from deeptune.errors import SpecError, TrainingError
from deeptune.runs import new_run_directory, read_records
from deeptune.spec.optimizers import OPTIMIZERS
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")


def test_a_loss_that_is_not_finite_ends_the_run_with_advice(tmp_path):
    directory = new_run_directory(tmp_path, "test")
    spec = image_spec("full", learning_rate=1e30, head_learning_rate=1e30, optimizer="sgd", clip_norm=0.0, warmup=0.0)
    with pytest.raises(TrainingError, match=r"(is (nan|inf) at step .* in every step|no longer finite)") as caught:
        execute(validate(spec), directory)
    assert "learning_rate" in caught.value.hint
    assert json.loads(directory.result.read_text())["state"] == "failed"


def test_early_stopping_keeps_the_best_epoch_of_the_chosen_metric(tmp_path):
    spec = image_spec(epochs=60, learning_rate=0.02, early_stopping={"metric": "val/macro_f1", "patience": 3})
    directory = run(spec, tmp_path)
    epochs = [event for event in read_records(directory.events) if event["kind"] == "epoch"]
    values = [event["val"]["macro_f1"] for event in epochs]
    result = json.loads(directory.result.read_text())
    assert result["best"]["epoch"] == 1 + int(np.argmax(values))
    assert result["best"]["value"] == max(values)
    assert len(epochs) == result["best"]["epoch"] + 3 < 60
    manifest = json.loads((directory.best / "manifest.json").read_text())
    assert manifest["best"] == result["best"]
    metrics = json.loads(directory.metrics.read_text())
    assert metrics["val"]["macro_f1"] == pytest.approx(max(values))


def test_without_a_val_split_the_last_epoch_is_kept(tmp_path):
    spec = image_spec()
    spec["data"]["split"] = {"train": 0.3, "val": 0.0, "test": 0.7}
    directory = run(spec, tmp_path)
    result = json.loads(directory.result.read_text())
    assert result["best"] == {"epoch": 2, "metric": "val/loss", "value": None}
    assert set(json.loads(directory.metrics.read_text())) == {"test"}


def test_class_weights_by_value_and_their_errors(tmp_path):
    weights = {str(value): 1.0 + value for value in range(7)}
    directory = run(image_spec(class_weights=weights, label_smoothing=0.1), tmp_path)
    assert json.loads(directory.result.read_text())["state"] == "done"
    with pytest.raises(SpecError, match="no weight for class '6'"):
        run(image_spec(class_weights={str(value): 1.0 for value in range(6)}), tmp_path)


@pytest.mark.parametrize("augmentation", ["light", "randaugment"])
def test_augmented_runs_are_reproducible_too(tmp_path, augmentation):
    # A head fitted first would be the run's model wherever one epoch of so few images makes it no better.
    spec = image_spec("full", augmentation=augmentation, epochs=1, start="random")
    spec["backbone"]["name"] = "mobilenet_v3_small"
    one, two = (run(spec, tmp_path) for _ in range(2))
    assert pq.read_table(one.predictions).equals(pq.read_table(two.predictions))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_every_optimizer_and_schedule_learns(optimizer, schedule):
    from deeptune.engine.optimizers import make_optimizer, make_schedule, schedule_factor

    model = torch.nn.ModuleDict({"head": torch.nn.Linear(4, 1)})
    train = validate(
        image_spec(
            optimizer=optimizer, schedule=schedule, learning_rate=0.05, head_learning_rate=0.05, weight_decay=0.0
        )
    ).train
    optimizer_, steps = make_optimizer(model, train), 200
    schedule_ = make_schedule(optimizer_, train, steps)
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    y = x.sum(1, keepdim=True)
    losses = []
    for step in range(steps):
        factor = schedule_factor(step, steps=steps, warmup=train.warmup, schedule=schedule)
        assert optimizer_.param_groups[0]["lr"] == pytest.approx(0.05 * factor)
        loss = torch.nn.functional.mse_loss(model["head"](x), y)
        optimizer_.zero_grad()
        loss.backward()
        optimizer_.step()
        schedule_.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]

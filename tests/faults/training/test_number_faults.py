"""Losses, gradients and weights that are not finite."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from faults.small_runs import new_run, on_device, warnings_of

from deeptune.checkpoint import load_checkpoint, previous
from deeptune.data.sources.parquet import open_source
from deeptune.engine import loop, optimizer_step
from deeptune.engine.device import Compute
from deeptune.engine.loaders import split_loader
from deeptune.engine.loop import fit
from deeptune.engine.loss import Criterion
from deeptune.engine.optimizer_step import Learner
from deeptune.engine.prepare import prepare
from deeptune.engine.run import execute
from deeptune.errors import TrainingError
from deeptune.runs import read_records
from deeptune.spec import load_spec
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")


def images_with_targets(path, targets):
    table = pq.read_table(open_source("sample:openclipart7").files[0]).slice(0, len(targets))
    pq.write_table(pa.table({"images": table["images"], "labels": targets}), path)
    return str(path)


def poisoned(monkeypatch, rows):
    """A model whose loss is not a number for batches that hold one of `rows`."""
    targets = optimizer_step._targets

    def wrapped(batch):
        found = targets(batch)
        if set(batch.rows.tolist()) & set(rows):
            return found.float() * torch.nan
        return found

    monkeypatch.setattr(optimizer_step, "_targets", wrapped)


def regression_spec(tmp_path, spec_of, **settings):
    path = images_with_targets(tmp_path / "numbers.parquet", [float(row % 13) for row in range(160)])
    spec = spec_of("partial", **settings).model_dump()
    spec |= {"task": "regression", "data": {"path": path, "split": {"train": 0.6, "val": 0.2, "test": 0.2}}}
    spec["train"] |= {"loss": "mse", "early_stopping": {"metric": "auto", "patience": 0}}
    return validate(spec)


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path, monkeypatch, spec_of):
    run = new_run(tmp_path, regression_spec(tmp_path, spec_of, epochs=3))
    ready = prepare(load_spec(run.spec))
    row = int(ready.plan.splits["train"].rows[5])
    poisoned(monkeypatch, {row})
    result = execute(load_spec(run.spec), run)
    assert result["state"] == "done"
    assert result["skipped_steps"] == 3  # one batch of each epoch holds the row
    epochs = [event for event in read_records(run.events) if event["kind"] == "epoch"]
    assert [epoch["skipped_steps"] for epoch in epochs] == [1, 1, 1]
    assert all(isinstance(epoch["train"]["loss"], float) for epoch in epochs)
    told = [warning for warning in warnings_of(run) if "the step was skipped" in warning]
    assert len(told) == 3
    assert "the loss is nan at step" in told[0]
    state = load_checkpoint(run.best).state
    assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize("method", ["partial", "full"])
def test_a_skipped_step_changes_nothing(tmp_path, spec_of, method):
    """Not the weights, not the optimizer, not the running statistics, which the forward pass itself moves."""
    spec = spec_of(method, epochs=1)
    ready = on_device(prepare(spec))
    loader = split_loader(ready, "train", shuffle=True)
    before = {name: value.clone() for name, value in ready.model.state_dict().items()}

    class Broken(Criterion):
        def sum(self, outputs, targets):
            return super().sum(outputs, targets) * torch.nan

    with pytest.raises(TrainingError, match="every step of an epoch"):
        fit(Learner(ready.model, Broken("cross_entropy"), ready.compute), ready.spec.train, loader)
    assert all(torch.equal(before[name], value) for name, value in ready.model.state_dict().items())


@pytest.mark.parametrize("poison", [False, True])
def test_steps_that_are_read_late_as_on_a_gpu_learn_the_same(monkeypatch, spec_of, poison):
    """A step that is not finite is skipped on the device, before its loss is read."""

    def trained(late):
        monkeypatch.setattr(Compute, "reads_late", late)
        ready = on_device(prepare(spec_of(epochs=2, schedule="constant", warmup=0.0)))
        steps, told = [], []

        class PoisonedOnce(Criterion):
            def sum(self, outputs, targets):
                steps.append(len(targets))
                return super().sum(outputs, targets) * (torch.nan if poison and len(steps) == 3 else 1)

        loader = split_loader(ready, "train", shuffle=True)
        torch.manual_seed(0)
        history = fit(
            Learner(ready.model, PoisonedOnce("cross_entropy"), ready.compute), ready.spec.train, loader,
            loop.Hooks(warn=told.append),
        )  # fmt: skip
        losses = [epoch["train"]["loss"] for epoch in history.epochs]
        return dict(ready.model.named_parameters()), losses, history.skipped, told

    at_once, late = trained(False), trained(True)
    assert at_once[1:] == late[1:]
    assert late[2] == len(late[3]) == int(poison)
    for name, parameter in at_once[0].items():
        assert torch.equal(parameter, late[0][name]), name


def test_too_many_steps_in_a_row_end_the_run_with_step_rate_rows_and_advice(tmp_path, monkeypatch, spec_of):
    run = new_run(tmp_path, regression_spec(tmp_path, spec_of, epochs=4, batch_size=4))
    ready = prepare(load_spec(run.spec))
    rows = split_loader(ready, "train", shuffle=True).order(1)[20:]  # from the sixth step of the second epoch on
    first = split_loader(ready, "train", shuffle=True).order(1)[:20]
    poisoned(monkeypatch, set(rows.tolist()) - set(first.tolist()))
    monkeypatch.setattr(optimizer_step, "MAX_SKIPPED", 4)
    with pytest.raises(TrainingError) as caught:
        execute(load_spec(run.spec), run)
    for part in ("the loss is nan at step", "learning rate", "rows ", "4 steps in a row"):
        assert part in caught.value.message
    assert "train.learning_rate" in caught.value.hint
    assert json.loads(run.result.read_text())["error"]["hint"] == caught.value.hint


def test_weights_that_blow_up_never_become_a_checkpoint(tmp_path, spec_of):
    """A rate so high that weights overflow: what was stored before stays, and is finite."""
    spec = spec_of(epochs=30, optimizer="sgd", learning_rate=1e38, head_learning_rate=1e38, clip_norm=0.0, warmup=0.6)
    run = new_run(tmp_path, spec)
    with pytest.raises(TrainingError, match=r"finite|nan|inf"):
        execute(load_spec(run.spec), run)
    for folder in (run.best, run.last, previous(run.best), previous(run.last)):
        if folder.exists():
            checkpoint = load_checkpoint(folder)
            assert all(torch.isfinite(value).all() for value in checkpoint.state.values() if value.is_floating_point())


@pytest.mark.parametrize(
    ("method", "said"),
    [("partial", "learning rate 1e+30"), ("full", "learning rate 1e+30 and 0.001 of the head")],
)
def test_weights_that_are_not_finite_are_told_with_the_rates_of_the_spec(tmp_path, spec_of, method, said):
    """Not with what a schedule or a warmup makes of the head's alone."""
    spec = spec_of(method, epochs=2).model_dump()
    spec["train"] |= {"learning_rate": 1e30, "head_learning_rate": 1e30 if method == "partial" else 1e-3}
    spec["train"] |= {"schedule": "cosine", "warmup": 0.25}
    with pytest.raises(TrainingError, match=re.escape(said)):
        execute(validate(spec), new_run(tmp_path, validate(spec)))

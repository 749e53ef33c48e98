"""Fine-tuning that starts from a fitted head: what it starts with, and which of the two is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from devices import ON_DEVICE
from safetensors.torch import load_file

from deeptune.checkpoint import load_checkpoint, read_manifest
from deeptune.data.sources.parquet import open_source
from deeptune.engine.dry_run import describe
from deeptune.engine.predict import ApplyOptions, Predictor
from deeptune.engine.run import execute
from deeptune.report import write_report
from deeptune.runs import RunDirectory, new_run_directory, read_records
from deeptune.spec.toml import validate
from deeptune.tasks.temperature import fit_temperature
from deeptune.tasks.temperature_prior import FINE_TUNED, prior_after

pytestmark = pytest.mark.usefixtures("no_reports")

# Weights that are of no use, and still finite.
WRECKED = {
    "full": {"learning_rate": 100.0, "head_learning_rate": 100.0, "warmup": 0.0},
    "unfreeze": {"learning_rate": 100.0, "head_learning_rate": 100.0, "warmup": 0.0},
    "lora": {"learning_rate": 0.3, "head_learning_rate": 3.0, "warmup": 0.0},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Some rows of the samples, in files of their own."""
    root = tmp_path_factory.mktemp("head")
    for name, count in (("openclipart7", 200), ("digits_rotation", 500)):
        table = pq.read_table(open_source(f"sample:{name}").files[0])
        rows = list(range(0, table.num_rows, table.num_rows // count))[:count]
        pq.write_table(table.take(rows), root / f"{name}.parquet")
    return root


@pytest.fixture(scope="module")
def done(folder):
    """`done("full", epochs=3)` is a finished run, made once."""
    made: dict[str, RunDirectory] = {}

    def get(method: str, task: str = "classification", split: dict | None = None, **train: Any) -> RunDirectory:
        key = repr((method, task, split, train))
        if key not in made:
            made[key] = new_run_directory(folder, "test")
            execute(validate(make_spec(folder, method, task, split, **train)), made[key])
        return made[key]

    return get


def make_spec(folder: Path, method: str, task: str = "classification", split: dict | None = None, **train: Any) -> dict:
    data, net = ("openclipart7", "resnet") if task == "classification" else ("digits_rotation", "vit")
    tuning = {"method": "partial", "unfreeze": 1} if method == "unfreeze" else {"method": method}
    if method != "partial":
        train = {"epochs": 2, "batch_size": 16, **train}
    return {
        "task": task,
        "data": {
            "path": str(folder / f"{data}.parquet"),
            "split": split or {"train": 0.5, "val": 0.3, "test": 0.2},
        },
        "backbone": {"name": f"timm:test_{net}", "weights": "random", "image_size": 32},
        "tuning": tuning,
        "train": {"start": "head", **ON_DEVICE, "workers": 0, **train},
    }


def metrics_of(run: RunDirectory) -> dict[str, Any]:
    return json.loads(run.metrics.read_text())


def result_of(run: RunDirectory) -> dict[str, Any]:
    return json.loads(run.result.read_text())


def epochs_of(run: RunDirectory) -> list[dict]:
    return [event for event in read_records(run.events) if event["kind"] == "epoch"]


def messages(run: RunDirectory) -> str:
    return "\n".join(str(event["message"]) for event in read_records(run.events) if "message" in event)


@pytest.mark.parametrize("method", ["full", "lora", "unfreeze"])
def test_the_head_is_that_of_a_partial_run_bit_for_bit(done, method):
    partial, tuned = done("partial", refit="no"), done(method)
    expected = load_file(partial.best / "head.safetensors")
    found = load_checkpoint(tuned.head).state
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("method", ["full", "lora", "unfreeze"])
def test_epoch_0_has_the_scores_of_the_partial_run(done, method):
    partial, start = metrics_of(done("partial")), epochs_of(done(method))[0]
    assert start["epoch"] == 0
    assert start["val"]["loss"] == pytest.approx(partial["val"]["loss"], abs=1e-6)
    assert start["val"]["accuracy"] == pytest.approx(metrics_of(done("partial"))["val"]["accuracy"])


def test_a_partial_run_on_the_same_data_finds_the_features(folder, done):
    done("full")
    partial = new_run_directory(folder, "test")
    execute(validate(make_spec(folder, "partial", seed=42)), partial)
    assert "no row passes the frozen backbone" in messages(partial)


@pytest.mark.parametrize("method", ["full", "lora", "unfreeze"])
def test_fine_tuning_that_wrecks_the_model_ends_with_the_scores_of_the_head(done, method):
    partial, wrecked = done("partial"), done(method, **WRECKED[method])
    result, metrics, expected = result_of(wrecked), metrics_of(wrecked), metrics_of(partial)
    assert (result["best"]["epoch"], result["choice"]["model"]) == (0, "head")
    assert "the run's model is the head" in messages(wrecked)
    for split in ("val", "test"):
        assert metrics[split]["confusion_matrix"] == expected[split]["confusion_matrix"]
        for name in ("accuracy", "macro_f1", "loss", "log_loss"):
            assert metrics[split][name] == pytest.approx(expected[split][name], abs=1e-5), (split, name)
            assert metrics["head"][split][name] == pytest.approx(expected[split][name], abs=1e-5), (split, name)
    assert metrics["head"]["is_model"]


def test_the_checkpoint_of_the_head_is_one_like_any_other(done, folder):
    run = done("full", **WRECKED["full"])
    assert read_manifest(run.best)["best"]["epoch"] == 0
    output = folder / "again.parquet"
    Predictor(run, device=ON_DEVICE["device"]).write_predictions(
        open_source(str(folder / "openclipart7.parquet")), output, ApplyOptions()
    )
    then = pq.read_table(run.predictions)
    now = pq.read_table(output).take(then["row"])
    assert now["prediction"].to_pylist() == then["prediction"].to_pylist()


def test_fine_tuning_that_is_better_is_kept(done):
    """The angle of a digit is not in the features of random weights."""
    run = done("full", "regression", epochs=12, learning_rate=1e-3)
    result, metrics = result_of(run), metrics_of(run)
    assert result["choice"]["model"] == "fine-tuned"
    assert result["best"]["epoch"] > 0
    assert metrics["head"]["p"] < 0.16
    assert metrics["val"]["loss"] < metrics["head"]["val"]["loss"]
    assert metrics["head"]["difference"] == pytest.approx(
        metrics["head"]["val"]["loss"] - metrics["val"]["loss"], abs=1e-5
    )
    assert "fine_tuned" not in metrics


def test_an_explicit_metric_chooses_by_its_value_alone(done):
    run = done("full", early_stopping={"metric": "val/accuracy", "patience": 0})
    values = {event["epoch"]: event["val"]["accuracy"] for event in epochs_of(run)}
    best = max(values, key=lambda epoch: (values[epoch], -epoch))
    assert result_of(run)["best"]["epoch"] == best
    assert "p" not in metrics_of(run)["head"]


def test_a_random_start_has_no_head_and_no_epoch_0(done):
    run = done("full", start="random")
    assert not run.head.exists()
    assert [event["epoch"] for event in epochs_of(run)] == [1, 2]
    assert "head" not in metrics_of(run)


def test_the_temperature_of_a_tuned_backbone_has_a_prior(done, folder):
    run, file = done("full", start="random"), str(folder / "openclipart7.parquet")
    calibrator = json.loads(run.labels.read_text())["confidence"]["calibrator"]
    temperature = calibrator["parameters"][0][0]
    output = folder / "all.parquet"
    Predictor(run, device=ON_DEVICE["device"]).write_predictions(open_source(file), output, ApplyOptions())
    splits = pq.read_table(run.splits)
    val = splits.filter(np.array(splits["split"].to_pylist()) == "val")["row"]
    chances = np.stack(pq.read_table(output).take(val)["probabilities"].to_pylist())
    classes = json.loads(run.labels.read_text())["values"]
    truth = np.array([classes.index(label) for label in pq.read_table(file).take(val)["labels"].to_pylist()])
    logits = temperature * np.log(chances)  # up to a constant of each row
    assert calibrator["method"] == "temperature"
    assert temperature == pytest.approx(fit_temperature(logits, truth, prior=prior_after(2)), rel=1e-3)
    assert prior_after(10) is FINE_TUNED
    assert temperature != pytest.approx(fit_temperature(logits, truth), rel=0.01)


def test_without_val_the_last_epoch_is_kept(done):
    run = done("full", split={"train": 0.7, "val": 0.0, "test": 0.3})
    assert result_of(run)["best"]["epoch"] == 2
    assert [event["epoch"] for event in epochs_of(run)] == [1, 2]
    assert "head" not in metrics_of(run)
    assert "fine-tuning starts from it" in messages(run)


def test_the_loss_of_the_person_is_that_of_the_head(done):
    settings = {"class_weights": "balanced", "label_smoothing": 0.1}
    partial, tuned = done("partial", refit="no", **settings), done("full", **settings)
    expected, found = load_file(partial.best / "head.safetensors"), load_checkpoint(tuned.head).state
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    plain = load_file(done("partial", refit="no").best / "head.safetensors")
    assert not torch.equal(plain["head.last_layer.weight"], expected["head.last_layer.weight"])


def test_the_report_shows_both_models(done):
    run = done("full", **WRECKED["full"])
    write_report(run.path)
    text = run.report.read_text()
    assert "Fine-tuning and its head" in text
    assert "The run&#39;s model is the head" in text or "The run's model is the head" in text
    assert "Epoch 0 is the head" in text


def test_a_dry_run_says_where_fine_tuning_starts(folder):
    told = [describe(validate(make_spec(folder, *choice)))["head_first"] for choice in (("full",), ("partial",))]
    assert told == [True, False]


def test_the_tempered_loss_is_that_of_the_logits_after_one_temperature(done):
    """It is never above the loss, as a temperature of 1 is one of those that are tried."""
    for event in epochs_of(done("lora", epochs=2)):
        assert event["val"]["tempered_loss"] <= event["val"]["log_loss"] + 1e-6
        assert np.isfinite(event["val"]["tempered_loss"])

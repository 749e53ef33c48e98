"""A run is used in the arithmetic that it was trained in."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from faults.killing import small_sample

from deeptune.data.sources.parquet import open_source
from deeptune.engine.predict import ApplyOptions, Predictor
from deeptune.engine.run import execute
from deeptune.engine.trained_model import compute_of_run
from deeptune.runs import new_run_directory
from deeptune.spec import load_spec
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")


@pytest.fixture(scope="module")
def bf16_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("bf16")
    data = small_sample("openclipart7", root / "images.parquet")
    run = new_run_directory(root, "test")
    spec = validate(
        {
            "data": {"path": str(data), "split": {"train": 0.6, "val": 0.2, "test": 0.2}},
            "backbone": {"name": "timm:test_resnet", "weights": "random", "image_size": 32},
            "tuning": {"method": "full"},
            "train": {"epochs": 1, "batch_size": 16, "device": "cpu", "workers": 0, "precision": "bf16"},
            "embed": {"splits": []},
        }
    )
    execute(spec, run)
    return run, data


def test_a_run_is_scored_in_its_own_precision_on_such_a_device(bf16_run, tmp_path) -> None:
    run, data = bf16_run
    rows = pq.read_table(run.predictions)["row"]
    pq.write_table(pq.read_table(data).take(rows), tmp_path / "test.parquet")
    predictor = Predictor(run, device="cpu")
    assert predictor.compute.precision == "bf16"
    found, _ = predictor.evaluate(open_source(tmp_path / "test.parquet"), ApplyOptions())
    expected = json.loads(run.metrics.read_text())["test"]
    assert found["log_loss"] == pytest.approx(expected["log_loss"], abs=1e-6)  # fp32 would differ from the third digit


def test_on_another_kind_of_device_the_precision_is_that_of_the_device(bf16_run, monkeypatch) -> None:
    run, _ = bf16_run
    spec = load_spec(run.spec)
    on_gpu = spec.model_copy(update={"train": spec.train.model_copy(update={"device": "cuda:0"})})
    monkeypatch.setattr("deeptune.engine.trained_model.load_spec", lambda path: on_gpu)
    assert compute_of_run(run, "cpu").precision == "fp32"

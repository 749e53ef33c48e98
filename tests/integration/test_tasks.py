"""Each task from handwritten digits to metrics, predictions, embeddings and report, against scikit-learn."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn import metrics as sk
from sklearn.datasets import load_digits

from deeptune.cli.summary import print_plan
from deeptune.data.sources.parquet import open_source
from deeptune.engine import inference
from deeptune.engine.dry_run import describe
from deeptune.engine.predict import ApplyOptions, Predictor
from deeptune.engine.run import execute
from deeptune.errors import DataError, RunStopped
from deeptune.runs import RunDirectory, new_run_directory, read_records
from deeptune.spec.toml import load_spec, validate

ROWS = 160


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((pixels * 15).astype(np.uint8)).resize((32, 32)).convert("RGB").save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real handwritten digits: facts about each as labels, several columns and numbers."""
    found = load_digits()
    value, images = found.target[:ROWS], found.images[:ROWS]
    facts = {"even": value % 2 == 0, "large": value >= 5, "round": np.isin(value, [0, 6, 8, 9])}
    missing = np.arange(ROWS) % 7 == 0
    pairs = [
        [float(image.mean()), None if gone else float(one)]
        for image, one, gone in zip(images, value, missing, strict=True)
    ]
    file = tmp_path_factory.mktemp("data") / "digits.parquet"
    table = {
        "images": [png(image) for image in images],
        "labels": [[name for name, has in facts.items() if has[row]] for row in range(ROWS)],
        **{name: has.astype(np.int64) for name, has in facts.items()},
        "ink": images.mean(axis=(1, 2)),
        "value": pa.array(np.where(missing, np.nan, value), from_pandas=True),
        "numbers": pa.array(pairs),
        "loops": np.array([1, 0, 0, 0, 0, 0, 1, 0, 2, 1])[value],
        "size": np.array(["small", "medium", "large"])[np.digitize(value, [4, 7])],
    }
    pq.write_table(pa.table(table), file)
    return file


@pytest.fixture
def train(digits: Path, tmp_path: Path) -> Callable[..., RunDirectory]:
    def run(
        task: str, label: Any, sections: dict[str, Any] | None = None, name: str = "test", **data: Any
    ) -> RunDirectory:
        spec = {
            "task": task,
            "data": {"path": str(digits), "label": label, **data},
            "backbone": {"name": "resnet18", "weights": "random", "image_size": 32},
            "train": {"epochs": 3, "device": "cpu"},
            **(sections or {}),
        }
        directory = new_run_directory(tmp_path / "runs", name)
        execute(validate(spec), directory)
        return directory

    return run


@pytest.fixture
def stopped_then_resumed(
    train: Callable[..., RunDirectory], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., RunDirectory]:
    """Interrupt a run at its second validation, and resume it to its end."""

    def run(*args: Any, **data: Any) -> RunDirectory:
        score, calls = inference.score, 0

        def failing(*scored: Any) -> dict[str, Any]:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise KeyboardInterrupt
            return score(*scored)

        with monkeypatch.context() as patched:
            patched.setattr(inference, "score", failing)
            with pytest.raises((KeyboardInterrupt, RunStopped)):
                train(*args, name="stopped", **data)
        (found,) = tmp_path.glob("runs/stopped*")
        directory = RunDirectory(found)
        execute(load_spec(directory.spec), directory)
        assert "resume" in {event["kind"] for event in read_records(directory.events)}
        return directory

    return run


def metrics_of(run: RunDirectory) -> dict[str, Any]:
    return json.loads(run.metrics.read_text())


def evaluated(run: RunDirectory, data: Path) -> dict[str, Any]:
    return Predictor(run, device="cpu").evaluate(open_source(str(data), key="--data"), ApplyOptions())[0]


@pytest.mark.parametrize("label", ["labels", ["even", "large", "round"]], ids=["lists", "columns"])
def test_multilabel(train, digits, label):
    run = train("multilabel", label)
    table, labels = pq.read_table(run.predictions), json.loads(run.labels.read_text())
    names = labels["values"]
    assert names == ["even", "large", "round"]
    truth, prediction = (
        np.array([[name in row for name in names] for row in table[column].to_pylist()])
        for column in ("truth", "prediction")
    )
    chances = np.array(table["probabilities"].to_pylist())
    assert (prediction == (chances >= np.array(labels["thresholds"]))).all()
    found = metrics_of(run)["test"]
    expected = {
        "macro_f1": sk.f1_score(truth, prediction, average="macro"),
        "micro_f1": sk.f1_score(truth, prediction, average="micro"),
        "macro_roc_auc": sk.roc_auc_score(truth, chances),
        "macro_average_precision": sk.average_precision_score(truth, chances),
        "hamming_loss": sk.hamming_loss(truth, prediction),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    calibrated = np.mean([sk.log_loss(truth[:, i], chances[:, i]) for i in range(3)])
    assert found["confidence"]["log_loss"] == pytest.approx(calibrated)
    assert found["uncalibrated"]["log_loss"] == pytest.approx(found["loss"], rel=1e-4)
    embeddings = pq.read_table(run.embeddings("test"))
    assert embeddings["label"].to_pylist() == table["truth"].to_pylist()
    report = run.report.read_text()
    assert "Macro average precision" in report
    assert "large" in report
    assert 0 < evaluated(run, digits)["macro_f1"] <= 1


def test_several_targets(train, digits):
    run = train("regression", ["ink", "value"])
    table = pq.read_table(run.predictions)
    truth = np.array(table["truth"].to_pylist(), float)
    prediction = np.array(table["prediction"].to_pylist())
    assert np.isnan(truth[:, 1]).any()
    found = metrics_of(run)["test"]
    assert [row["target"] for row in found["per_target"]] == ["ink", "value"]
    errors = []
    for at, row in enumerate(found["per_target"]):
        known = np.isfinite(truth[:, at])
        errors.append(sk.mean_absolute_error(truth[known, at], prediction[known, at]))
        assert row["n"] == known.sum()
        assert row["mae"] == pytest.approx(errors[-1])
        assert row["r2"] == pytest.approx(sk.r2_score(truth[known, at], prediction[known, at]))
    assert found["mae"] == pytest.approx(np.mean(errors))
    embeddings = pq.read_table(run.embeddings("test"))
    assert embeddings["label"].to_pylist() == table["truth"].to_pylist()
    report = run.report.read_text()
    assert "Targets, worst first" in report
    assert evaluated(run, digits)["n"] == ROWS


def test_a_list_of_numbers_is_several_targets(train):
    run = train("regression", "numbers")
    assert [row["target"] for row in metrics_of(run)["test"]["per_target"]] == ["0", "1"]


@pytest.mark.parametrize(
    "sections", [{}, {"tuning": {"method": "full"}}, {"head": {"layers": 2}}], ids=["exact", "full", "two layers"]
)
def test_count(train, digits, sections):
    run = train("count", "loops", sections)
    table = pq.read_table(run.predictions)
    truth, rates = table["truth"].to_numpy(), table["prediction"].to_numpy()
    assert set(truth) == {0, 1, 2}
    assert rates.min() > 0
    found, baseline = metrics_of(run)["test"], metrics_of(run)["test"]["baseline"]
    expected = {
        "poisson_deviance": sk.mean_poisson_deviance(truth, rates),
        "d2": sk.d2_tweedie_score(truth, rates, power=1),
        "mae": sk.mean_absolute_error(truth, rates),
        "rmse": sk.root_mean_squared_error(truth, rates),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    constant = sk.mean_poisson_deviance(truth, np.full(len(truth), baseline["mean"]))
    assert baseline["poisson_deviance"] == pytest.approx(constant)
    assert found["loss"] * json.loads(run.labels.read_text())["mean"] == pytest.approx(found["poisson_deviance"], 1e-4)
    assert pq.read_table(run.embeddings("test"))["label"].to_pylist() == truth.tolist()
    report = run.report.read_text()
    assert "for Poisson deviance, D² and RMSE its mean" in report
    assert "deviance of counts in units of their mean" in report
    assert evaluated(run, digits)["n"] == ROWS


@pytest.mark.parametrize("layers", [1, 2])
def test_ordinal(train, digits, layers):
    run = train("ordinal", "size", {"head": {"layers": layers}}, label_order=["small", "medium", "large"])
    table = pq.read_table(run.predictions)
    order = json.loads(run.labels.read_text())["values"]
    assert order == ["small", "medium", "large"]
    truth, prediction = ([order.index(one) for one in table[name].to_pylist()] for name in ("truth", "prediction"))
    chances = np.array(table["probabilities"].to_pylist())
    assert chances.min() >= 0
    found = metrics_of(run)["test"]
    expected = {
        "quadratic_weighted_kappa": sk.cohen_kappa_score(truth, prediction, weights="quadratic"),
        "rank_mae": sk.mean_absolute_error(truth, prediction),
        "accuracy": sk.accuracy_score(truth, prediction),
        "log_loss": sk.log_loss(truth, chances, labels=[0, 1, 2]),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert found["uncalibrated"]["log_loss"] == pytest.approx(found["loss"], rel=1e-4)
    assert "Quadratic weighted kappa" in run.report.read_text()
    assert evaluated(run, digits)["n"] == ROWS


def test_test_rows_say_nothing_of_confidence(train, digits, tmp_path):
    """Other labels of the test rows leave what is stored as it was, bit for bit."""
    plain = train("classification", "size", name="plain")
    table, splits = pq.read_table(digits), pq.read_table(plain.splits)
    parts = {name: splits["row"].filter(pc.equal(splits["split"], name)) for name in ("train", "val", "test")}
    for name, rows in parts.items():
        pq.write_table(table.take(rows), tmp_path / f"{name}.parquet")
    files = {name: str(tmp_path / f"{name}.parquet") for name in parts}
    one = train("classification", "size", name="one", path=None, **files)
    test = table.take(parts["test"])
    turned = test.set_column(test.column_names.index("size"), "size", test["size"].take(np.arange(len(test))[::-1]))
    pq.write_table(turned, tmp_path / "turned.parquet")
    other = train(
        "classification", "size", name="other", path=None, **files | {"test": str(tmp_path / "turned.parquet")}
    )
    assert other.labels.read_bytes() == one.labels.read_bytes()
    assert metrics_of(other)["test"]["log_loss"] != metrics_of(one)["test"]["log_loss"]


def test_groups_weigh_the_same_in_intervals(train, digits, tmp_path):
    """With few groups in val there is no limit for an interval, whatever the number of rows."""
    table = pq.read_table(digits).append_column("person", pa.array(np.arange(ROWS) % 16))
    pq.write_table(table, tmp_path / "grouped.parquet")
    run = train("regression", "ink", path=str(tmp_path / "grouped.parquet"), group="person")
    found = pq.read_table(run.predictions)
    assert found["upper"].to_pylist() == [float("inf")] * len(found)
    assert "each interval holds every number" in metrics_of(run)["test"]["confidence"]["notes"][0]
    assert "without bound" in run.report.read_text()


def test_sets_of_ranks_have_no_gap(train):
    run = train("ordinal", "size", {"calibration": {"coverage": 0.8}}, label_order=["small", "medium", "large"])
    for row in pq.read_table(run.predictions).to_pylist():
        ranks = [["small", "medium", "large"].index(one) for one in row["prediction_set"]]
        assert ranks == list(range(ranks[0], ranks[-1] + 1))
        assert row["prediction"] in row["prediction_set"]


def test_words_need_an_order(train):
    with pytest.raises(DataError, match=r"the classes of column 'size' are words, whose order is not known"):
        train("ordinal", "size")


@pytest.mark.parametrize(
    ("task", "label", "data"),
    [
        ("multilabel", "labels", {}),
        ("regression", ["ink", "value"], {}),
        ("count", "loops", {}),
        ("ordinal", "size", {"label_order": ["small", "medium", "large"]}),
    ],
    ids=["multilabel", "targets", "count", "ordinal"],
)
def test_a_resumed_run_ends_with_the_same_numbers(train, stopped_then_resumed, task, label, data):
    whole, resumed = train(task, label, **data), stopped_then_resumed(task, label, **data)
    assert metrics_of(resumed) == metrics_of(whole)
    assert resumed.labels.read_text() == whole.labels.read_text()


def test_a_dry_run_names_each_target(digits, capsys):
    spec = {
        "task": "regression",
        "data": {"path": str(digits), "label": ["ink", "value"]},
        "backbone": {"name": "resnet18", "weights": "random", "image_size": 32},
    }
    print_plan(describe(validate(spec)))
    printed = capsys.readouterr().out
    assert "ink: mean " in printed
    assert "value: mean " in printed

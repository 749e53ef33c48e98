"""Heads whose penalty and number of epochs are chosen by cross-validation, and that then learn from all rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from devices import DEVICE
from faults.killing import finish, killed_after, log_lines, same_outcome
from safetensors.numpy import load_file
from scipy.special import softmax
from sklearn import metrics as sk

from deeptune.data.sources.parquet import open_source
from deeptune.engine.dry_run import describe
from deeptune.engine.run import execute
from deeptune.errors import DataError, SpecError
from deeptune.report import write_report
from deeptune.runs import RunDirectory, new_run_directory, read_records, write_text
from deeptune.spec import RunSpec, dump_spec
from deeptune.spec.toml import load_spec, validate

pytestmark = pytest.mark.usefixtures("no_reports")

ROWS = 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of a sample with labels for each task, in one file and in files of their own."""
    root = tmp_path_factory.mktemp("cv")
    table = pq.read_table(open_source("sample:openclipart7").files[0]).slice(0, ROWS)
    labels, rng = table["labels"].to_numpy(), np.random.default_rng(0)
    names = np.array(["a", "b", "c"])
    numbers = labels + rng.normal(size=ROWS)
    missing = np.where(np.arange(ROWS) % 5 == 0, np.nan, labels)
    table = pa.table(
        {
            "images": table["images"].combine_chunks(),
            "labels": names[labels % 3],
            "chance": names[rng.integers(3, size=ROWS)],
            "several": [[name for at, name in enumerate(names) if label >> at & 1] for label in labels],
            "size": np.array(["small", "medium", "large"])[np.minimum(labels // 2, 2)],
            "number": numbers,
            "things": np.random.default_rng(2).poisson(3, ROWS),
            "other": pa.array(missing, from_pandas=True),
            "who": np.arange(ROWS) // 3,
            "split": np.array(["train", "train", "train", "val", "test"])[np.arange(ROWS) % 5],
        }
    )
    pq.write_table(table, root / "all.parquet")
    split = np.asarray(table["split"])
    for name in ("train", "val", "test"):
        pq.write_table(table.take(np.flatnonzero(split == name)), root / f"{name}.parquet")
    pq.write_table(table.take(np.flatnonzero(split != "test")), root / "both.parquet")
    return root


def make_spec(data: dict[str, Any], task: str = "classification", **train: Any) -> RunSpec:
    head = train.pop("head", {})
    tuning = train.pop("tuning", {"method": "partial"})
    return validate(
        {
            "task": task,
            "data": data,
            "backbone": {"name": "timm:test_resnet", "weights": "random", "image_size": 32},
            "head": head,
            "tuning": tuning,
            "train": {"val": "cv", "device": DEVICE, "precision": "fp32", "workers": 0, "epochs": 8, **train},
        }
    )


@pytest.fixture(scope="module")
def train(folder: Path, no_reports: None) -> Callable[..., RunDirectory]:
    made: dict[str, RunDirectory] = {}

    def run(data: dict[str, Any] | None = None, task: str = "classification", **settings: Any) -> RunDirectory:
        data = {"path": str(folder / "all.parquet"), **(data or {})} if "train" not in (data or {}) else data
        key = repr((data, task, settings))
        if key not in made:
            made[key] = new_run_directory(folder, "run")
            execute(make_spec(data, task, **settings), made[key])
        return made[key]

    return run


def metrics_of(run: RunDirectory) -> dict[str, Any]:
    return json.loads(run.metrics.read_text())


def rows_of(run: RunDirectory, split: str) -> list[int]:
    table = pq.read_table(run.splits)
    return [
        row for row, name in zip(table["row"].to_pylist(), table["split"].to_pylist(), strict=True) if name == split
    ]


def epochs_of(run: RunDirectory) -> int:
    return sum(event["kind"] == "epoch" for event in read_records(run.events))


def test_all_rows_but_those_of_test_are_trained_on_and_predicted_out_of_fold(train: Any) -> None:
    run, split = train(), train(val="split")
    assert rows_of(run, "test") == rows_of(split, "test")
    assert rows_of(run, "train") == sorted(rows_of(split, "train") + rows_of(split, "val"))
    assert rows_of(run, "val") == []
    found = pq.read_table(run.out_of_fold)
    assert found["row"].to_pylist() == rows_of(run, "train")
    assert sorted(set(found["fold"].to_pylist())) == [0, 1, 2, 3, 4]


def test_val_is_the_scores_of_the_out_of_fold_outputs(train: Any) -> None:
    run = train()
    metrics, found = metrics_of(run)["val"], pq.read_table(run.out_of_fold)
    classes = json.loads(run.labels.read_text())["values"]
    table = pq.read_table(run.splits)
    truth = [
        classes.index(label)
        for label, name in zip(*(table[c].to_pylist() for c in ("label", "split")), strict=True)
        if name == "train"
    ]
    logits = np.array(found["output"].to_pylist())
    assert metrics["n"] == len(truth)
    assert metrics["loss"] == pytest.approx(sk.log_loss(truth, softmax(logits, axis=1)), abs=1e-5)
    assert metrics["accuracy"] == pytest.approx(sk.accuracy_score(truth, logits.argmax(axis=1)))
    assert any("out-of-fold" in note for note in metrics["notes"])


def test_the_chosen_setting_is_the_best_and_the_head_is_trained_by_it(train: Any) -> None:
    run = train()
    chosen = metrics_of(run)["val"]["out_of_fold"]
    best = min(chosen["compared"], key=lambda one: one["value"])
    assert (best["weight_decay"], best["epoch"], best["value"]) == (
        chosen["weight_decay"],
        chosen["epoch"],
        chosen["value"],
    )
    assert len(chosen["compared"]) == 4
    assert epochs_of(run) == chosen["epoch"]
    result = json.loads(run.result.read_text())
    assert result["best"] == {"epoch": chosen["epoch"], "metric": "val/loss", "value": chosen["value"]}


def test_the_head_is_that_of_a_plain_run_on_all_rows(train: Any, folder: Path) -> None:
    """With a constant rate, training that ends after an epoch is training of that many epochs."""
    files = {"train": str(folder / "both.parquet"), "test": str(folder / "test.parquet")}
    plain = {"schedule": "constant", "warmup": 0.0}
    run = train(files, **plain)
    chosen = metrics_of(run)["val"]["out_of_fold"]
    again = train(
        {**files, "split": {"train": 1.0, "val": 0.0, "test": 0.0}}, val="split", weight_decay=chosen["weight_decay"],
        **{**plain, "epochs": chosen["epoch"]},
    )  # fmt: skip
    expected, found = (load_file(one.best / "head.safetensors") for one in (again, run))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_no_row_is_predicted_by_a_head_that_has_seen_it(train: Any) -> None:
    """Labels that are drawn by lot can't be predicted; a head that has seen them would know them by heart."""
    run = train({"label": "chance"}, epochs=60, weight_decay=0.0, early_stopping={"patience": 0}, learning_rate=0.05)
    chosen = metrics_of(run)["val"]["out_of_fold"]
    assert chosen["value"] > 0.95 * np.log(3)
    assert metrics_of(run)["val"]["accuracy"] < 0.5


def test_groups_and_identical_samples_stay_in_one_fold(train: Any) -> None:
    run = train({"group": "who"})
    folds: dict[int, set[int]] = {}
    for row, fold in zip(*(pq.read_table(run.out_of_fold)[c].to_pylist() for c in ("row", "fold")), strict=True):
        folds.setdefault(row // 3, set()).add(fold)
    assert all(len(found) == 1 for found in folds.values())


@pytest.mark.parametrize(
    ("task", "data", "train_keys"),
    [
        ("classification", {}, {"class_weights": "balanced", "early_stopping": {"metric": "val/macro_f1"}}),
        ("classification", {}, {"head": {"layers": 2, "dropout": 0.2}, "average": "ema"}),
        ("multilabel", {"label": "several"}, {}),
        ("ordinal", {"label": "size", "label_order": ["small", "medium", "large"]}, {}),
        ("count", {"label": "things"}, {}),
        ("regression", {"label": "number"}, {"loss": "huber"}),
        ("regression", {"label": ["number", "other"]}, {"optimizer": "sgd"}),
    ],
)
def test_each_task_is_cross_validated(train: Any, task: str, data: Any, train_keys: Any) -> None:
    run = train(data, task, **train_keys)
    metrics = metrics_of(run)
    assert metrics["val"]["n"] == len(rows_of(run, "train")) == 120
    assert np.isfinite(metrics["val"]["out_of_fold"]["value"])
    assert np.isfinite(metrics["test"]["loss"])
    assert "confidence" in run.labels.read_text()


def test_rows_of_a_val_file_and_of_a_split_column_are_trained_on(train: Any, folder: Path) -> None:
    files = {name: str(folder / f"{name}.parquet") for name in ("train", "val", "test")}
    several = train(files)
    table = pq.read_table(several.splits)
    assert table["split"].to_pylist().count("train") == 120
    assert {Path(name).name for name in table["file"].to_pylist()} == {"train.parquet", "val.parquet", "test.parquet"}
    column = train({"split_column": "split"})
    assert rows_of(column, "train") == [row for row in range(ROWS) if row % 5 != 4]
    assert "those of val among train" in "\n".join(str(event.get("message")) for event in read_records(column.events))


def test_a_run_without_test_says_that_its_scores_are_out_of_fold(train: Any) -> None:
    run = train({"split": {"train": 0.8, "val": 0.2, "test": 0.0}})
    write_report(run.path)
    text = run.report.read_text()
    assert "These are the metrics of out-of-fold predictions" in text
    assert "In cross-validation (n = 150)" in text


def test_the_report_says_what_was_chosen_and_what_val_is(train: Any) -> None:
    run = train()
    chosen = metrics_of(run)["val"]["out_of_fold"]
    write_report(run.path)
    text = run.report.read_text()
    assert f"number of epochs ({chosen['epoch']}) were chosen by" in text
    assert "in 5-fold cross-validation on the training rows" in text
    assert f"weight decay {chosen['weight_decay']:g}" in text
    assert "Val means the out-of-fold predictions of the training rows" in text
    assert load_spec(run.spec).train.weight_decay == "auto"


@pytest.mark.parametrize("moment", ["folds", "training"])
def test_a_run_that_is_killed_and_resumed_ends_with_the_same_bits(folder: Path, moment: str) -> None:
    alone, killed = (new_run_directory(folder, name) for name in ("alone", "killed"))
    spec = make_spec({"path": str(folder / "all.parquet")}, epochs=10, checkpoint_every="3 steps")
    for run in (alone, killed):
        write_text(run.spec, dump_spec(spec))
    finish(alone, report=False)
    records = list(read_records(alone.events))
    places = [
        at for at, one in enumerate(records) if one["kind"] == "phase" and one.get("name", one.get("phase")) == "folds"
    ]
    assert places
    lines = places[0] + 1 if moment == "folds" else (places[0] + log_lines(alone)) // 2
    assert killed_after(lines, 0, killed)
    same_outcome(alone, finish(killed, report=False))
    assert pq.read_table(alone.out_of_fold)["output"].equals(pq.read_table(killed.out_of_fold)["output"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tuning": {"method": "full"}}, "train.val: 'cv' trains many heads on the features of a frozen backbone"),
        ({"tuning": {"method": "lora"}}, "train.val: 'cv'"),
        ({"tuning": {"method": "partial", "unfreeze": 1}}, "with tuning.unfreeze = 1"),
        ({"augmentation": "light"}, "train.augmentation: train.val = 'cv'"),
        ({"tune": True}, "train.tune: train.val = 'cv'"),
    ],
)
def test_what_can_not_be_cross_validated_is_refused(folder: Path, settings: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        make_spec({"path": str(folder / "all.parquet")}, **settings)


def test_too_few_rows_or_groups_are_refused(folder: Path) -> None:
    table = pq.read_table(folder / "all.parquet")
    pq.write_table(table.slice(0, 10), folder / "few.parquet")
    with pytest.raises(DataError, match="5 folds need at least 10 rows, and train and val together have 8"):
        describe(make_spec({"path": str(folder / "few.parquet")}))
    pq.write_table(table.slice(0, 27), folder / "few_groups.parquet")
    with pytest.raises(DataError, match=r"at least 10 groups \(column 'who'\)"):
        describe(make_spec({"path": str(folder / "few_groups.parquet"), "group": "who"}))


def test_a_dry_run_says_that_heads_are_cross_validated(folder: Path) -> None:
    told = describe(make_spec({"path": str(folder / "all.parquet")}))
    assert (told["folds"], told["rows"]["val"]) == (5, 0)
    assert 'val = "cv"' in told["spec"]

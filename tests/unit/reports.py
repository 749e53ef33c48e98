"""Runs as a run leaves its files, of real predictions on real data, and what their reports show."""

from __future__ import annotations

import functools
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn import metrics as sk
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split

from deeptune.report import write_report
from deeptune.runs.directory import RunDirectory
from deeptune.runs.event_log import EventWriter
from deeptune.runs.files import write_json
from deeptune.spec.toml import dump_spec, load_spec, validate
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.metric_functions import classification_metrics
from deeptune.tasks.number_metrics import number_metrics
from deeptune.tasks.regression import RegressionTask

# Metrics that have an interval: of predicted classes, and of predicted numbers.
ERRORS = ("mae", "rmse", "r2", "spearman")
PROPORTIONS = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "macro_f1_present",
    "weighted_f1",
    "mcc",
    "quadratic_weighted_kappa",
    "rank_mae",
)

HOSTILE = [
    "<script>alert(1)</script>",
    "a & b",
    "\x1b[31mred\x1b[0m",
    "100% $x_1$ \\frac{",
    "| pipe |",
    "\u202eright to left",
]
BEST = 3


@functools.cache
def digit_models(classes: int) -> tuple[list[LogisticRegression], np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Logistic regressions after more and more iterations, with the images, digits and splits."""
    images, digits = load_digits(return_X_y=True)
    images, digits = images[digits < classes] / 16, digits[digits < classes]
    train, test = train_test_split(np.arange(len(digits)), test_size=0.3, random_state=0, stratify=digits)
    models = [
        LogisticRegression(C=0.02, max_iter=iterations).fit(images[train][:400], digits[train][:400])
        for iterations in (1, 3, 6, 12)
    ]
    return models, images, digits, {"train": train, "val": test[:100], "test": np.sort(test[100:])}


def classification_run(directory: Path, names: list[str] | None = None) -> dict[str, Any]:
    """Logistic regression on scikit-learn's digits, left behind as a run leaves its files. Returns what was written."""
    names = names or ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    models, images, digits, splits = digit_models(len(names))
    train, val, test = splits.values()
    labels = ClassificationTask(tuple(range(len(names))), tuple(names))
    files = RunDirectory(directory)
    events = EventWriter(files.events)
    for epoch, model in enumerate(models, start=1):
        scores = _numbers(classification_metrics(digits[val], model.predict_proba(images[val]), labels))
        events.record(
            "epoch",
            epoch=epoch,
            epochs=4,
            train={"loss": sk.log_loss(digits[train], model.predict_proba(images[train]))},
            val={"loss": scores["log_loss"], **scores},
            learning_rate=1e-3,
            best=epoch <= BEST,
            seconds=0.5,
        )
    events.warning("3 of 900 images are <b>smaller</b> than 32 pixels")
    events.close()
    probabilities = model.predict_proba(images[test])
    prediction = probabilities.argmax(axis=1)
    pq.write_table(
        pa.table(
            {
                "row": test,
                "truth": digits[test],
                "prediction": prediction,
                "probabilities": pa.array(list(probabilities)),
                "confidence": probabilities.max(axis=1),
            }
        ),
        files.predictions,
    )
    metrics = {
        split: classification_metrics(digits[part], model.predict_proba(images[part]), labels)
        for split, part in (("val", val), ("test", test))
    }
    values = {
        "task": "classification",
        "data": {"path": "digits.parquet", "modality": "image"},
        "backbone": {"name": "resnet18"},
    }
    _write_common(files, values, labels, metrics, splits, digits)
    return {
        "truth": digits[test],
        "prediction": prediction,
        "probabilities": probabilities,
        "train": digits[train],
        "labels": labels,
    }


def regression_run(directory: Path) -> dict[str, Any]:
    """Ridge regression on scikit-learn's diabetes data, left behind as a run leaves its files."""
    inputs, targets = load_diabetes(return_X_y=True)
    train, test = train_test_split(np.arange(len(targets)), test_size=0.4, random_state=0)
    val, test = test[:60], np.sort(test[60:])
    model = Ridge(alpha=0.1).fit(inputs[train], targets[train])
    prediction = model.predict(inputs[test])
    labels = RegressionTask(float(targets[train].mean()), float(targets[train].std()))
    files = RunDirectory(directory)
    events = EventWriter(files.events)
    for epoch, alpha in enumerate((10.0, 1.0, 0.1, 0.01), start=1):
        guess = Ridge(alpha=alpha).fit(inputs[train], targets[train]).predict(inputs[val])
        scores = number_metrics(targets[val], guess)
        events.record(
            "epoch",
            epoch=epoch,
            epochs=4,
            train={"loss": 1 / epoch},
            val={"loss": 2 / epoch, **_numbers(scores)},
            best=epoch == BEST,
        )
    events.close()
    pq.write_table(pa.table({"row": test, "truth": targets[test], "prediction": prediction}), files.predictions)
    metrics = {
        "val": number_metrics(targets[val], model.predict(inputs[val])),
        "test": number_metrics(targets[test], prediction),
    }
    values = {
        "task": "regression",
        "data": {"train": "a.parquet", "test": "b.parquet", "label": "year", "group": "author"},
        "backbone": {"name": "gpt2", "weights": "random"},
        "head": {"layers": 2},
        "tuning": {"method": "lora", "lora": {"rank": 8, "alpha": 16}},
    }
    _write_common(files, values, labels, metrics, {"train": train, "val": val, "test": test}, targets)
    return {"truth": targets[test], "prediction": prediction, "train": targets[train]}


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, float)}


def _write_common(
    files: RunDirectory,
    values: dict[str, Any],
    labels: Any,
    metrics: Any,
    splits: dict[str, np.ndarray],
    targets: np.ndarray,
) -> None:
    train: dict[str, Any] = {"epochs": 10, "batch_size": 32, "learning_rate": 1e-3, "weight_decay": 0.01, "seed": 7}
    train["early_stopping"] = {"metric": "val/loss"}
    train["loss"] = "mse" if values["task"] == "regression" else "cross_entropy"
    files.spec.write_text(dump_spec(validate({**values, "train": train})), encoding="utf-8")
    write_json(files.labels, labels.to_json())
    write_json(files.metrics, metrics)
    parts = [
        pa.table({"row": rows, "split": [name] * len(rows), "label": targets[rows]}) for name, rows in splits.items()
    ]
    table = pa.concat_tables(parts)
    if values["data"].get("group"):
        table = table.append_column(
            "group",
            pa.array(
                f"author {row % 30} of {split}"
                for split, row in zip(table["split"].to_pylist(), table["row"].to_pylist(), strict=True)
            ),
        )
    pq.write_table(table, files.splits)
    write_json(
        files.result,
        {
            "state": "done",
            "best": {"epoch": BEST, "metric": "val/loss", "value": 0.5},
            "rows": {name: len(rows) for name, rows in splits.items()},
            "skipped": [{"split": "train", "row": 12, "reason": "not an image <img src=x>"}],
            "parameters": {"trainable": 5_130, "total": 11_181_642},
            "seconds": 75.2,
        },
    )
    write_json(
        files.run,
        {
            "pid": 1,
            "host": "secret-host",
            "versions": {"deeptune": "0.1.0", "torch": "2.6.0"},
            "device": {"name": "cpu", "reason": "no GPU"},
            "fingerprints": {"data": "sha256:1234", "backbone": "sha256:5678"},
        },
    )


class Page(HTMLParser):
    """Tables as lists of cell texts, the tags and attributes that occur, and the visible text."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "path", "use"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data.strip()


def predict_constant(dummy: Any, known: dict[str, Any]) -> np.ndarray:
    nothing = np.zeros((len(known["train"]), 1))
    return dummy.fit(nothing, known["train"]).predict(np.zeros((len(known["truth"]), 1)))


def read(directory: Path) -> tuple[str, Page]:
    path = write_report(directory)
    assert path == directory / "report.html"
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    return html, page


def change_spec(directory: Path, **train: Any) -> None:
    """Write other values of `train` into a run's spec."""
    path = RunDirectory(directory).spec
    values = load_spec(path).model_dump(mode="json", exclude_none=True)
    path.write_text(dump_spec(validate({**values, "train": {**values["train"], **train}})), encoding="utf-8")


def change_json(path: Path, **values: Any) -> None:
    """Write other values into the object of a JSON file."""
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **values})

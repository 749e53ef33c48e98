"""What a report says of calibration, expected errors, sets and intervals, against counts of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import expit
from scipy.stats import binomtest

from deeptune.report.confidence import _error_counts, _error_table, _kept, _kept_table, confidence_section
from deeptune.report.finished_run import read_run
from deeptune.report.sections import ReportSection
from deeptune.report.tables import metric_rows, share_text
from deeptune.runs.directory import RunDirectory
from deeptune.runs.files import read_json, write_json
from deeptune.spec.calibration_spec import CalibrationSpec
from deeptune.tasks import Task
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.confidence.expected_error import ExpectedError
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.multilabel import MultiLabelTask
from deeptune.tasks.multitarget import MultiTargetTask
from deeptune.tasks.regression import RegressionTask
from tests.unit.reports import classification_run, read, regression_run


def scored(folder: Path, task: Task, draw: Any, spec: dict[str, Any] | None = None) -> RunDirectory:
    """A run directory with the scores of a task on drawn rows; other files are those of a classification run."""
    files = RunDirectory(folder)
    if task.view in ("numbers", "targets"):
        regression_run(folder)
    else:
        classification_run(folder)
    files.splits.unlink()
    text = files.spec.read_text(encoding="utf-8")
    if task.info.name == "multilabel":
        text = text.replace('task = "classification"', 'task = "multilabel"').replace('"cross_entropy"', '"bce"')
    files.spec.write_text(text.replace('group = "author"', ""), encoding="utf-8")
    val, test = draw(300, 0), draw(200, 1)
    fitted = task.with_thresholds(val.logits, val.truth).with_confidence(val, CalibrationSpec(**(spec or {})))
    metrics = {
        split: {**fitted.score(part.logits, part.truth), **fitted.confidence_metrics(part.logits, part.truth)}
        for split, part in (("val", val), ("test", test))
    }
    write_json(files.labels, fitted.to_json())
    write_json(files.metrics, metrics)
    columns = {"row": pa.array(np.arange(200)), "truth": fitted.decode(test.truth)}
    pq.write_table(pa.table({**columns, **fitted.predictions(test.logits)}), files.predictions)
    return files


def classes(rows: int, seed: int) -> HeldOut:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, rows)
    logits = rng.normal(size=(rows, 3)) + 1.5 * np.eye(3)[truth]
    return HeldOut((3 * logits).astype(np.float32), truth)


def labels(rows: int, seed: int) -> HeldOut:
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(size=(rows, 2)) * 2
    return HeldOut((2 * log_odds).astype(np.float32), (rng.random((rows, 2)) < expit(log_odds)).astype(np.int8))


def number(rows: int, seed: int) -> HeldOut:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 1)).astype(np.float32)
    return HeldOut(logits, 5 + 2 * logits[:, 0] + rng.normal(size=rows))


def several(rows: int, seed: int) -> HeldOut:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 2)).astype(np.float32)
    return HeldOut(logits, logits + rng.normal(size=(rows, 2)))


TASKS: dict[str, tuple[Task, Any]] = {
    "classes": (ClassificationTask(("a", "b", "<c>")), classes),
    "labels": (MultiLabelTask(("x", "y"), (0.5, 0.5)), labels),
    "numbers": (RegressionTask(5.0, 2.0), number),
    "targets": (
        MultiTargetTask(0.0, 1.0, ("a", "b"), (RegressionTask(0.0, 1.0), RegressionTask(0.0, 1.0))),
        several,
    ),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of classes."""
    return scored(tmp_path_factory.mktemp("run"), *TASKS["classes"])


def section_of(run: RunDirectory) -> ReportSection:
    found = confidence_section(read_run(run.path))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", TASKS)
def test_the_report_has_the_section_of_every_task(tmp_path, kind):
    html, page = read(scored(tmp_path, *TASKS[kind]).path)
    assert "How far predictions can be trusted" in page.text
    assert ("h2", {"id": "confidence"}) in page.tags
    assert "<c>" not in html
    found = confidence_section(read_run(tmp_path))
    json.dumps(found.data, allow_nan=False)
    assert all(figure.caption and figure.svg.startswith("<svg") for figure in found.figures)


def test_a_run_of_an_earlier_version_has_no_section(tmp_path):
    classification_run(tmp_path)
    assert confidence_section(read_run(tmp_path)) is None
    assert ("h2", {"id": "confidence"}) not in read(tmp_path)[1].tags


def test_the_coverage_of_sets_is_counted_in_test(run):
    found = section_of(run)
    table = pq.read_table(run.predictions).to_pylist()
    hits = sum(row["truth"] in row["prediction_set"] for row in table)
    low, high = binomtest(hits, 200).proportion_ci(method="wilson")
    sizes = np.mean([len(row["prediction_set"]) for row in table])
    said = f"In test they do in {hits / 200:.1%} (95% interval {low:.1%} to {high:.1%}), with {sizes:.2f} classes"
    assert said in found.paragraphs[1]


def test_both_calibration_errors_are_told(run):
    found = section_of(run)
    metrics = read_json(run.metrics)["test"]
    assert metrics["uncalibrated"]["ece"] > metrics["ece"]
    assert f"{metrics['uncalibrated']['ece']:.3f} and {metrics['ece']:.3f}" in found.paragraphs[0]


def test_the_table_of_expected_errors_counts_test(run):
    found = section_of(run)
    table = pq.read_table(run.predictions).to_pandas()
    rows = found.tables[0].rows
    assert sum(int(row[4]) for row in rows) == 200
    low = float(rows[-1][0].split(" to ")[0])
    inside = table[table["confidence"] > low + 5e-4]
    assert abs(int(rows[-1][4]) - len(inside)) <= 1
    assert sum(int(row[1]) for row in rows) == 300
    assert found.tables[0].header[1] == "Rows fitted to"
    assert "fitted to the validation split in bins" in found.tables[0].caption
    assert sum(one["split_rows"] for one in found.data["expected_error"]) == 200
    wrong = (table["truth"] != table["prediction"]).sum()
    assert sum(one["split_errors"] for one in found.data["expected_error"]) == wrong


def test_the_table_of_rows_kept_counts_errors(run):
    found = section_of(run)
    table = pq.read_table(run.predictions).to_pandas().sort_values("confidence", ascending=False)
    for share, row in zip((200, 180, 160, 140, 100), found.tables[1].rows, strict=True):
        kept = table.iloc[:share]
        assert row[2] == str(share)
        assert row[3] == share_text((kept["truth"] != kept["prediction"]).sum(), share)
    least = found.data["kept"][-1]
    assert least["share"] == 0.5
    assert least["confidence"] == table["confidence"].iloc[99]
    assert least["errors"] == (table["truth"] != table["prediction"]).iloc[:100].sum()


def test_intervals_are_counted_in_test(tmp_path):
    found = section_of(scored(tmp_path, *TASKS["numbers"], {"coverage": 0.8}))
    table = pq.read_table(RunDirectory(tmp_path).predictions).to_pandas()
    hits = ((table["lower"] <= table["truth"]) & (table["truth"] <= table["upper"])).mean()
    assert f"are built to contain the true number in 80% of rows. In test they do in {hits:.1%}" in found.paragraphs[0]


def test_the_paragraph_for_a_paper_names_the_calibrator(run):
    (temperature,) = json.loads(run.labels.read_text())["confidence"]["calibrator"]["parameters"][0]
    assert json.loads(run.metrics.read_text())["test"]["confidence"]["temperatures"] == [temperature]
    expected = f"calibrated on the validation split by temperature scaling (T = {temperature:.2f})."
    assert expected in read(run.path)[1].text


def test_metrics_as_text_tell_both(run):
    titles = [title for title, _ in metric_rows(read_json(run.metrics)["test"])]
    assert titles[titles.index("Log loss") + 1] == "Log loss, uncalibrated"


def test_metrics_without_calibration_are_told_once(tmp_path):
    scored(tmp_path, *TASKS["classes"], {"method": "none"})
    titles = [title for title, _ in metric_rows(read_json(RunDirectory(tmp_path).metrics)["test"])]
    assert not any("uncalibrated" in title for title in titles)


def test_tables_of_few_rows_repeat_nothing_and_have_no_share_of_no_rows():
    assert len(_kept_table(_kept(np.array([0.7]), np.array([True]))).rows) == 1
    assert len(_kept_table(_kept(np.linspace(0.5, 0.9, 50), np.ones(50, bool))).rows) == 5
    known = ExpectedError.fit(np.linspace(0.5, 1.0, 60), np.arange(60) % 3 > 0)
    counts = _error_counts(known, np.array([0.99]), np.array([True]))
    wrong = [row[-1] for row in _error_table(counts, "test", "val").rows]
    assert wrong == ["n/a"] * (len(known.bins) - 1) + ["0%"]

"""Subgroups and units of a report, as counted by scikit-learn and pandas, and report.json."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from reports import classification_run, regression_run
from sklearn import metrics as sk

from deeptune.data.columns.report_columns import check_report_columns
from deeptune.data.sources.parquet import open_source
from deeptune.data.sources.source import Source
from deeptune.errors import DataError
from deeptune.report import write_report
from deeptune.report.finished_run import Predictions, read_run
from deeptune.report.units import units_scored
from deeptune.runs.directory import RunDirectory
from deeptune.runs.files import write_json
from deeptune.spec.report_spec import ReportSpec, crossed
from deeptune.spec.toml import dump_spec, load_spec, validate
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.metric_functions import classification_metrics
from deeptune.tasks.multitarget import MultiTargetTask
from deeptune.tasks.regression import RegressionTask


def with_report(directory: Path, columns: dict[str, list[Any]], **report: Any) -> dict[str, Any]:
    """Name columns in a run's spec, store them as a run does, and return the report's data."""
    files = RunDirectory(directory)
    values = load_spec(files.spec).model_dump(mode="json", exclude_none=True)
    files.spec.write_text(dump_spec(validate({**values, "report": report})), encoding="utf-8")
    rows = pq.read_table(files.predictions)["row"]
    texts = [pa.array([None if one is None else str(one) for one in column]) for column in columns.values()]
    pq.write_table(pa.table({"row": rows, "values": pa.StructArray.from_arrays(texts, list(columns))}), files.columns)
    write_report(directory)
    found: dict[str, Any] = json.loads(files.report_data.read_text())
    return found


@pytest.fixture
def digits(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    return tmp_path, classification_run(tmp_path)


def test_each_subgroup_is_scored_as_scikit_learn_does(digits: tuple[Path, dict[str, Any]]) -> None:
    directory, known = digits
    n = len(known["truth"])
    sex = [("f", "m", None)[row % 3] for row in range(n)]
    scanner = [("A", "B")[row % 2] for row in range(n)]
    report = with_report(directory, {"sex": sex, "scanner": scanner}, by=["sex", "sex:scanner"])
    section = report["sections"]["subgroups"]
    found = {one["subgroup"]: one for one in section["sex"]["subgroups"]}
    assert set(found) == {"f", "m", "(missing)"}
    rows = np.array(sex) == "m"
    expected = sk.accuracy_score(known["truth"][rows], known["prediction"][rows])
    assert found["m"]["metrics"]["accuracy"]["value"] == pytest.approx(expected)
    low, high = found["m"]["metrics"]["accuracy"]["interval"]
    assert low < expected < high
    values = [one["metrics"]["accuracy"]["value"] for one in section["sex"]["subgroups"]]
    assert section["sex"]["gaps"]["accuracy"]["gap"] == pytest.approx(max(values) - min(values))
    assert len(section["sex:scanner"]["subgroups"]) == 6


def test_a_small_subgroup_is_named_and_not_judged(digits: tuple[Path, dict[str, Any]]) -> None:
    directory, known = digits
    scanner = ["rare" if row < 4 else "usual" for row in range(len(known["truth"]))]
    section = with_report(directory, {"scanner": scanner}, by=["scanner"])["sections"]["subgroups"]
    assert "Too small to judge: rare (4 rows)." in section["paragraphs"]
    assert section["scanner"]["gaps"] == {}


def test_a_subgroup_without_rows_of_a_class_is_not_the_worst_by_an_average_over_classes(
    digits: tuple[Path, dict[str, Any]],
) -> None:
    directory, known = digits
    truth = known["truth"]
    half = ["first" if row < len(truth) // 2 else "second" for row in range(len(truth))]
    by = ["few digits" if digit < 3 else one for digit, one in zip(truth, half, strict=True)]
    section = with_report(directory, {"by": by}, by=["by"])["sections"]["subgroups"]["by"]
    few = next(one for one in section["subgroups"] if one["subgroup"] == "few digits")
    assert few["metrics"]["macro_f1"]["value"] < 0.5
    assert few["metrics"]["macro_f1"]["interval"] is None
    assert few["metrics"]["accuracy"]["interval"] is not None
    assert {"macro_f1", "roc_auc"}.isdisjoint(section["gaps"])
    assert "accuracy" in section["gaps"]


@pytest.mark.parametrize("rule", ["mean", "max", "vote"])
def test_units_are_scored_as_pandas_groups_them(digits: tuple[Path, dict[str, Any]], rule: str) -> None:
    directory, known = digits
    truth = known["truth"]
    unit = np.empty(len(truth), int)
    for digit in range(10):
        rows = np.flatnonzero(truth == digit)
        unit[rows] = 100 * digit + np.arange(len(rows)) // 3
    section = with_report(directory, {"patient": list(unit)}, unit="patient", unit_rule=rule)["sections"]["units"]
    chances = pd.DataFrame(np.eye(10)[known["prediction"]] if rule == "vote" else known["probabilities"])
    grouped = chances.groupby(unit)
    table = grouped.max() if rule == "max" else grouped.mean()
    said = table.to_numpy().argmax(axis=1)
    expected = classification_metrics(table.index.to_numpy() // 100, np.eye(10)[said], range(10))
    assert section["n"] == len(table)
    for name in ("accuracy", "macro_f1", "mcc"):
        assert section["metrics"][name]["value"] == pytest.approx(expected[name]), name


def test_units_of_several_labels_are_left_out_and_counted(digits: tuple[Path, dict[str, Any]]) -> None:
    directory, known = digits
    units = [row // 2 for row in range(len(known["truth"]))]
    section = with_report(directory, {"patient": units}, unit="patient")["sections"]["units"]
    pairs = known["truth"][: len(units) // 2 * 2].reshape(-1, 2)
    assert section["left_out"] == (pairs[:, 0] != pairs[:, 1]).sum()


@pytest.mark.parametrize("positive", ["malignant", "normal"])
def test_under_max_a_unit_of_two_classes_is_positive_if_one_of_its_rows_is(tmp_path: Path, positive: str) -> None:
    classification_run(tmp_path)
    run = read_run(tmp_path)
    truth = np.array([0, 1, 1, 1, 0, 0])
    chances = np.array([0.9, 0.2, 0.3, 0.4, 0.8, 0.9])
    chances = np.stack([chances, 1 - chances], axis=1)
    spec = run.spec.model_copy(update={"report": ReportSpec(unit="patient", unit_rule="max", positive=positive)})
    scored = Predictions(np.arange(6), truth, chances.argmax(axis=1), chances)
    task = ClassificationTask(("malignant", "normal"))
    patients = ["a", "a", "b", "b", "c", "c"]
    found = units_scored(replace(run, task=task, spec=spec, predictions=scored, columns={"patient": patients}))
    assert found is not None
    assert found.left_out == 0
    assert found.predictions.truth.tolist() == ([0, 1, 0] if positive == "malignant" else [1, 1, 0])
    assert found.predictions.prediction.tolist() == ([0, 1, 0] if positive == "malignant" else [1, 1, 0])


def test_units_of_numbers_are_their_means(tmp_path: Path) -> None:
    known = regression_run(tmp_path)
    units = [row // 4 for row in range(len(known["truth"]))]
    section = with_report(tmp_path, {"patient": units}, unit="patient")["sections"]["units"]
    table = pd.DataFrame({"truth": known["truth"], "prediction": known["prediction"]}).groupby(units).mean()
    expected = sk.mean_absolute_error(table["truth"], table["prediction"])
    assert section["metrics"]["mae"]["value"] == pytest.approx(expected)


def test_units_of_several_targets_are_the_means_of_each_and_missing_ones_count_for_nothing(tmp_path: Path) -> None:
    regression_run(tmp_path)
    run = read_run(tmp_path)
    rng = np.random.default_rng(0)
    truth, prediction = rng.normal(size=(2, 12, 2))
    truth[:5, 1] = np.nan
    units: list[str | None] = ["a", "b", "c", "d"] * 3
    units[3] = None
    task = MultiTargetTask(0.0, 1.0, ("x", "y"), (RegressionTask(0.0, 1.0), RegressionTask(0.0, 1.0)))
    spec = run.spec.model_copy(update={"report": ReportSpec(unit="patient")})
    scored = Predictions(np.arange(12), truth, prediction, None)
    found = units_scored(replace(run, task=task, spec=spec, predictions=scored, columns={"patient": units}))
    assert found is not None
    assert found.left_out == 0
    expected = pd.DataFrame(truth).groupby(units).mean()
    np.testing.assert_allclose(found.predictions.truth, expected)
    np.testing.assert_allclose(found.predictions.prediction, pd.DataFrame(prediction).groupby(units).mean())


def test_a_report_has_its_numbers_as_json_too(digits: tuple[Path, dict[str, Any]]) -> None:
    directory, known = digits
    write_report(directory)
    found = json.loads(RunDirectory(directory).report_data.read_text())
    assert found["metrics"]["accuracy"]["value"] == pytest.approx((known["truth"] == known["prediction"]).mean())
    assert all(one["interval"] is not None for one in found["metrics"].values())
    assert len(found["per_class"]) == 10
    low, high = found["per_class"][3]["intervals"]["recall"]
    assert low <= found["per_class"][3]["recall"] <= high
    assert found["split"] == "test"
    assert found["methods"].startswith("We trained")


def test_the_threshold_of_val_is_applied_to_test(digits: tuple[Path, dict[str, Any]]) -> None:
    directory, known = digits
    files = RunDirectory(directory)
    metrics = json.loads(files.metrics.read_text())
    point = {"class": 3, "rule": 0.4, "threshold": 0.4, "sensitivity": 0.9, "specificity": 0.9, "n": 100}
    metrics["val"]["operating_points"] = [point]
    write_json(files.metrics, metrics)
    write_report(directory)
    found = json.loads(files.report_data.read_text())["sections"]["operating_points"]["points"][0]
    said = known["probabilities"][:, 3] >= 0.4
    assert found["test"]["sensitivity"]["value"] == pytest.approx(said[known["truth"] == 3].mean())
    assert "Decision curve of 3 (three)" in files.report.read_text()
    for name in ("roc", "precision_recall", "net_benefit"):
        x, y, low, high = (np.array(found["curves"][name][part]) for part in ("x", "y", "low", "high"))
        assert len(x) == len(y)
        assert (low <= y).all()
        assert (y <= high).all()


@pytest.mark.parametrize(
    ("n", "beside", "words"),
    [
        (140, 100, "the 40 rows of val and out-of-fold predictions of 100 training rows"),
        (40, 100, "the 40 rows of val, and"),
        (40, None, "the 40 rows of val, and"),
    ],
    ids=["folds", "earlier-version", "val"],
)
def test_the_rows_that_thresholds_were_chosen_on_are_named(
    digits: tuple[Path, dict[str, Any]], n: int, beside: int | None, words: str
) -> None:
    directory, _ = digits
    files = RunDirectory(directory)
    metrics = json.loads(files.metrics.read_text())
    point = {"class": 3, "rule": "youden", "threshold": 0.4, "sensitivity": 0.9, "specificity": 0.9, "n": n}
    metrics["val"] |= {"n": 40, "operating_points": [point], "out_of_fold_rows": beside}
    write_json(files.metrics, metrics)
    write_report(directory)
    section = json.loads(files.report_data.read_text())["sections"]["operating_points"]
    assert words in section["paragraphs"][0]


# Before training.


def source(path: Path, **columns: Any) -> dict[str, Source]:
    pq.write_table(pa.table(columns), path / "data.parquet")
    return {"train": open_source(str(path / "data.parquet"), key="data.path")}


def test_a_column_that_is_missing_is_named_before_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"report.by: there is no column 'sexx'.*Did you mean 'sex'"):
        check_report_columns(ReportSpec(by=["sexx"]), source(tmp_path, sex=["f", "m"]))
    with pytest.raises(DataError, match=r"report.unit: there is no column 'patient'"):
        check_report_columns(ReportSpec(unit="patient"), source(tmp_path, sex=["f", "m"]))


def test_too_many_subgroups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'age' has 80 distinct values, more than 60 subgroups"):
        check_report_columns(ReportSpec(by=["age"]), source(tmp_path, age=list(range(80))))
    check_report_columns(ReportSpec(unit="age"), source(tmp_path, age=list(range(80))))


def test_a_column_of_lists_makes_no_subgroups(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"report.by: column 'tags' holds list"):
        check_report_columns(ReportSpec(by=["tags"]), source(tmp_path, tags=[["a"], ["b"]]))


def test_a_colon_crosses_columns_but_not_the_name_of_one() -> None:
    assert crossed("a:b", ["a", "b"]) == ["a", "b"]
    assert crossed("a:b", ["a:b", "a"]) == ["a:b"]


@pytest.mark.parametrize(
    "report", [{"by": ["a:"]}, {"by": ["a", "a"]}, {"operating_point": "accuracy >= 1"}, {"prevalence": 1.0}]
)
def test_a_report_that_means_nothing_is_refused(report: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReportSpec(**report)

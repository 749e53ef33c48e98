"""A run whose spec has a section `report`: what it stores, and a report that is made again without its data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from deeptune.engine.dry_run import describe
from deeptune.engine.run import execute
from deeptune.errors import DataError, SpecError
from deeptune.report import write_report
from deeptune.runs import new_run_directory
from deeptune.spec import RunSpec
from deeptune.spec.toml import validate


def spec(data: Path, **report: object) -> RunSpec:
    return validate(
        {
            "data": {"path": str(data), "split": {"train": 0.5, "val": 0.25, "test": 0.25}},
            "backbone": {"name": "resnet18", "weights": "random", "image_size": 32},
            "train": {"epochs": 1, "device": "cpu"},
            "report": report,
        }
    )


def test_columns_and_thresholds_are_stored_and_the_report_needs_no_data(
    image_file: Callable[..., Path], tmp_path: Path
) -> None:
    data = image_file(sex=["f", "m", None] * 8, patient=[row // 2 for row in range(24)])
    run = new_run_directory(tmp_path / "runs", "test")
    execute(spec(data, by=["sex"], unit="patient", positive="blue", operating_point=0.4), run)
    stored = pq.read_table(run.columns)
    test = pq.read_table(run.splits).filter(pq.read_table(run.splits)["split"].to_numpy() == "test")
    assert stored["row"].to_pylist() == test["row"].to_pylist()
    assert stored["values"].to_pylist()[0]["sex"] == ["f", "m", None][stored["row"][0].as_py() % 3]
    val = json.loads(run.metrics.read_text())["val"]
    point = val["operating_points"][0]
    assert point["threshold"] == 0.4
    assert point["n"] == val["n"]
    assert point["class"] == json.loads(run.labels.read_text())["values"].index("blue")
    data.unlink()
    write_report(run.path)
    assert {"subgroups", "operating_points"} <= set(json.loads(run.report_data.read_text())["sections"])


def test_a_dry_run_finds_a_column_or_class_that_is_missing(image_file: Callable[..., Path]) -> None:
    data = image_file()
    with pytest.raises(DataError, match="there is no column 'sex'"):
        describe(spec(data, by=["sex"]))
    with pytest.raises(SpecError, match="there is no class 'green'"):
        describe(spec(data, positive="green"))

"""Comparing and explaining from Python give what the commands give, and print for people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import deeptune
from deeptune.api.run import Run
from deeptune.errors import SpecError


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    spec = {"data.path": "sample:openclipart7", "backbone": {"name": "resnet18", "weights": "random"}}
    return [
        deeptune.finetune(
            spec,
            {"backbone.image_size": size, "train.device": "cpu", "train.epochs": 1},
            output=folder,
            progress=False,
            in_process=True,
        )
        for size in (32, 40)
    ]


def test_compare_from_python_is_that_of_the_command(two_runs, command):
    first, second = two_runs
    found = deeptune.compare([first, second.id], root=first.path.parent)
    said = command("compare", str(first.path), str(second.path), "--json")
    assert found.to_json() == json.loads(said.stdout)
    shown = repr(found)
    assert shown.startswith(f"| Metric | {first.id} | {second.id} | Difference |")
    assert "Judged by accuracy alone" in shown
    assert found._repr_markdown_() == shown


def test_compare_on_a_file_says_which_rows_the_runs_have_seen(two_runs, caplog):
    found = deeptune.compare(two_runs, "sample:openclipart7", device="cpu")
    assert found.n == 560
    assert "rows are in train or val of" in caplog.text


@pytest.mark.parametrize("runs", ["latest", [], [Path("a")]])
def test_compare_needs_two_runs(runs):
    with pytest.raises(SpecError, match="expected a list of two runs or more"):
        deeptune.compare(runs)


def test_a_run_is_not_compared_with_itself(two_runs):
    with pytest.raises(SpecError, match="is named twice"):
        deeptune.compare([two_runs[0], two_runs[0].path])


def test_explain_from_python_writes_into_the_run_or_a_folder(two_runs, tmp_path):
    run = two_runs[0]
    rows = run.predictions()["row"].to_pylist()[:1]
    explained = run.explain(rows, device="cpu")
    assert [one.row for one in explained.explanations] == rows
    assert explained.explanations[0].map.shape == (32, 32)
    assert repr(explained).startswith(f"row {rows[0]} (image), predicted ")
    assert (run.directory.explanations / "explanations.json").is_file()
    with pytest.raises(SpecError, match="name the rows to explain, and an output folder"):
        run.explain(2, "sample:openclipart7")


@pytest.mark.parametrize("what", [3, None, ["latest"]])
def test_a_run_is_named_by_a_path_or_an_id(what):
    with pytest.raises(SpecError, match="run: expected a Run, a path, an id or 'latest', got"):
        deeptune.load(what)


def test_what_is_found_prints_for_people():
    report = deeptune.audit("sample:openclipart7", features=False)
    lines = repr(report).splitlines()
    assert lines[0] == f"AuditReport: {len(report.findings)} findings"
    assert any(line.startswith("warning: near_duplicate: ") for line in lines)

"""Looks at the test rows are counted: by the run, by later commands, and by other runs in the folder."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reports import classification_run, regression_run

from deeptune.errors import CheckpointError
from deeptune.report import refresh_report, write_report
from deeptune.runs.directory import RunDirectory
from deeptune.runs.looks import read_looks, record_look, record_samples, write_test_hashes

NOBODY = {"scored_by_run": None, "later": [], "other_runs": [], "groups_in_train": 0}


def report(folder):
    write_report(folder)
    return json.loads((folder / "report.json").read_text())


def test_other_runs_on_the_same_test_rows_are_named(tmp_path):
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).mkdir()
        classification_run(tmp_path / name)
    (tmp_path / "e").mkdir()
    # Other data, and other rows of the same data.
    run = json.loads((tmp_path / "c" / "run.json").read_text())
    run["fingerprints"]["data"] = "sha256:" + "0" * 64
    (tmp_path / "c" / "run.json").write_text(json.dumps(run))
    splits = pq.read_table(tmp_path / "d" / "splits.parquet")
    changed = ["train" if place == 0 else split for place, split in enumerate(reversed(splits["split"].to_pylist()))]
    at = splits.column_names.index("split")
    pq.write_table(splits.set_column(at, "split", pa.array(changed)), tmp_path / "d" / "splits.parquet")
    found = report(tmp_path / "a")
    assert found["test_looks"] == NOBODY | {"other_runs": ["b"]}
    assert "1 other run was scored on the same test rows" in found["methods"]


def test_other_runs_with_the_same_test_file_and_other_training_files_are_named(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        classification_run(tmp_path / name)
        run = json.loads((tmp_path / name / "run.json").read_text())
        run["fingerprints"] |= {"data": f"sha256:{name * 64}", "test": "sha256:" + ("1" if name == "c" else "0") * 64}
        (tmp_path / name / "run.json").write_text(json.dumps(run))
    assert report(tmp_path / "a")["test_looks"]["other_runs"] == ["b"]


def test_a_run_alone_says_nothing_and_a_damaged_neighbour_hinders_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    classification_run(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for name in ("run.json", "result.json", "metrics.json"):
        (tmp_path / "b" / name).write_text("{")
    found = report(tmp_path / "a")
    assert found["test_looks"] == NOBODY
    assert "other run" not in found["methods"]


def test_later_looks_are_told_in_the_methods(tmp_path):
    folder = tmp_path / "run"  # with no other run beside it
    folder.mkdir()
    classification_run(folder)
    run = RunDirectory(folder)
    for by, rows in (("run", 440), ("evaluate", 440), ("explain", 1), ("evaluate", 30)):
        record_look(run, by, rows)
    with run.test_looks.open("a") as file:  # what a killed writer leaves, and what another version may write
        file.write('{"time": 1, "by": "someone", "rows": 3}\n[]\n{"time": 1, "by"')
    found = report(folder)
    assert found["test_looks"]["scored_by_run"] == 1
    assert [(look["by"], look["rows"]) for look in found["test_looks"]["later"]] == [
        ("evaluate", 440),
        ("explain", 1),
        ("evaluate", 30),
    ]
    said = (
        "The test rows were scored once by the run. Later they were looked at by `deeptune evaluate` twice (at most "
        "440 rows) and `deeptune explain` once (at most 1 row)."
    )
    assert said in found["methods"]
    record_look(run, "explain", 2)  # after the half of a line
    assert [look.by for look in read_looks(run)].count("explain") == 2


def test_groups_of_test_that_train_has_too_are_told(tmp_path):
    """A given split may cross groups."""
    regression_run(tmp_path)
    splits = pq.read_table(tmp_path / "splits.parquet").to_pandas()
    splits["group"] = [f"author {row % 30}" for row in splits["row"]]
    pq.write_table(pa.Table.from_pandas(splits), tmp_path / "splits.parquet")
    both = set(splits.group[splits.split == "test"]) & set(splits.group[splits.split == "train"])
    found = report(tmp_path)
    assert found["test_looks"]["groups_in_train"] == len(both) > 0
    assert f"{len(both)} groups (author) of the test split are in the training split too" in found["methods"]


def test_samples_are_recognised_by_their_hashes_alone(tmp_path):
    run = RunDirectory(tmp_path)
    test, train = np.array([7, 0, 5, 5, 9], np.uint64), np.array([9, 1], np.uint64)
    write_test_hashes(run, test, train)
    # 0 is not a sample, and 9 is in train as well: a file of training rows is not a look at test.
    assert record_samples(run, "evaluate", np.array([1, 9, 0, 3], np.uint64)) == 0
    assert read_looks(run) == []
    assert record_samples(run, "evaluate", np.array([5, 8, 7, 5], np.uint64)) == 2
    assert [(look.by, look.rows) for look in read_looks(run)] == [("evaluate", 2)]


def test_a_run_of_an_earlier_version_records_nothing(tmp_path):
    run = RunDirectory(tmp_path)
    assert record_samples(run, "evaluate", np.array([5], np.uint64)) == 0
    assert read_looks(run) == []
    assert not run.test_looks.exists()


def test_a_report_is_made_again_only_where_there_were_looks_since(tmp_path):
    classification_run(tmp_path)
    run = RunDirectory(tmp_path)
    refresh_report(run)
    assert not run.report.exists()  # a run that was not done
    write_report(tmp_path)
    refresh_report(run)
    os.utime(run.report, (1, 1))
    first = run.report.stat().st_mtime
    refresh_report(run)
    assert run.report.stat().st_mtime == first
    record_look(run, "evaluate", 3)
    refresh_report(run)
    assert "`deeptune evaluate` once (at most 3 rows)" in run.report.read_text()
    assert run.report.stat().st_mtime > first


def test_where_a_look_cant_be_written_there_is_one_message(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot write .*test_looks.jsonl"):
        record_look(RunDirectory(tmp_path / "gone"), "run", 3)


def test_commands_that_record_at_once_lose_no_look(tmp_path):
    run = RunDirectory(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda rows: record_look(run, "evaluate", rows), range(1, 201)))
    assert sorted(look.rows for look in read_looks(run)) == list(range(1, 201))

"""Other runs that scored the same test rows are counted."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
from reports import classification_run

from deeptune.report import write_report


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
    assert found["test_looks"] == {"other_runs": ["b"]}
    assert "1 other run was scored on the same test rows" in found["methods"]


def test_a_run_alone_says_nothing_and_a_damaged_neighbour_hinders_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    classification_run(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for name in ("run.json", "result.json", "metrics.json"):
        (tmp_path / "b" / name).write_text("{")
    found = report(tmp_path / "a")
    assert found["test_looks"] == {"other_runs": []}
    assert "other run" not in found["methods"]

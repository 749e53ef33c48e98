"""Duplicates and slips in the labels, from the file to metrics.json."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png
from sklearn.metrics import accuracy_score, root_mean_squared_error

pytestmark = pytest.mark.usefixtures("no_reports")

ROWS = 80
SMALL = (
    "--set", "backbone.name=resnet18", "--set", "backbone.weights=random", "--set", "backbone.image_size=32",
    "--set", "train.epochs=2", "--set", "train.device=cpu",
)  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """80 pictures, of which the last 20 are copies of the first 20."""

    def write(labels) -> None:
        images = [png(colour=(row * 3, 90, 200 * (row % 2))) for row in range(ROWS - 20)]
        pq.write_table(pa.table({"images": images + images[:20], "labels": labels}), tmp_path / "data.parquet")

    return write


def finished(command, tmp_path, *options: str, small=SMALL):
    answer = command("run", "--data", "data.parquet", *small, *options, "--json", "--foreground", "--output", "runs")
    assert answer.code == 0, answer.stderr
    return tmp_path / json.loads(answer.stdout.splitlines()[-1])["run"]


def predictions(run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = pq.read_table(run / "predictions.parquet")
    return tuple(np.array(table[name].to_pylist()) for name in ("row", "truth", "prediction"))


def warnings(run) -> list[str]:
    events = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    return [event["message"] for event in events if event["kind"] == "warning"]


def test_a_head_that_learns_from_val_in_the_end_is_scored_without_twins_of_val(command, tmp_path, write):
    write([row % 2 for row in range(ROWS)])
    run = finished(command, tmp_path, small=[*SMALL[:6], "--set", "train.device=cpu"])
    sets = {"train": set(), "val": set()}
    splits = pq.read_table(run / "splits.parquet").to_pylist()
    for row in splits:
        if row["split"] != "test" and row["duplicate_set"] is not None:
            sets[row["split"]].add(row["duplicate_set"])
    metrics = json.loads((run / "metrics.json").read_text())
    for split, learned in (("val", sets["train"]), ("test", sets["train"] | sets["val"])):
        twins = sum(row["split"] == split and row["duplicate_set"] in learned for row in splits)
        assert twins
        assert metrics[split]["without_duplicates"]["left_out"] == twins
    assert any(row["split"] == "test" and row["duplicate_set"] in sets["val"] - sets["train"] for row in splits)


def test_the_score_without_rows_that_have_a_twin_in_training(command, tmp_path, write):
    write([row % 2 for row in range(ROWS)])
    planned = command("run", "--data", "data.parquet", *SMALL, "--dry-run")
    for _ in range(2):  # decoded, then from the cache
        run = finished(command, tmp_path)
        splits = pq.read_table(run / "splits.parquet").to_pylist()
        of_training = {row["duplicate_set"] for row in splits if row["split"] == "train"} - {None}
        twins = [row["row"] for row in splits if row["split"] == "test" and row["duplicate_set"] in of_training]
        rows, truth, prediction = predictions(run)
        kept = ~np.isin(rows, twins)
        found = json.loads((run / "metrics.json").read_text())["test"]
        assert 0 < len(twins) < found["n"]
        assert found["without_duplicates"]["n"] == kept.sum()
        assert found["without_duplicates"]["accuracy"] == pytest.approx(accuracy_score(truth[kept], prediction[kept]))
        assert any(note.startswith(f"{len(twins)} of {len(rows)} rows are identical") for note in found["notes"])
        (told,) = (warning for warning in warnings(run) if "test rows are identical to a training row" in warning)
        assert f"warning: {told}" in planned.stdout.splitlines()

    run = finished(command, tmp_path, "--set", "data.duplicates=group")
    assert "without_duplicates" not in json.loads((run / "metrics.json").read_text())["test"]
    sides = {}
    for row in pq.read_table(run / "splits.parquet").to_pylist():
        sides.setdefault(row["duplicate_set"], set()).add(row["split"])
    assert all(len(splits) == 1 for number, splits in sides.items() if number is not None)


def test_the_score_without_labels_far_outside(command, tmp_path, write):
    labels = [1.0 + row % 5 for row in range(ROWS)]
    write(labels)
    row = int(predictions(finished(command, tmp_path, "--set", "task=regression"))[0][3])
    labels[row] = 9999.0
    write(labels)
    run = finished(command, tmp_path, "--set", "task=regression")
    rows, truth, prediction = predictions(run)
    found = json.loads((run / "metrics.json").read_text())
    (split,) = (split for split in found if "without_outliers" in found[split])
    assert found[split]["without_outliers"]["left_out"] == 1
    if split == "test":
        kept = rows != row
        expected = root_mean_squared_error(truth[kept], prediction[kept])
        assert found["test"]["without_outliers"]["rmse"] == pytest.approx(expected)
    assert any(f"row {row} is 9999" in warning for warning in warnings(run))

"""`deeptune compare --data`: runs of other splits, scored and compared on one file."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png
from statsmodels.stats import contingency_tables

from deeptune.runs import RunDirectory
from deeptune.runs.looks import read_looks

SMALL = ("--set", "backbone.name=resnet18", "--set", "backbone.weights=random", "--set", "backbone.image_size=32")


@pytest.fixture
def trained(command, image_file):
    """Train a run on the tiny pictures with some keys, and return its path."""
    patients = [f"p{row // 2}" for row in range(24)]

    def train(*keys: str, **columns: list[Any]) -> str:
        file = image_file(**({"patient": patients} | columns))
        sets = [part for key in ("train.epochs=1", *keys) for part in ("--set", key)]
        answer = command("run", "--data", str(file), *SMALL, *sets, "--json", "--foreground", "--output", "runs")
        assert answer.code == 0, answer.stderr
        return json.loads(answer.stdout.splitlines()[-1])["run"]

    return train


def pictures(path, **columns) -> list[str]:
    """Write 40 new pictures, some of them hard, with their labels."""
    labels = [("red", "blue")[row % 2] for row in range(40)]
    shades = [(200 - 4 * row, 30, 30 + 4 * row) for row in range(40)]
    pq.write_table(pa.table({"images": [png(colour=shade) for shade in shades], "labels": labels, **columns}), path)
    return labels


def test_runs_of_other_splits_are_compared_on_a_file_as_predict_says(command, trained, tmp_path):
    runs = [trained("train.seed=1"), trained("train.seed=2")]
    labels = pictures(tmp_path / "new.parquet")
    answer = command("compare", *runs)
    assert answer.code == 3  # their own test rows are others
    answer = command("compare", *runs, "--data", "new.parquet", "--json")
    assert answer.code == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert list(found) == ["metrics", "n", "flipped", "rows_learnt"]
    assert list(found["rows_learnt"].values()) == [1, 1]  # the first picture is in both runs, too
    right = []
    for run in runs:
        assert command("predict", run, "--data", "new.parquet", "--output", "out.parquet").code == 0
        said = pq.read_table(tmp_path / "out.parquet")["prediction"].to_pylist()
        right.append([one == label for one, label in zip(said, labels, strict=True)])
    assert found["n"] == 40
    assert found["flipped"] == [row for row in range(40) if right[0][row] != right[1][row]]
    assert found["metrics"]["accuracy"]["values"] == [sum(one) / 40 for one in right]
    only = [sum(a > b for a, b in zip(*pair, strict=True)) for pair in (right, right[::-1])]
    expected = contingency_tables.mcnemar([[0, only[0]], [only[1], 0]], exact=True).pvalue
    assert found["metrics"]["accuracy"]["p"] == pytest.approx(expected)
    shown = command("compare", *runs, "--data", "new.parquet")
    assert "On the same 40 rows of new.parquet" in " ".join(shown.stdout.split())
    for row in found["flipped"][:6]:
        assert f"row {row}, truth {labels[row]}" in shown.stdout
    assert [look.by for look in read_looks(RunDirectory(tmp_path / runs[0]))] == ["run"]  # none is a test row of it


def test_a_look_at_test_rows_is_recorded_and_groups_vary_together(command, trained, tmp_path):
    images = [png(colour=((200, 30, row), (30, 30, 200 + row))[row % 2]) for row in range(24)]  # none is there twice
    runs = [trained("data.group=patient", f"train.seed={seed}", images=images) for seed in (1, 2)]
    answer = command("compare", *runs, "--data", "images.parquet")
    assert answer.code == 0, answer.stderr
    assert "in 12 groups" in " ".join(answer.stdout.split())
    directory = RunDirectory(tmp_path / runs[0])
    assert [look.by for look in read_looks(directory)] == ["run", "compare"]
    assert "`deeptune compare` once" in json.loads(directory.report_data.read_text())["methods"]
    answer = command("compare", *runs, "--data", "images.parquet", "--json")
    for run, known in json.loads(answer.stdout)["rows_learnt"].items():
        splits = pq.read_table(tmp_path / "runs" / run / "splits.parquet")["split"].to_pylist()
        assert known == splits.count("train") + splits.count("val") > 0
        assert f"warning: {known} of 24 rows are in train or val of {run}" in " ".join(answer.stderr.split())
    pictures(tmp_path / "new.parquet")
    answer = command("compare", *runs, "--data", "new.parquet")
    assert answer.code == 3
    assert "has no column 'patient'" in answer.stderr

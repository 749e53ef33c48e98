"""What small splits can't decide."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest

from deeptune.data.splits.data_warnings import size_notes
from deeptune.data.splits.planner import plan_data
from deeptune.spec.run_spec import RunSpec
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.regression import RegressionTask

TWO = ClassificationTask(("a", "b"))


@pytest.mark.parametrize("rows", [5, 10, 50, 95])
def test_the_interval_is_wilsons(rows):
    interval = binomtest(int(0.8 * rows), rows).proportion_ci(method="wilson")
    (note, *_) = size_notes("test", np.zeros(rows, np.int64), TWO)
    assert note == (
        f"test has {rows} rows: an accuracy of 0.80 on them has a 95% interval of {interval.low:.2f} to "
        f"{interval.high:.2f}, and smaller differences decide nothing"
    )


def test_enough_rows_are_not_mentioned():
    assert size_notes("test", np.arange(100) % 2, TWO) == []
    assert size_notes("test", np.arange(100.0), RegressionTask(0, 1)) == []
    assert size_notes("test", np.zeros(0, np.int64), TWO) == []


def test_classes_of_few_rows_are_named():
    targets = np.array([0] * 196 + [1] * 4)
    assert size_notes("test", targets, TWO) == [
        "test has fewer than 10 rows of 1 of 2 classes (b: 4): a recall of 0.80 on 4 rows has a 95% interval of "
        "0.34 to 0.97"
    ]


def test_the_error_of_numbers():
    (note,) = size_notes("val", np.arange(50.0), RegressionTask(0, 1))
    assert note.startswith("val has 50 rows: an RMSE on them is known to about ±20% (95%")


def test_few_groups_are_told_however_many_rows_they_have():
    (note,) = size_notes("test", np.arange(300) % 2, TWO, groups=np.arange(300) % 4)
    assert note.startswith("test has rows of 4 groups only")


def test_val_and_test_of_a_plan_have_their_notes(tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {row}" for row in range(600)], "labels": [0, 1] * 300}), file)
    found = plan_data(RunSpec.model_validate({"data": {"path": str(file)}, "backbone": {"name": "any"}}))
    assert [note.partition(":")[0] for note in found.split_notes["val"]] == ["val has 60 rows"]
    assert found.split_notes["test"] == []
    assert found.all_notes == found.split_notes["val"]

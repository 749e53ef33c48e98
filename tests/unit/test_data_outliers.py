"""Labels far outside: mistakes are found, and long tails are left alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deeptune.data.splits.planner import plan_data
from deeptune.spec.run_spec import RunSpec
from deeptune.tasks.outliers import outliers

RNG = np.random.default_rng(0)
RATINGS = RNG.integers(1, 6, 700).astype(np.float64)
BULKS = {
    "normal": RNG.normal(size=1000),
    "uniform": RNG.uniform(size=1000),
    "ratings": RATINGS,
    "exponential": RNG.exponential(size=1000),
    "prices": RNG.lognormal(10, 1, 1000),
    "counts": RNG.poisson(0.2, 1000).astype(np.float64),
    "almost all 0": (RNG.random(1000) < 0.05).astype(np.float64),
    "two modes": np.where(RNG.random(1000) < 0.05, 50, 0) + RNG.normal(size=1000),
    "constant": np.full(100, 3.0),
    "nothing": np.zeros(0),
    "huge": np.array([1e200, -1e200, 1e300, 0.0] * 10),
}


@pytest.mark.parametrize("name", BULKS)
def test_what_has_a_shape_has_no_outliers(name):
    assert not outliers(BULKS[name]).any()


@pytest.mark.parametrize(
    ("bulk", "slip"),
    [(RATINGS, 9999.0), (RATINGS, 44.0), (RATINGS, -999.0), (BULKS["normal"], 300.0), (BULKS["prices"], 1e9)],
)
def test_one_slip_is_found(bulk, slip):
    labels = bulk.copy()
    labels[17] = slip
    assert np.flatnonzero(outliers(labels)).tolist() == [17]


def test_a_code_for_missing_is_found_wherever_it_is():
    labels = BULKS["normal"].copy()
    labels[::20] = -999
    assert np.flatnonzero(outliers(labels)).tolist() == list(range(0, 1000, 20))


def test_a_median_absolute_deviation_of_0_hides_nothing():
    labels = np.where(RNG.random(700) < 0.7, 5.0, RATINGS)
    labels[3] = 9999
    assert np.flatnonzero(outliers(labels)).tolist() == [3]
    alone = np.full(500, 3.0)
    alone[4] = 9999
    assert np.flatnonzero(outliers(alone)).tolist() == [4]


def plan(tmp_path, labels, **train):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {row}" for row in range(len(labels))], "rating": labels}), file)
    data = {"path": str(file), "label": "rating"}
    return plan_data(
        RunSpec.model_validate({"task": "regression", "data": data, "backbone": {"name": "any"}, "train": train})
    )


def test_rows_and_values_are_told_with_a_way_on(tmp_path):
    labels = RATINGS.copy()
    labels[17] = 9999
    found = plan(tmp_path, labels)
    (split,) = (split for split, data in found.splits.items() if 17 in data.rows)
    (warning,) = (text for text in found.warnings if "far outside" in text)
    assert warning == (
        "1 label lies far outside the others of column 'rating' (median 3, middle half 2 to 4): "
        f"{split} row 17 is 9999. "
        'Correct mistakes, or leave these rows out; train.loss = "huber" gives such labels less weight'
    )
    assert found.doubtful(split)["outliers"].tolist() == [17]
    assert "huber" not in "".join(plan(tmp_path, labels, loss="huber").warnings)
    assert not any("far outside" in text for text in plan(tmp_path, RATINGS).warnings)


def test_hubers_loss_gets_the_scale_of_the_labels_that_are_near(tmp_path):
    labels = RATINGS.copy()
    row = int(plan(tmp_path, RATINGS).splits["train"].rows[3])
    labels[row] = 9999
    found = plan(tmp_path, labels, loss="huber")
    train = found.splits["train"]
    near = train.targets[train.rows != row]
    assert (found.task.mean, found.task.std) == (near.mean(), near.std())
    assert plan(tmp_path, labels).task.std > 100  # of all, as squared errors are of all

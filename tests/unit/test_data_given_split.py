"""A split that the data brings: `data.split_column`."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deeptune.data.splits.planner import draft_plan
from deeptune.errors import DataError, SpecError
from deeptune.spec.toml import validate

pytestmark = pytest.mark.usefixtures("no_reports")

WORDS = ["train"] * 6 + ["valid"] * 2 + ["TEST"] * 2


@pytest.fixture
def plan(tmp_path):
    """The plan of ten texts with a column of splits; `spec` are keys of `data`."""

    def make(words=WORDS, metadata=None, columns=None, **spec):
        table = pa.table(
            {
                "text": [f"text {row}" for row in range(len(words))],
                "labels": ["a", "b"] * (len(words) // 2),
                "part": pa.array(words),
                **(columns or {}),
            }
        )
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "data.parquet")
        data = {"path": str(tmp_path / "data.parquet"), "split_column": "part"} | spec
        return draft_plan(validate({"data": data, "backbone": {"name": "bert"}})).finish(lambda source, rows: [])

    return make


def rows(found):
    return {split: data.rows.tolist() for split, data in found.splits.items()}


def test_the_splits_are_those_of_the_column(plan):
    assert rows(plan()) == {"train": [0, 1, 2, 3, 4, 5], "val": [6, 7], "test": [8, 9]}
    assert plan().split_column == "part"


@pytest.mark.parametrize("word", ["val", "valid", "validation", "dev", " Dev "])
def test_val_has_several_names(plan, word):
    assert rows(plan(["train"] * 6 + [word] * 2 + ["test"] * 2))["val"] == [6, 7]


def test_a_null_leaves_the_row_out_and_is_counted(plan):
    found = plan(["train"] * 6 + [None, "val"] + ["test"] * 2)
    assert rows(found)["val"] == [7]
    assert any("1 row is left out" in note for note in found.notes)


def test_a_value_that_names_no_split_is_one_clear_error(plan):
    with pytest.raises(DataError, match=r"'part'.*name no split: 'holdout' \(2 rows\), 'x' \(1 row\)"):
        plan(["train"] * 5 + ["x"] + ["val"] * 2 + ["holdout"] * 2)


def test_numbers_name_no_split(plan):
    with pytest.raises(DataError, match="holds int64, and words were expected"):
        plan([0] * 10)


def test_without_a_row_of_train_there_is_nothing_to_learn(plan):
    with pytest.raises(DataError, match="no labelled row of column 'part' says train"):
        plan(["test"] * 10)


def test_a_split_without_rows_is_drawn_from_train(plan):
    found = plan(["train"] * 18 + ["test"] * 2)
    assert rows(found)["test"] == [18, 19]
    assert 0 < len(rows(found)["val"]) < 10
    assert any("says val: drawn from train" in note for note in found.notes)


def test_a_column_that_is_not_there_is_named(plan):
    with pytest.raises(DataError, match=r"data.split_column: there is no column 'parts'.*'part'"):
        plan(split_column="parts")


def test_a_group_on_both_sides_is_a_warning(plan):
    found = plan(columns={"who": [1, 1, 2, 2, 3, 3, 3, 4, 5, 5]}, group="who")
    assert any(
        "1 of 2 groups of val (column 'who') are in train too, with 1 of its 2 rows" in w for w in found.warnings
    )


def test_an_import_says_which_column_is_the_split(plan):
    metadata = {"deeptune": json.dumps({"roles": {"split": "part"}})}
    assert rows(plan(metadata=metadata, split_column="auto"))["val"] == [6, 7]
    assert plan(metadata=metadata, split_column="none").split_column is None
    assert plan(split_column="auto").split_column is None


def test_a_column_beside_files_of_splits_is_refused(plan):
    with pytest.raises(SpecError, match="`split_column` needs `path`"):
        validate({"data": {"train": "a.parquet", "split_column": "part"}, "backbone": {"name": "bert"}})


def test_rows_without_a_label_belong_to_their_split(plan):
    labels = pa.array(["a", "b"] * 4 + [None, "a"])
    found = plan(columns={"labels": labels}, on_bad_sample="skip")
    assert rows(found)["test"] == [9]
    assert [(bad.split, bad.row) for bad in found.bad_samples] == [("test", 8)]
    assert np.array_equal(found.all_rows("train"), np.arange(6))


def test_a_column_of_splits_that_is_not_read_is_warned_of(plan):
    columns = {"Split": pa.array(WORDS), "split_of_hairs": ["yes"] * 10, "one_split": ["train"] * 10}
    told = [text for text in plan(columns=columns, split_column="auto").warnings if "is not read" in text]
    assert len(told) == 1
    assert "column 'Split' says train, val or test" in told[0]
    assert 'data.split_column = "Split"' in told[0]
    for chosen in ("none", "part"):
        assert not any("is not read" in text for text in plan(columns=columns, split_column=chosen).warnings)

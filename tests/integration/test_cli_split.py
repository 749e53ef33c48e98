"""`deeptune split`: what it writes, and that a run reads it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = 120


@pytest.fixture
def table(tmp_path):
    """Texts with two classes in proportion 3 to 1, groups of four rows, three sites and a day for each row."""
    rng = np.random.default_rng(0)
    pq.write_table(
        pa.table(
            {
                "text": [f"text {row}" for row in range(ROWS)],
                "labels": ["b" if row % 4 == 0 else "a" for row in range(ROWS)],
                "who": [f"p{row // 4}" for row in range(ROWS)],
                "site": [["north", "south", "west"][row // 40] for row in range(ROWS)],
                "day": [
                    f"2024-{month:02}-{day:02}"
                    for month, day in zip(rng.integers(1, 13, ROWS), rng.integers(1, 29, ROWS), strict=True)
                ],
                "many": [["x"] if row % 3 else ["x", "y"] for row in range(ROWS)],
            }
        ),
        tmp_path / "data.parquet",
    )
    return str(tmp_path / "data.parquet")


def facts(done):
    assert done.code == 0, done.stderr
    return json.loads(done.stdout)


def read(path):
    return pq.read_table(path).to_pandas()


def test_files_hold_each_row_once_in_its_share(table, command, tmp_path):
    done = facts(command("split", table, "-o", "out", "--json"))
    counts = done["counts"]["split"]
    assert {split: counts[split]["rows"] for split in counts} == {"train": 84, "val": 12, "test": 24}
    assert counts["test"]["classes"] == {"a": 18, "b": 6}
    texts = [text for split in counts for text in read(tmp_path / "out" / f"{split}.parquet")["text"]]
    assert sorted(texts) == sorted(f"text {row}" for row in range(ROWS))
    assert json.loads((tmp_path / "out" / "labels.json").read_text())["values"] == ["a", "b"]
    assert read(tmp_path / "out" / "splits.parquet")["split"].value_counts()["test"] == 24


def test_a_split_is_the_one_that_a_run_draws(table, command, tmp_path):
    facts(command("split", table, "-o", "out.parquet", "--column", "split", "--json"))
    run = ["--set", "backbone.name=bert", "--set", "backbone.weights=random", "--dry-run", "--json"]
    drawn = facts(command("run", "--data", table, *run))["rows"]
    given = facts(command("run", "--data", "out.parquet", "--set", "data.split_column=split", *run))
    assert given["rows"] == drawn
    assert any("column 'split'" in note for note in given["notes"])


def test_groups_stay_together(table, command, tmp_path):
    facts(command("split", table, "-o", "out.parquet", "--column", "split", "--group", "who", "--json"))
    assert read(tmp_path / "out.parquet").groupby("who")["split"].nunique().max() == 1


def test_by_time_test_is_the_latest(table, command, tmp_path):
    facts(command("split", table, "-o", "out.parquet", "--column", "split", "--time", "day", "--json"))
    days = read(tmp_path / "out.parquet").groupby("split")["day"].agg(["min", "max"])
    assert days.loc["train", "max"] < days.loc["val", "min"]
    assert days.loc["val", "max"] < days.loc["test", "min"]


def test_each_site_is_test_once(table, command, tmp_path):
    done = facts(command("split", table, "-o", "out.parquet", "--leave-out", "site", "--json"))
    found = read(tmp_path / "out.parquet")
    assert done["tests"] == {"fold_1": "north", "fold_2": "south", "fold_3": "west"}
    for column, site in done["tests"].items():
        assert set(found[found[column] == "test"]["site"]) == {site}
        assert site not in set(found[found[column] != "test"]["site"])


@pytest.mark.parametrize("options", [(), ("--group", "who"), ("--task", "multilabel", "--label", "many")])
def test_folds_test_each_row_once_and_are_balanced(table, command, tmp_path, options):
    facts(command("split", table, "-o", "out.parquet", "--folds", "5", "--json", *options))
    found = read(tmp_path / "out.parquet")
    columns = [f"fold_{fold}" for fold in range(1, 6)]
    assert ((found[columns] == "test").sum(axis=1) == 1).all()
    for column in columns:
        assert (found[found[column] == "test"]["labels"] == "b").mean() == pytest.approx(0.25, abs=0.1)
        if "who" in options:
            assert found.groupby("who")[column].nunique().max() == 1


def test_class_names_stay_with_the_files(command, tmp_path):
    schema = pa.schema([("text", pa.string()), ("labels", pa.int64())], metadata={"label_names": '["cat", "dog"]'})
    columns = [[f"t{row}" for row in range(40)], [row % 2 for row in range(40)]]
    pq.write_table(pa.table(columns, schema=schema), tmp_path / "data.parquet")
    done = facts(command("split", "data.parquet", "-o", "out", "--json"))
    assert pq.read_schema(tmp_path / "out" / "test.parquet").metadata[b"label_names"] == b'["cat", "dog"]'
    assert list(done["counts"]["split"]["test"]["classes"]) == ["0 (cat)", "1 (dog)"]


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("-o", "out", "--time", "text"), 3, "not dates"),
        (("-o", "out", "--time", "dax"), 3, "Did you mean 'day'"),
        (("-o", "o.parquet", "--folds", "1"), 2, "expected 2 to 100"),
        (("-o", "o.parquet", "--folds", "3", "--leave-out", "site"), 2, "exclude each other"),
        (("-o", "o.parquet", "--folds", "50", "--group", "who"), 3, "30 groups are too few"),
        (("-o", "o.parquet", "--folds", "3", "--duplicates", "group"), 2, "`group` is for random splits"),
        (("-o", "o.parquet"), 2, "each split is a file in a folder"),
        (("-o", "o.parquet", "--column", "text"), 2, "has a column 'text' already"),
        (("-o", "out", "--val", "0.6", "--test", "0.6"), 2, "train"),
        (("-o", "data.parquet", "--column", "split", "-f"), 2, "is the data that is read"),
    ],
)
def test_what_cannot_be_split_is_one_clear_message(table, command, options, code, says):
    done = command("split", table, *options)
    assert done.code == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_of_the_data_is_never_replaced_and_an_old_split_is_removed(table, command, tmp_path):
    facts(command("split", table, "-o", "out", "--json"))
    before = (tmp_path / "out" / "train.parquet").read_bytes()
    done = command("split", "out/train.parquet", "-o", "out", "--force")
    assert done.code == 2
    assert "train.parquet is the data that is read" in done.stderr
    assert (tmp_path / "out" / "train.parquet").read_bytes() == before
    facts(command("split", table, "-o", "out", "--val", "0", "--force", "--json"))
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert files == {"train.parquet", "test.parquet", "splits.parquet", "labels.json", "split.json"}


def test_the_input_needs_no_name_to_split(command, tmp_path):
    reviews = {"review": [f"some text {row}" for row in range(40)], "labels": ["a", "b"] * 20}
    pq.write_table(pa.table(reviews), tmp_path / "reviews.parquet")
    done = command("split", "reviews.parquet", "-o", "out")
    assert done.code == 0, done.stderr
    assert "--set data.input=review" in done.stdout

"""The plan: columns inferred, every label checked, files apart or one, groups together."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from plans import plan, png, refusal, texts, write

from deeptune.data.columns.input_columns import resolve_columns
from deeptune.data.modalities.checked_samples import BadSample
from deeptune.data.sources.parquet import open_source
from deeptune.data.sources.source import Source
from deeptune.data.splits.plan import read_targets
from deeptune.data.splits.planner import plan_data
from deeptune.errors import DataError
from deeptune.spec.run_spec import RunSpec
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.regression import RegressionTask


def test_a_sample_from_end_to_end():
    calls = []
    p = plan(path="sample:openclipart7", progress=lambda done, total: calls.append((done, total)))
    assert (p.task.info.name, p.modality, p.input, p.label, p.outputs) == (
        "classification",
        "image",
        "images",
        "labels",
        7,
    )
    assert p.task.class_names[2] == "2 (people)"
    assert {name: len(s) for name, s in p.splits.items()} == {"train": 392, "val": 56, "test": 112}
    assert (p.bad_samples, p.warnings, p.blank) == ([], [], frozenset())
    assert calls[-1] == (560, 560)
    assert sorted(np.concatenate([s.rows for s in p.splits.values()]).tolist()) == list(range(560))
    labels = p.splits["train"].source.column("labels").to_numpy()
    for s in p.splits.values():
        assert (np.diff(s.rows) > 0).all()
        assert s.rows.dtype == s.targets.dtype == np.int64
        assert np.array_equal(s.targets, labels[s.rows])
    assert p.fingerprint == open_source("sample:openclipart7").fingerprint()
    table = p.splits_table()
    assert table.column_names == ["row", "split", "label"]
    assert table.num_rows == 560
    assert {(r["row"], r["label"]) for r in table.to_pylist()} == set(enumerate(labels.tolist()))


def test_regression_is_standardised_on_the_training_split():
    p = plan("regression", path="sample:movie_snippets", label="score")
    train = p.splits["train"].targets
    assert p.outputs == 1
    assert p.task == RegressionTask(train.mean(), train.std())
    assert train.dtype == np.float64
    scores = p.splits["val"].source.column("score").to_numpy()
    assert np.array_equal(p.splits["val"].targets, scores[p.splits["val"].rows])
    assert p.splits_table()["label"].type == pa.float64()


def test_rows_and_seed_decide_the_splits_and_not_the_order_of_the_files(tmp_path):
    a, b = write(tmp_path / "a.parquet", **texts(40)), write(tmp_path / "b.parquet", **texts(30))
    one, other, third = plan(path=[a, b]), plan(path=[b, a]), plan(path=[a, b], seed=1)
    assert one.splits_table().equals(other.splits_table())
    assert not one.splits_table().equals(third.splits_table())
    table = one.splits_table()
    assert table.column_names == ["row", "split", "label", "file", "duplicate_set"]  # the files share 30 texts
    assert all(r["file"] == (a if r["row"] < 40 else b) for r in table.to_pylist())


# --- columns ---------------------------------------------------------------------------------------


def opened(tmp_path, **columns) -> Source:
    return open_source(write(tmp_path / "a.parquet", **columns))


def test_the_modality_is_inferred(tmp_path):
    assert resolve_columns(opened(tmp_path, images=[png()], n=[1])) == ("image", "images")
    assert resolve_columns(opened(tmp_path, text=["x"], n=[1])) == ("text", "text")
    assert resolve_columns(opened(tmp_path, scan=[png()], text=["x"]), None, "scan") == ("image", "scan")
    assert resolve_columns(opened(tmp_path, images=[png()], body=["x"]), None, "body") == ("text", "body")
    both = opened(tmp_path, images=[png()], text=["x"])
    assert resolve_columns(both, "text") == ("text", "text")
    assert resolve_columns(both, "image") == ("image", "images")
    struct = [{"bytes": png(), "path": None}]
    assert resolve_columns(opened(tmp_path, images=struct)) == ("image", "images")
    assert resolve_columns(opened(tmp_path, text=pa.array(["x"]).dictionary_encode())) == ("text", "text")


def test_columns_that_do_not_tell(tmp_path):
    source = opened(tmp_path, images=[png()], text=["x"])
    with pytest.raises(DataError) as caught:
        resolve_columns(source)
    assert caught.value.message == f"data.modality: {source.files[0]} has a column 'images' and a column 'text'"
    assert caught.value.hint == 'Say which to learn from: data.modality = "image", "text" or "image_text".'
    source = opened(tmp_path, review=["x"], stars=[5])
    with pytest.raises(DataError) as caught:
        resolve_columns(source)
    assert caught.value.message == f"data.input: {source.files[0]} has neither a column 'images' nor a column 'text'"
    columns = "Its columns: review (string), stars (int64)."
    assert caught.value.hint == f'Name the input column: data.input = "review" holds texts. {columns}'
    with pytest.raises(DataError) as caught:
        resolve_columns(opened(tmp_path, height=[1.5], stars=[5]))
    assert caught.value.hint.startswith("A run learns from images or texts, and no column holds any.")
    with pytest.raises(DataError) as caught:
        resolve_columns(opened(tmp_path, premise=["x y"], hypothesis=["x"], stars=[5]))
    assert 'data.input = ["premise", "hypothesis"] holds texts' in caught.value.hint
    with pytest.raises(DataError, match=r"data.input: there is no column 'reviews' in .*\. Did you mean 'review'\?"):
        resolve_columns(source, None, "reviews")
    with pytest.raises(DataError, match=r"data\.input: there is no column 'images'"):
        resolve_columns(source, "image")


@pytest.mark.parametrize(
    ("modality", "column", "said"),
    [
        ("image", [1], "holds int64, and image needs one image a row: encoded bytes (binary), file names (string"),
        (None, [1.5], "holds double, and the input needs one image a row: encoded bytes (binary)"),
        (None, [1.5], "or a struct of 'bytes' and 'path'; or strings"),
        ("image", [{"name": "x.png"}], "holds struct<name: string>, and image needs one image a row"),
        ("text", pa.array([1]).dictionary_encode(), "and text needs strings"),
        ("image", [[1, 2, 3]], "holds list<element: int64>, and image needs one image a row: encoded bytes"),
    ],
)  # fmt: skip
def test_an_input_column_of_the_wrong_type(tmp_path, modality, column, said):
    with pytest.raises(DataError) as caught:
        resolve_columns(opened(tmp_path, it=column), modality, "it")
    assert caught.value.message.startswith("data.input: column 'it' of ")
    assert said in caught.value.message


# --- labels ----------------------------------------------------------------------------------------


def test_label_errors_are_those_of_the_column(tmp_path):
    floats = write(tmp_path / "a.parquet", **texts(20, lambda i: i / 2))
    assert refusal(path=floats).message.startswith("data.label: column 'labels' holds decimal numbers, and classes are")
    one = write(tmp_path / "b.parquet", **texts(20, lambda i: "same"))
    assert refusal(path=one).message == "data.label: there is only one class, 'same', in column 'labels'"
    constant = write(tmp_path / "c.parquet", **texts(20, lambda i: 3.5))
    assert refusal("regression", path=constant).message == "data.label: every training value of column 'labels' is 3.5"
    words = write(tmp_path / "d.parquet", **texts(20, lambda i: "12"))
    assert "regression needs numbers" in refusal("regression", path=words).message
    assert refusal(path=one, label="label").message.startswith("data.label: there is no column 'label' in")


def test_missing_labels_stop_or_are_left_out(tmp_path):
    file = write(tmp_path / "a.parquet", **texts(40, lambda i: None if i in (3, 17) else i % 2))
    error = refusal(path=file)
    assert error.message == (
        "data.label: 2 of 40 labels in column 'labels' are missing (null, NaN, infinite or empty): row 3, row 17"
    )
    assert error.hint == 'Fill them in, or set data.on_bad_sample = "skip" to leave these rows out.'
    for policy in ("skip", "blank"):
        p = plan(path=file, on_bad_sample=policy)
        assert p.bad_samples == [BadSample(None, 3, "label is missing"), BadSample(None, 17, "label is missing")]
        assert sum(map(len, p.splits.values())) == 38
        assert p.blank == frozenset()
        assert p.warnings == ["2 of 40 samples cannot be used: 2 left out"]
    numbers = write(tmp_path / "b.parquet", **texts(40, lambda i: float("nan") if i == 5 else i / 7))
    assert "1 of 40 labels" in refusal("regression", path=numbers).message
    assert [s.row for s in plan("regression", path=numbers, on_bad_sample="skip").bad_samples] == [5]
    nothing = write(tmp_path / "c.parquet", text=["a"] * 9, labels=pa.array([None] * 9, pa.int64()))
    assert refusal(path=nothing).message == "data.label: every label in column 'labels' is missing"


def test_a_rare_class_is_named_and_trained_on(tmp_path):
    file = write(tmp_path / "a.parquet", **texts(101, lambda i: "rare" if i == 100 else "ab"[i % 2]))
    p = plan(path=file)
    rare = p.task.values.index("rare")
    assert rare in p.splits["train"].targets
    assert p.warnings == [
        "val holds no row of class rare (1 row), so its metrics say nothing about that",
        "test holds no row of class rare (1 row), so its metrics say nothing about that",
    ]


def test_targets_of_another_file(tmp_path):
    labels = ClassificationTask(("a", "b"))
    source = open_source(write(tmp_path / "a.parquet", text=["x", "y"], labels=["b", "a"]), key="--data")
    assert read_targets(source, "labels", labels).tolist() == [1, 0]
    other = open_source(write(tmp_path / "b.parquet", text=["x", "y"], labels=["b", "c"]), key="--data")
    with pytest.raises(
        DataError, match="--data: column 'labels' has a class that does not occur in the training data: 'c'"
    ):
        read_targets(other, "labels", labels)
    with pytest.raises(DataError, match="there is no column 'label' in"):
        read_targets(other, "label", labels)


# --- groups ----------------------------------------------------------------------------------------


def test_groups_stay_together_and_are_stored(tmp_path):
    patients = [f"p{i // 4}" for i in range(120)]
    p = plan(path=write(tmp_path / "a.parquet", **texts(120), patient=patients), group="patient")
    where: dict[str, set[str]] = {}
    for row in p.splits_table().to_pylist():
        assert row["group"] == patients[row["row"]]
        where.setdefault(row["group"], set()).add(row["split"])
    assert {len(splits) for splits in where.values()} == {1}
    assert {name: len(s) for name, s in p.splits.items()} == {"train": 84, "val": 12, "test": 24}
    assert p.warnings == []


def test_group_errors(tmp_path):
    patients = [None if i in (2, 9) else i // 3 for i in range(60)]
    file = write(tmp_path / "a.parquet", **texts(60), patient=patients)
    assert (
        refusal(path=file, group="patient").message == "data.group: 2 values of column 'patient' are null: row 2, row 9"
    )
    assert "there is no column 'patients'" in refusal(path=file, group="patients").message
    lists = write(tmp_path / "b.parquet", **texts(60), patient=[[i] for i in range(60)])
    assert refusal(path=lists, group="patient").message.startswith("data.group: column 'patient' holds list<")
    two = write(tmp_path / "c.parquet", **texts(60), patient=[i % 2 for i in range(60)])
    assert "2 groups are too few" in refusal(path=two, group="patient").message


def test_a_group_that_is_too_large_for_the_proportions_is_said(tmp_path):
    file = write(tmp_path / "a.parquet", **texts(100), patient=[0 if i < 90 else i for i in range(100)])
    assert plan(path=file, group="patient").warnings[0] == (
        "train holds 90% of the rows instead of 70%, because rows of one 'patient' stay together"
    )


# --- files apart -----------------------------------------------------------------------------------


def test_three_files_are_the_three_splits(tmp_path):
    files = {s: write(tmp_path / f"{s}.parquet", **texts(n)) for s, n in (("train", 30), ("val", 6), ("test", 8))}
    p = plan(**files)
    for split, n in (("train", 30), ("val", 6), ("test", 8)):
        assert p.splits[split].rows.tolist() == list(range(n))
    table = p.splits_table()
    assert set(zip(table["split"].to_pylist(), table["file"].to_pylist(), strict=True)) == set(files.items())
    before = p.fingerprint
    write(tmp_path / "test.parquet", **texts(9))
    assert plan(**files).fingerprint != before


def test_val_is_drawn_from_train_in_its_share(tmp_path):
    train, test = write(tmp_path / "train.parquet", **texts(160)), write(tmp_path / "test.parquet", **texts(10))
    p = plan(train=train, test=test)
    assert {name: len(s) for name, s in p.splits.items()} == {"train": 140, "val": 20, "test": 10}
    assert p.splits["val"].source is p.splits["train"].source
    assert not set(p.splits["val"].rows) & set(p.splits["train"].rows)
    none = plan(train=train, test=test, split={"train": 0.8, "val": 0.0, "test": 0.2})
    assert {name: len(s) for name, s in none.splits.items()} == {"train": 160, "val": 0, "test": 10}


def test_train_alone_gives_val_and_test_and_val_with_it_gives_test(tmp_path):
    train, val = write(tmp_path / "train.parquet", **texts(180)), write(tmp_path / "val.parquet", **texts(10))
    assert [len(s) for s in plan(train=train).splits.values()] == [126, 18, 36]
    assert [len(s) for s in plan(train=train, val=val).splits.values()] == [140, 10, 40]


def test_what_files_apart_must_agree_on(tmp_path):
    train = write(tmp_path / "train.parquet", **texts(40, lambda i: "ab"[i % 2]))
    new = write(tmp_path / "new.parquet", **texts(40, lambda i: "abc"[i % 3]))
    error = refusal(train=train, test=new)
    assert (
        error.message
        == "data.test, data.label: column 'labels' has a class that does not occur in the training data: 'c'"
    )
    numbers = write(tmp_path / "numbers.parquet", **texts(40))
    assert (
        "data.test, data.label: column 'labels' holds int64 values, but the classes are string: a, b"
        in refusal(train=train, test=numbers).message
    )
    assert refusal(train=train, test=train).message == f"data.test: {train} is also in data.train"
    copy = write(tmp_path / "copy.parquet", **texts(40, lambda i: "ab"[i % 2]))
    assert refusal(train=train, test=copy).message == f"data.test: {copy} has the same bytes as {train} of data.train"
    missing = write(tmp_path / "missing.parquet", text=["x"])
    assert f"data.label: there is no column 'labels' in {missing}" in refusal(train=train, test=missing).message
    empty = write(tmp_path / "empty.parquet", text=pa.array([], pa.string()), labels=pa.array([], pa.string()))
    assert refusal(train=train, val=empty).message == f"data.val: {empty} has no rows"


def test_a_group_may_not_be_in_two_files(tmp_path):
    train = write(tmp_path / "train.parquet", **texts(40), patient=[f"p{i // 4}" for i in range(40)])
    test = write(tmp_path / "test.parquet", **texts(8), patient=[f"p{i // 4 + 9}" for i in range(8)])
    assert refusal(train=train, test=test, group="patient").message == (
        "data.group: column 'patient' has groups that are in data.test and in data.train: 'p9'"
    )


def test_too_few_rows(tmp_path):
    assert (
        "2 rows are too few for the splits asked for" in refusal(path=write(tmp_path / "a.parquet", **texts(2))).message
    )


def test_text_that_looks_like_markup_stays_as_it_is(tmp_path):
    file = write(tmp_path / "a.parquet", **texts(20, lambda i: "[red]" if i % 2 else "[/]"))
    p = plan(path=file)
    assert list(p.task.class_names[:2]) == ["[/]", "[red]"]


@pytest.mark.parametrize("input", [None, "text", ["text", "second"]])
def test_a_column_is_not_both_input_and_label(tmp_path, input):
    rows = ["good", "bad"] * 20
    pq.write_table(pa.table({"text": rows, "second": rows}), tmp_path / "a.parquet")
    data = {"path": str(tmp_path / "a.parquet"), "label": "text"} | ({"input": input} if input else {})
    spec = RunSpec.model_validate({"data": data, "backbone": {"name": "bert-base-cased"}})
    with pytest.raises(DataError, match=r"data.label: column 'text' is also the input, and would give the answer away"):
        plan_data(spec)

"""A label means its name: in the files of a run, and in later ones."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deeptune.data.sources.parquet import open_source
from deeptune.data.sources.source import Source
from deeptune.data.splits.class_names import LabelColumn, known_relabelling, relabelling
from deeptune.data.splits.plan import read_targets
from deeptune.data.splits.planner import plan_data
from deeptune.errors import DataError
from deeptune.spec.run_spec import RunSpec
from deeptune.tasks.classification import ClassificationTask

CAT_DOG = ClassificationTask((0, 1), ("cat", "dog"))
WORDS = ClassificationTask(("cat", "dog"))


def class_label(*names: str) -> dict[str, str]:
    """Metadata as Hugging Face writes them."""
    features = {"labels": {"names": list(names), "_type": "ClassLabel"}}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def own(*names: str) -> dict[str, str]:
    return {"label_names": json.dumps(names)}


def write(path, metadata, labels) -> str:
    table = pa.table({"text": [f"{path.stem} {row}" for row in range(len(labels))], "labels": labels})
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return str(path)


def source(tmp_path, metadata, labels) -> Source:
    return open_source(write(tmp_path / "later.parquet", metadata, labels), key="--data")


def plan(**data):
    return plan_data(RunSpec.model_validate({"data": data, "backbone": {"name": "any"}}))


@pytest.mark.parametrize("names", [class_label, own])
@pytest.mark.parametrize("run", [CAT_DOG, WORDS])
def test_a_later_file_is_read_by_its_own_names(tmp_path, names, run):
    later = source(tmp_path, names("dog", "eel", "cat"), [0, 2, 2])
    assert read_targets(later, "labels", run).tolist() == [1, 0, 0]


@pytest.mark.parametrize("labels", [["dog", "cat"], pa.array(["dog", "cat"]).dictionary_encode()])
@pytest.mark.parametrize("run", [CAT_DOG, WORDS])
def test_words_are_names(tmp_path, labels, run):
    assert read_targets(source(tmp_path, None, labels), "labels", run).tolist() == [1, 0]


def test_without_names_on_both_sides_a_class_is_its_number(tmp_path):
    assert read_targets(source(tmp_path, None, [1, 0]), "labels", CAT_DOG).tolist() == [1, 0]
    named = source(tmp_path, own("dog", "cat"), [1, 0])
    assert read_targets(named, "labels", ClassificationTask((0, 1))).tolist() == [1, 0]


def test_a_name_that_the_run_does_not_know_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"--data: .* a class that does not occur in the training data: 'eel'"
    ) as caught:
        read_targets(source(tmp_path, class_label("eel", "cat"), [0, 1]), "labels", CAT_DOG)
    assert "Known classes: 0 (cat), 1 (dog)" in caught.value.hint


@pytest.mark.parametrize("names", [class_label, own])
def test_splits_in_files_apart_are_matched_by_name(tmp_path, names):
    train = write(tmp_path / "train.parquet", names("cat", "dog"), [0, 1] * 20)
    test = write(tmp_path / "test.parquet", names("dog", "cat"), [0, 0, 1, 0])
    found = plan(train=train, test=test)
    assert found.task == CAT_DOG
    assert found.splits["test"].targets.tolist() == [1, 1, 0, 1]
    assert found.truth("test").tolist() == [1, 1, 0, 1]
    table = found.splits_table().to_pylist()
    assert [row["label"] for row in table if row["split"] == "test"] == [1, 1, 0, 1]
    assert (
        "test numbers the classes of column 'labels' differently from train: they are matched by their class names"
        in found.warnings
    )


def test_files_that_agree_are_not_mentioned(tmp_path):
    train = write(tmp_path / "train.parquet", class_label("cat", "dog"), [0, 1] * 20)
    test = write(tmp_path / "test.parquet", class_label("cat", "dog", "eel"), [0, 1])
    assert not any("class names" in warning for warning in plan(train=train, test=test).warnings)


def test_training_on_words_and_testing_on_named_numbers(tmp_path):
    train = write(tmp_path / "train.parquet", None, ["cat", "dog"] * 20)
    test = write(tmp_path / "test.parquet", class_label("dog", "cat"), [0, 1])
    assert plan(train=train, test=test).splits["test"].targets.tolist() == [1, 0]


def test_an_unknown_name_in_the_test_file_is_refused(tmp_path):
    train = write(tmp_path / "train.parquet", class_label("cat", "dog"), [0, 1] * 20)
    test = write(tmp_path / "test.parquet", class_label("cat", "eel"), [0, 1])
    with pytest.raises(DataError, match=r"data.test, data.label: .* not occur in the training data: 'eel'"):
        plan(train=train, test=test)


def test_minus_one_of_a_class_label_is_a_missing_label(tmp_path):
    file = write(tmp_path / "a.parquet", class_label("cat", "dog"), [0, 1, -1, 1] * 10)
    with pytest.raises(DataError) as caught:
        plan(path=file)
    assert "10 of 40 labels in column 'labels' are missing (null, or -1 in a ClassLabel column)" in caught.value.message
    found = plan(path=file, on_bad_sample="skip")
    assert found.task == CAT_DOG
    assert sum(map(len, found.splits.values())) == 30
    with pytest.raises(DataError, match=r"1 of 2 labels in column 'labels' are missing"):
        read_targets(source(tmp_path, class_label("cat", "dog"), [0, -1]), "labels", CAT_DOG)


def test_minus_one_of_other_integers_is_a_class(tmp_path):
    assert plan(path=write(tmp_path / "a.parquet", None, [-1, 1] * 20)).task.values == (-1, 1)


def test_a_class_label_without_a_name_is_refused(tmp_path):
    file = write(tmp_path / "a.parquet", class_label("cat", "dog"), [0, 1, 2, 5] * 10)
    with pytest.raises(DataError) as caught:
        plan(path=file)
    assert caught.value.message == (
        f"data.path: the metadata of {file} names the classes 0 to 1, and column 'labels' holds 2, 5"
    )


def test_names_that_fit_another_column_are_not_used_and_said(tmp_path):
    found = plan(path=write(tmp_path / "a.parquet", own("cat", "dog"), [1, 2, 3] * 20))
    assert found.task.names is None
    assert any(warning.endswith("holds 2, 3: the names are not used") for warning in found.warnings)


def test_two_classes_of_one_name_are_refused(tmp_path):
    with pytest.raises(DataError, match="gives several classes of column 'labels' one name: 'cat'"):
        plan(path=write(tmp_path / "a.parquet", own("cat", "cat"), [0, 1] * 20))


def test_many_classes_have_a_way_on(tmp_path):
    words = [f"species {row % 24:02d}" for row in range(48)]
    file = write(tmp_path / "a.parquet", None, words)
    with pytest.raises(DataError, match="24 distinct values in 48 rows: too few rows for each class") as caught:
        plan(path=file)
    assert "data.many_classes = true" in caught.value.hint
    assert plan(path=file, many_classes=True).outputs == 24
    named = write(tmp_path / "b.parquet", class_label(*sorted(set(words))), [row % 24 for row in range(48)])
    assert plan(path=named).outputs == 24


# --- labels beside embeddings --------------------------------------------------------------------------


def read(tmp_path, metadata, labels) -> LabelColumn:
    return LabelColumn.read(source(tmp_path, metadata, labels), "labels", task="classification")


@pytest.mark.parametrize(
    ("run", "names", "labels", "expected"),
    [
        (CAT_DOG, ("dog", "cat"), [0, 1, None, -1], [1, 0, None, None]),
        (WORDS, ("dog", "cat"), [0, 1, -1], ["dog", "cat", None]),
        (WORDS, ("eel", "cat"), [0, 1], ["eel", "cat"]),
    ],
)
def test_labels_get_the_values_of_the_run(tmp_path, run, names, labels, expected):
    column = read(tmp_path, class_label(*names), labels)
    relabel = known_relabelling(column, run, name="labels", place="--data")
    assert relabel(pa.chunked_array([pa.array(labels, pa.int64())])).to_pylist() == expected


def test_labels_that_mean_the_same_stay_as_they_are(tmp_path):
    for column in (
        read(tmp_path, class_label("cat", "dog", "eel"), [0, 1, 2]),  # 2 is not a class of the run
        read(tmp_path, None, [0, 1]),
        read(tmp_path, None, ["dog"]),
    ):
        assert relabelling(column, CAT_DOG) is None


def test_an_unknown_class_with_the_number_of_another_is_refused(tmp_path):
    column = read(tmp_path, class_label("lion", "tiger"), [0, 1])
    with pytest.raises(
        DataError, match=r"--data: .* 2 classes that do not occur in the training data: 'lion', 'tiger'"
    ):
        known_relabelling(column, CAT_DOG, name="labels", place="--data")


LISTS = [
    lambda feature: {"feature": feature, "_type": "Sequence"},
    lambda feature: {"feature": feature, "_type": "List"},
    lambda feature: [feature],
]


def lists_of_labels(wrap, *names: str) -> dict[str, str]:
    feature = {"names": list(names), "_type": "ClassLabel"}
    return {"huggingface": json.dumps({"info": {"features": {"labels": wrap(feature)}}})}


@pytest.mark.parametrize("wrap", LISTS)
def test_lists_of_class_labels_are_lists_of_names(tmp_path, wrap):
    labels = [[0], [], None, [1, 0]]
    found = LabelColumn.read(
        source(tmp_path, lists_of_labels(wrap, "edema", "mass"), labels), "labels", task="multilabel"
    )
    assert found.values.to_pylist() == [["edema"], [], None, ["mass", "edema"]]


def test_files_that_number_their_labels_differently_are_matched_by_name(tmp_path):
    train = write(tmp_path / "train.parquet", lists_of_labels(LISTS[0], "edema", "mass"), [[0], [1], [0, 1], []] * 10)
    test = write(tmp_path / "test.parquet", lists_of_labels(LISTS[0], "mass", "edema"), [[0], [1]] * 4)
    spec = {"task": "multilabel", "data": {"train": train, "test": test}, "backbone": {"name": "any"}}
    found = plan_data(RunSpec.model_validate(spec))
    assert found.task.values == ("edema", "mass")
    assert found.splits["test"].targets[:2].tolist() == [[0, 1], [1, 0]]


def test_a_number_without_a_name_in_a_list_is_refused_with_its_row(tmp_path):
    later = source(tmp_path, lists_of_labels(LISTS[0], "edema", "mass"), [[0], [1, 2], [-1]])
    with pytest.raises(DataError, match="names the classes 0 to 1, and holds 2 in row 1"):
        LabelColumn.read(later, "labels", task="multilabel")


def test_ordinal_classes_may_be_whole_decimal_numbers(tmp_path):
    grades = [float(row % 3) for row in range(40)]
    path = write(tmp_path / "grades.parquet", None, pa.array([*grades, None], pa.float64()))
    spec = {"task": "ordinal", "data": {"path": path, "on_bad_sample": "error"}, "backbone": {"name": "any"}}
    with pytest.raises(DataError, match="1 of 41 labels"):
        plan_data(RunSpec.model_validate(spec))
    whole = {"task": "ordinal", "data": {"path": write(tmp_path / "whole.parquet", None, grades)}}
    assert plan_data(RunSpec.model_validate(whole | {"backbone": {"name": "any"}})).task.values == (0, 1, 2)


def test_ordinal_classes_with_fractions_are_no_classes(tmp_path):
    path = write(tmp_path / "grades.parquet", None, [row % 3 + 0.5 for row in range(40)])
    spec = {"task": "ordinal", "data": {"path": path}, "backbone": {"name": "any"}}
    with pytest.raises(DataError, match="decimal numbers"):
        plan_data(RunSpec.model_validate(spec))

"""Label columns of every type, and the messages for those that are not labels."""

from __future__ import annotations

import decimal
import json

import numpy as np
import pyarrow as pa
import pytest

from deeptune.errors import DataError
from deeptune.tasks import task_from_json
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.label_columns import missing, numbers, plain
from deeptune.tasks.regression import RegressionTask


def column(values, kind=None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (column([3, 1, 3, 2]), (1, 2, 3)),
        (column([3, 1, 3, 2], pa.uint8()), (1, 2, 3)),
        (column([10, 9, -1, 9], pa.int16()), (-1, 9, 10)),
        (column(["b", "a", "b", "ä"]), ("a", "b", "ä")),
        (column(["b", "a", "b", "a"], pa.large_string()), ("a", "b")),
        (column(["b", "a", "b", "a"]).dictionary_encode(), ("a", "b")),
        (column([7, 5, 5, 7]).dictionary_encode(), (5, 7)),
        (column([True, False, True, True]), (False, True)),
    ],
)
def test_classes_are_the_sorted_values_and_survive_json(given, values):
    labels = ClassificationTask.fit(given)
    assert labels.values == values
    assert [type(v) for v in labels.values] == [type(values[0])] * len(values)
    index = labels.encode(given)
    assert index.dtype == np.int64
    assert index.tolist() == [values.index(v) for v in given.to_pylist()]
    assert labels.decode(index).to_pylist() == given.to_pylist()
    again = task_from_json(json.loads(json.dumps(labels.to_json())))
    assert again == labels
    assert [type(v) for v in again.values] == [type(v) for v in values]


def test_dictionaries_that_differ_by_chunk_mean_the_same():
    parts = [pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", "c"]).dictionary_encode()]
    labels = ClassificationTask.fit(pa.chunked_array(parts))
    assert labels.encode(pa.chunked_array(parts)).tolist() == [0, 1, 1, 2]


def test_names_are_shown_beside_the_values():
    labels = ClassificationTask.fit(column([3, 1, 1, 3]), label_names=["tea", "coffee", "milk", "espresso"])
    assert labels.names == ("coffee", "espresso")
    assert list(labels.class_names) == ["1 (coffee)", "3 (espresso)"]
    assert task_from_json(labels.to_json()) == labels
    assert ClassificationTask.fit(column(["x", "y"]), label_names=["a", "b"]).names is None
    assert ClassificationTask.fit(column([0, 5]), label_names=["a", "b"]).names is None
    assert ClassificationTask.fit(column([False, True]), label_names=["a", "b"]).class_names[1] == "True"


def refusal(call, *args, **kwargs) -> DataError:
    with pytest.raises(DataError) as caught:
        call(*args, **kwargs)
    assert caught.value.exit_code == 3
    return caught.value


def test_float_classes():
    error = refusal(ClassificationTask.fit, column([0.5, 1.5]), name="score")
    assert (
        error.message
        == "data.label: column 'score' holds decimal numbers, and classes are integers, strings or booleans"
    )
    assert error.hint == 'Set task = "regression" to predict numbers, or name another label column.'
    error = refusal(ClassificationTask.fit, column([0.0, 1.0]))
    assert error.hint.endswith("if these whole numbers are classes, cast the column to integers.")
    assert refusal(ClassificationTask.fit, column([1.0, 1e20])).message.endswith("strings or booleans")
    for none in (None, float("nan")):
        error = refusal(ClassificationTask.fit, column([0.0, 1.0, none]))
        assert error.hint.endswith("cast the column to integers (`Int64` in pandas, as some are missing).")


@pytest.mark.parametrize("deep", [False, True])
def test_lists_whose_chunks_become_other_types_are_one_column(deep):
    kind = pa.list_(pa.list_(pa.uint64())) if deep else pa.list_(pa.uint64())
    chunks = [pa.array([[[1]] if deep else [1]], kind), pa.array([[[2**64 - 1]] if deep else [2**64 - 1]], kind)]
    expected = [[[1.0]], [[2.0**64]]] if deep else [[1.0], [2.0**64]]
    assert plain(pa.chunked_array(chunks)).to_pylist() == expected


def test_one_class_and_too_many():
    assert (
        refusal(ClassificationTask.fit, column(["a", "a"])).message
        == "data.label: there is only one class, 'a', in column 'labels'"
    )
    error = refusal(ClassificationTask.fit, column(list(range(30)) + [0] * 30), name="id")
    assert error.message == "data.label: column 'id' has 30 distinct values in 60 rows: too few rows for each class"
    assert 'task = "regression"' in error.hint
    error = refusal(ClassificationTask.fit, column([f"text {i}" for i in range(30)]))
    assert error.hint == "Set data.many_classes = true if they are classes; or name another label column."
    assert len(ClassificationTask.fit(column(list(range(30)) * 3))) == 30
    assert len(ClassificationTask.fit(column([1, 2, 1, 2]))) == 2  # a tiny set is not a reason to refuse


def test_types_that_are_no_labels():
    error = refusal(ClassificationTask.fit, column([[1], [2]]))
    assert "holds lists of whole numbers" in error.message
    assert 'task = "multilabel"' in error.hint
    assert "holds dates" in refusal(ClassificationTask.fit, column([1, 2], pa.date32())).message
    error = refusal(ClassificationTask.check_type, column([None, None]), name="labels")
    assert error.message == "data.label: every value of column 'labels' is null"


def test_an_unknown_class_another_type_and_a_null():
    labels = ClassificationTask.fit(column(["cat", "dog"]))
    error = refusal(labels.encode, column(["dog", "emu", "emu"]), place="data.test")
    assert error.message == "data.test: column 'labels' has a class that does not occur in the training data: 'emu'"
    assert error.hint == "Known classes: cat, dog. Leave such rows out, or train on them too."
    error = refusal(labels.encode, column([0, 1]))
    assert error.message == "data.label: column 'labels' holds int64 values, but the classes are string: cat, dog"
    error = refusal(labels.encode, column(["dog", None, ""]))
    assert error.message == (
        "data.label: 2 of 3 labels in column 'labels' are missing "
        "(null, NaN, infinite, empty, or -1 in a ClassLabel column): rows 1, 2"
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (column([1, None, 2]), [False, True, False]),
        (column([1.0, float("nan"), float("inf"), None]), [False, True, True, True]),
        (column(["a", "", "  ", None]), [False, True, True, True]),
        (column(["a", None, "a"]).dictionary_encode(), [False, True, False]),
        (column([True, None]), [False, True]),
        (column([None, None]), [True, True]),
    ],
)
def test_missing_labels(given, expected):
    assert missing(given).tolist() == expected


@pytest.mark.parametrize(
    "given",
    [
        column([1, 2, 4], pa.int8()),
        column([1, 2, 4], pa.uint64()),
        column(np.array([1, 2, 4], np.float16)),
        column([1, 2, 4], pa.float32()),
        column([decimal.Decimal("1.00"), decimal.Decimal("2.00"), decimal.Decimal("4.00")], pa.decimal128(9, 2)),
        column([decimal.Decimal("1.0"), decimal.Decimal("2.0"), decimal.Decimal("4.0")], pa.decimal256(50, 1)),
        column([1.0, 2.0, 4.0]).dictionary_encode(),
    ],
)
def test_numbers_of_any_type_stay_numbers(given):
    targets = numbers(given)
    assert targets.dtype == np.float64
    assert targets.tolist() == [1.0, 2.0, 4.0]


def test_fractions_are_kept_to_the_last_bit():
    values = [0.1, 1e-300, 123456789.123456789]
    assert numbers(column(values)).tolist() == values
    assert numbers(column([2**63 + 2048], pa.uint64())).tolist() == [2.0**63 + 2048]


def test_standardised_inside_and_restored():
    targets = np.array([10.0, 20.0, 60.0])
    labels = RegressionTask.fit(targets)
    assert labels.mean == 30.0
    assert labels.std == pytest.approx(np.sqrt((400 + 100 + 900) / 3), rel=1e-15)
    standard = labels.standardise(targets)
    assert (standard.mean(), standard.std()) == (pytest.approx(0, abs=1e-15), pytest.approx(1))
    assert labels.restore(standard.astype(np.float32)) == pytest.approx(targets, rel=1e-6)
    assert labels.restore(np.float32(0)).dtype == np.float64
    assert task_from_json(json.loads(json.dumps(labels.to_json()))) == labels


def test_numbers_that_cannot_be_learned():
    error = refusal(RegressionTask.fit, np.full(5, 3.5), name="dose")
    assert error.message == "data.label: every training value of column 'dose' is 3.5"
    assert "too large" in refusal(RegressionTask.fit, np.array([1e308, -1e308, 1e308])).message
    error = refusal(numbers, column(["1.5", "2"]), name="dose")
    assert error.message == "data.label: column 'dose' holds text, and regression needs numbers"
    assert error.hint == 'Cast the column to numbers, or set task = "classification".'
    assert "holds true or false" in refusal(numbers, column([True, False])).message
    assert "1 of 2 labels" in refusal(numbers, column([1.0, float("nan")])).message


@pytest.mark.parametrize("kind", [pa.uint64(), pa.decimal128(38, 0)], ids=str)
def test_integers_beyond_64_bits_are_no_classes_and_the_message_says_so(kind):
    given = column([2**63 + 5, 2**63 + 6], kind)
    with pytest.raises(DataError, match="integers above 9,223,372,036,854,775,807") as caught:
        ClassificationTask.fit(given)
    assert "strings" in caught.value.hint

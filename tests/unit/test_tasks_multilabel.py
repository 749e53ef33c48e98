"""Multi-label targets, thresholds, splits and metrics, against scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn import metrics as sk

from deeptune.data.splits.stratify import assign_splits
from deeptune.engine.loss import Criterion
from deeptune.errors import DataError
from deeptune.spec.run_spec import SplitSpec
from deeptune.tasks import task_from_json
from deeptune.tasks.iterative_split import iterative_split
from deeptune.tasks.metric_functions import multilabel_metrics
from deeptune.tasks.multilabel import MultiLabelTask, best_threshold

TASK = MultiLabelTask(("a", "b", "c"), (0.5, 0.4, 0.6))


def column(values: list, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = (rng.random((200, 3)) < [0.5, 0.2, 0.1]).astype(np.int8)
    return truth, (rng.normal(size=truth.shape) + 2 * truth).astype(np.float32)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.string()), pa.large_list(pa.string()), pa.list_(pa.dictionary(pa.int8(), pa.string()))]
)
def test_lists_become_zeros_and_ones_and_back(kind):
    lists = column([["b", "a"], [], ["c"]]).cast(pa.list_(pa.string()))
    given = lists.cast(kind) if not pa.types.is_dictionary(kind.value_type) else _dictionary_lists(lists)
    task = MultiLabelTask.fit(given)
    targets = task.encode(given)
    assert task.values == ("a", "b", "c")
    assert targets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert task.decode(targets).to_pylist() == [["a", "b"], [], ["c"]]


def _dictionary_lists(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    whole = lists.combine_chunks()
    return pa.chunked_array([pa.ListArray.from_arrays(whole.offsets, whole.values.dictionary_encode())])


def test_a_missing_list_has_no_targets():
    assert TASK.find(column([["a"], None])).tolist() == [[1, 0, 0], [-1, -1, -1]]
    assert TASK.decode(TASK.find(column([["a"], None]))).to_pylist() == [["a"], None]


def test_several_columns_become_lists_of_their_names():
    columns = {"a": column([0, 1, None]), "b": column([True, True, False]), "c": column([0.0, 0.0, 1.0])}
    assert MultiLabelTask.gather(columns, place="data.label").to_pylist() == [["b"], ["a", "b"], None]


@pytest.mark.parametrize("values", [[0, 2], ["yes", "no"], [0.5, 1.0]])
def test_a_label_column_holds_zero_or_one(values):
    with pytest.raises(DataError, match=r"column 'a' of data\.label holds other values than 0 and 1"):
        MultiLabelTask.gather({"a": column(values)}, place="data.label")


def test_an_unknown_label_is_refused():
    with pytest.raises(DataError, match="a label that does not occur in the training data: 'z'"):
        TASK.encode(column([["a", "z"]]))


def test_plain_strings_are_no_lists():
    with pytest.raises(DataError, match="multilabel needs lists"):
        MultiLabelTask.check_type(column(["a", "b"]), name="labels")


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.list_(pa.bool_()), pa.list_(pa.int64(), 3)])
def test_lists_of_zeros_and_ones_for_every_label_are_not_taken_for_the_labels_0_and_1(kind):
    with pytest.raises(DataError, match="every list of column 'tags' holds 3 zeros and ones") as refused:
        MultiLabelTask.fit(column([[True, False, False], [False, True, True], None]).cast(kind), name="tags")
    assert "[1, 2] for [0, 1, 1]" in str(refused.value.hint)
    assert MultiLabelTask.fit(column([[0], [0, 1], [1]])).values == (0, 1)
    assert MultiLabelTask.fit(column([[0], [1]])).values == (0, 1)


def test_a_task_survives_json():
    assert task_from_json(json.loads(json.dumps(TASK.to_json()))) == TASK


def test_metrics_are_those_of_scikit_learn(scored):
    truth, logits = scored
    chances = 1 / (1 + np.exp(-logits.astype(float)))
    predicted = chances >= np.array(TASK.thresholds)
    found = TASK.score(logits, truth)
    expected = {
        "macro_f1": sk.f1_score(truth, predicted, average="macro"),
        "micro_f1": sk.f1_score(truth, predicted, average="micro"),
        "macro_roc_auc": sk.roc_auc_score(truth, chances, average="macro"),
        "macro_average_precision": sk.average_precision_score(truth, chances, average="macro"),
        "hamming_loss": sk.hamming_loss(truth, predicted),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_metrics_of_one_label_are_those_of_the_label_and_not_of_its_absence():
    truth, chances = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0]), np.array([0.9, 0.1, 0.8, *[0.2] * 7])
    found = multilabel_metrics(truth[:, None].astype(bool), chances[:, None], ["a"], [0.5])
    (own,) = found["per_class"]
    precision, recall, f1, _ = sk.precision_recall_fscore_support(truth, chances >= 0.5, average="binary")
    assert (own["precision"], own["recall"], own["f1"], own["support"]) == (precision, recall, f1, 2)
    assert found["macro_f1"] == f1
    nobody = multilabel_metrics(np.zeros((10, 1), bool), np.full((10, 1), 0.2), ["a"], [0.5])
    assert (nobody["macro_f1"], nobody["per_class"][0]["support"]) == (0, 0)


def test_a_label_without_rows_is_left_out_of_ranking_metrics(scored):
    truth, logits = scored
    truth = truth.copy()
    truth[:, 2] = 0
    found = TASK.score(logits, truth)
    assert found["macro_roc_auc"] == pytest.approx(sk.roc_auc_score(truth[:, :2], logits[:, :2], average="macro"))
    assert found["per_class"][2]["average_precision"] is None
    assert any("macro_roc_auc is the mean without 1 of 3 labels" in note for note in found["notes"])


def test_no_threshold_has_a_higher_f1(scored):
    truth, logits = scored
    chance = 1 / (1 + np.exp(-logits[:, 0].astype(float)))
    best = sk.f1_score(truth[:, 0], chance >= best_threshold(truth[:, 0] > 0, chance))
    assert best == pytest.approx(max(sk.f1_score(truth[:, 0], chance >= t) for t in np.linspace(0, 1, 2001)), abs=1e-9)


def test_without_a_positive_row_the_threshold_is_one_half():
    assert best_threshold(np.zeros(4, bool), np.linspace(0, 1, 4)) == 0.5


def test_the_loss_is_the_mean_binary_cross_entropy(scored):
    truth, logits = scored
    outputs, targets = torch.from_numpy(logits), torch.from_numpy(TASK.model_targets(truth))
    loss = Criterion("bce")
    chances = 1 / (1 + np.exp(-logits.astype(float)))
    expected = np.mean([sk.log_loss(truth[:, i], chances[:, i]) for i in range(3)])
    assert float(loss.sum(outputs, targets) / loss.count(targets)) == pytest.approx(expected, rel=1e-5)


def test_each_label_has_its_share_in_every_split():
    rng = np.random.default_rng(1)
    has = rng.random((1000, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.02]
    codes = iterative_split(has, np.array([0.7, 0.1, 0.2]), np.random.default_rng(0))
    counts = np.array([has[codes == split].sum(axis=0) for split in range(3)])
    assert np.abs(counts - np.outer([0.7, 0.1, 0.2], has.sum(axis=0))).max() <= 2
    assert np.abs(np.bincount(codes) - [700, 100, 200]).max() <= 2


def test_groups_of_labels_stay_together():
    rng = np.random.default_rng(1)
    targets = (rng.random((300, 4)) < 0.3).astype(np.int8)
    groups = np.arange(300) // 6
    codes = assign_splits(targets, task=MultiLabelTask, proportions=SplitSpec(), groups=groups, seed=0)
    assert all(len(set(codes[groups == group])) == 1 for group in range(50))
    assert (targets[codes == 0].sum(axis=0) > 0).all()

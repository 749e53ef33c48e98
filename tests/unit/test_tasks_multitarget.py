"""Several regression targets: missing ones count for nothing."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from deeptune.data.splits.stratify import assign_splits
from deeptune.engine.loss import Criterion
from deeptune.errors import DataError
from deeptune.spec.run_spec import DataSpec, SplitSpec
from deeptune.tasks import task_from_json
from deeptune.tasks.label_columns import missing
from deeptune.tasks.multitarget import MultiTargetTask
from deeptune.tasks.regression import RegressionTask

NAN = float("nan")


def column(values: list, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


def fitted(values: list) -> tuple[MultiTargetTask, np.ndarray]:
    data = DataSpec(path="x", label=["x", "y"])
    task = RegressionTask.fit_labels(column(values), data=data, label_names=None, name="x, y")
    assert isinstance(task, MultiTargetTask)
    return task, task.encode(column(values))


def test_each_target_is_standardised_by_the_rows_that_have_it():
    task, targets = fitted([[1.0, 10.0], [3.0, None], [5.0, 30.0]])
    assert [(one.mean, one.std) for one in task.targets] == [
        (3.0, pytest.approx(np.std([1, 3, 5]))),
        (20.0, 10.0),
    ]
    assert np.isnan(task.model_targets(targets)[1, 1])


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_a_missing_target_is_not_in_the_loss(loss):
    outputs = torch.tensor([[1.0, 2.0], [0.5, -1.0]], requires_grad=True)
    targets = torch.tensor([[0.0, NAN], [0.0, 3.0]])
    criterion = Criterion(loss)
    value = criterion.sum(outputs, targets)
    value.backward()
    known = [(1.0, 0.0), (0.5, 0.0), (-1.0, 3.0)]
    one_by_one = [Criterion(loss).sum(torch.tensor([[a]]), torch.tensor([b])) for a, b in known]
    assert float(value.detach()) == pytest.approx(float(sum(one_by_one)))
    assert float(criterion.count(targets)) == 3
    assert outputs.grad is not None
    assert outputs.grad[0, 1] == 0


def test_numbers_survive_decoding():
    values = [[1.0, 10.0], [3.0, None], [5.0, 30.0]]
    task, targets = fitted(values)
    assert task.decode(targets).to_pylist() == values


def test_a_row_without_any_number_is_missing():
    assert missing(column([[None, None], [1.0, None], None])).tolist() == [True, False, True]


def test_columns_become_lists_with_nulls():
    columns = {"x": column([1.0, None, None]), "y": column([2, 3, None])}
    assert MultiTargetTask.gather(columns, place="data.label").to_pylist() == [[1.0, 2.0], [None, 3.0], None]


def test_lists_have_one_length():
    with pytest.raises(DataError, match="hold 1 to 2 numbers"):
        fitted([[1.0], [2.0, 3.0]])


def test_a_task_survives_json():
    task, _ = fitted([[1.0, 10.0], [3.0, None], [5.0, 30.0]])
    assert task_from_json(json.loads(json.dumps(task.to_json()))) == task


def test_a_constant_target_is_named():
    with pytest.raises(DataError, match="every training value of column 'y' is 2"):
        fitted([[1.0, 2.0], [2.0, 2.0]])


def test_splits_of_groups_give_train_every_target():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(60, 2))
    targets[6:, 1] = NAN  # of the groups 0 and 1 alone
    codes = assign_splits(targets, task=MultiTargetTask, proportions=SplitSpec(), groups=np.arange(60) // 5, seed=0)
    assert np.isfinite(targets[codes == 0, 1]).any()

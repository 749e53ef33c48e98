"""Classes with an order: ranks, the cumulative link loss and the head with rising thresholds."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.special import expit

from deeptune.engine.loss import Criterion
from deeptune.errors import DataError
from deeptune.model.head import Head, OrderedLinear
from deeptune.spec.run_spec import DataSpec, HeadSpec
from deeptune.tasks import task_from_json
from deeptune.tasks.ordinal import OrdinalTask

WORDS = pa.chunked_array([pa.array(["low", "high", "mid", "low"])])


def fitted(column: pa.ChunkedArray, order: list[str] | None = None) -> OrdinalTask:
    return OrdinalTask.fit_labels(column, data=DataSpec(path="x", label_order=order), label_names=None, name="labels")


def test_words_have_the_given_order():
    task = fitted(WORDS, ["low", "mid", "high"])
    assert task.encode(WORDS).tolist() == [0, 2, 1, 0]
    assert task_from_json(json.loads(json.dumps(task.to_json()))) == task


def test_numbers_have_their_own_order():
    assert fitted(pa.chunked_array([pa.array([3, 1, 2, 10])])).values == (1, 2, 3, 10)


def test_numbers_can_be_reversed():
    assert fitted(pa.chunked_array([pa.array([3, 1, 2])]), ["3", "2", "1"]).values == (3, 2, 1)


def test_an_order_names_every_class():
    with pytest.raises(DataError, match="no row is of 'middle', 'mid' is not in it"):
        fitted(WORDS, ["low", "middle", "high"])


def test_probabilities_are_differences_of_cumulative_ones():
    task = fitted(WORDS, ["low", "mid", "high"])
    found = task.probabilities(np.array([[2.0, -1.0]]))
    assert found == pytest.approx(np.array([[1 - expit(2), expit(2) - expit(-1), expit(-1)]]))


def test_the_loss_is_the_negative_log_probability():
    task = fitted(WORDS, ["low", "mid", "high"])
    logits = np.sort(np.random.default_rng(0).normal(size=(50, 2)) * 3)[:, ::-1].astype(np.float32).copy()
    targets = np.arange(50) % 3
    expected = -np.log(task.probabilities(logits)[np.arange(50), targets]).sum()
    found = Criterion("cumulative_link").sum(torch.from_numpy(logits), torch.from_numpy(targets))
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_finite_far_from_the_thresholds():
    logits = torch.tensor([[200.0, 199.0], [-199.0, -200.0]], requires_grad=True)
    loss = Criterion("cumulative_link").sum(logits, torch.tensor([0, 2]))
    loss.backward()
    assert loss.item() == pytest.approx(400)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_thresholds_rise_whatever_is_learned():
    layer = OrderedLinear(4, 3)
    torch.nn.init.normal_(layer.bias, std=10)
    logits = layer(torch.randn(5, 4))
    assert (logits.diff(dim=1) <= 0).all()


def test_a_stored_head_gives_the_same_bits():
    features = torch.randn(40, 6) * 3 + 5
    head = Head(HeadSpec(), 6, 3, ordered=True)
    head.standardise(features)
    torch.nn.init.normal_(head.last_layer.weight)
    torch.nn.init.normal_(head.last_layer.bias)
    again = Head(HeadSpec(), 6, 3, ordered=True)
    again.load_state_dict(head.state_dict())
    assert torch.equal(head.eval()(features), again.eval()(features))


def test_the_constant_prediction_has_the_shares_of_the_classes():
    task = fitted(WORDS, ["low", "mid", "high"])
    logits = task.constant_logits(np.array([0, 0, 1, 2]), None)
    assert task.probabilities(logits[None])[0] == pytest.approx([0.5, 0.25, 0.25], abs=1e-6)

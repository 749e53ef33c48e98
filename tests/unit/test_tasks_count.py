"""Counts: loss, minimum, metrics and a probe's head against scikit-learn and PyTorch, and labels that are none."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn import metrics as sk
from sklearn.linear_model import PoissonRegressor
from torch.nn import functional as F

from deeptune.engine.linear_minimum import LinearLoss, Minimum
from deeptune.engine.loss import MAX_LOG_RATE, Criterion
from deeptune.errors import DataError, SpecError
from deeptune.probing.heads import LinearHead, out_of_fold
from deeptune.spec.run_spec import CalibrationSpec, TrainSpec
from deeptune.spec.toml import validate
from deeptune.tasks import task_from_json
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.count import CountTask
from deeptune.tasks.number_metrics import number_metrics

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(200, 5))
COUNTS = RNG.poisson(np.exp(1 + FEATURES @ [0.5, -0.3, 0.2, 0.0, 0.0])).astype(float)


def task_of(counts: np.ndarray = COUNTS) -> CountTask:
    return CountTask.fit(counts)


def test_metrics_are_scikit_learns():
    rates = np.exp(1 + FEATURES @ [0.4, -0.2, 0.0, 0.1, 0.0])
    assert number_metrics(COUNTS, rates, "count") == {
        "poisson_deviance": pytest.approx(sk.mean_poisson_deviance(COUNTS, rates)),
        "d2": pytest.approx(sk.d2_tweedie_score(COUNTS, rates, power=1)),
        "mae": pytest.approx(sk.mean_absolute_error(COUNTS, rates)),
        "rmse": pytest.approx(sk.root_mean_squared_error(COUNTS, rates)),
        "n": 200,
        "notes": [],
    }


@pytest.mark.parametrize("same", [0.0, 3.0])
def test_d2_of_one_count_is_not_defined(same):
    found = number_metrics(np.full(4, same), np.array([1.0, 2.0, 3.0, 0.5]), "count")
    assert found["d2"] is None
    assert found["notes"] == ["d2 is not defined: the truth is one and the same count in every row"]


def test_the_loss_is_the_deviance_in_units_of_the_mean():
    task, logits = task_of(), RNG.normal(size=(200, 1)).astype(np.float32)
    targets = torch.from_numpy(task.model_targets(COUNTS))
    criterion, outputs = Criterion("poisson"), torch.from_numpy(logits).requires_grad_()
    loss = criterion.sum(outputs, targets) / criterion.count(targets)
    assert loss.item() * task.mean == pytest.approx(sk.mean_poisson_deviance(COUNTS, task.numbers(logits)), rel=1e-5)
    (found,) = torch.autograd.grad(loss, outputs)
    (theirs,) = torch.autograd.grad(2 * F.poisson_nll_loss(outputs.squeeze(1), targets), outputs)
    assert torch.allclose(found, theirs, atol=1e-6)


def test_a_step_too_far_has_a_gradient_that_leads_back():
    outputs = torch.tensor([[MAX_LOG_RATE + 100.0], [-1000.0]], requires_grad=True)
    loss = Criterion("poisson").sum(outputs, torch.tensor([1.0, 2.0]))
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert torch.isfinite(loss)
    assert gradient[0] > 0
    assert gradient[1] < 0


@pytest.mark.parametrize("penalty", [0.1, 10.0, 1000.0])
def test_the_exact_minimum_is_that_of_scikit_learn(penalty):
    """The penalised sum, in units of the mean, is scikit-learn's objective with alpha = mean × penalty / 2n."""
    task = task_of()
    targets = torch.from_numpy(task.standardise(COUNTS))
    minimum = Minimum(LinearLoss(torch.from_numpy(FEATURES), targets, Criterion("poisson"), 1))
    minimum.solve(penalty)
    weight, bias = minimum.layer()
    alpha = task.mean * penalty / (2 * len(COUNTS))
    theirs = PoissonRegressor(alpha=alpha, tol=1e-12, solver="newton-cholesky").fit(FEATURES, COUNTS)
    assert np.allclose(weight.numpy()[0], theirs.coef_, atol=1e-5)
    assert float(bias) + np.log(task.mean) == pytest.approx(theirs.intercept_, abs=1e-5)


def test_a_probes_head_is_poisson_regression():
    task, folds = task_of(), np.arange(200) % 4
    head = LinearHead()
    found = task.numbers(out_of_fold(head, FEATURES.astype(np.float32), COUNTS, task, folds).logits)
    chosen = []
    for penalty in head.penalties:
        assert penalty is not None
        said = np.zeros(200)
        for fold in range(4):
            train, test = head.prepared(FEATURES[folds != fold], FEATURES[folds == fold])
            own = COUNTS[folds != fold] / task.mean
            model = PoissonRegressor(alpha=penalty / len(own), solver="newton-cholesky").fit(train, own)
            said[folds == fold] = model.predict(test) * task.mean
        chosen.append(np.isclose(found, said, rtol=1e-3))
    assert np.any(chosen, axis=0).all()
    assert sk.d2_tweedie_score(COUNTS, found, power=1) > 0.3


def test_a_head_of_folds_without_a_count_predicts_next_to_nothing():
    found = task_of().estimator("linear", 1.0).fit(FEATURES, np.zeros(200)).predict(FEATURES)
    assert np.exp(found).max() < 1e-9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, -1, None, 2], r"1 of 4 labels in column 'n' are not counts \(-1\): rows 1"),
        ([1.0, 2.5, float("nan"), -3.0], r"2 of 4 labels in column 'n' are not counts \(2.5, -3\): rows 1, 3"),
        (["one", "two"], "column 'n' holds text, and count needs numbers"),
        ([[1, 2], [3, 4]], "column 'n' holds lists, and a row has one count"),
    ],
)
def test_labels_that_are_no_counts_are_refused_with_their_rows(values, message):
    with pytest.raises(DataError, match=message):
        CountTask.check_type(pa.chunked_array([pa.array(values)]), name="n")


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.decimal128(6, 2)])
def test_whole_numbers_of_any_type_are_counts(kind):
    column = pa.chunked_array([pa.array([0, 3, 7], pa.int8()).cast(kind)])
    assert task_of().encode(column).tolist() == [0, 3, 7]


def test_counts_that_do_not_vary_leave_nothing_to_learn():
    with pytest.raises(DataError, match="every training value of column 'n' is 0"):
        CountTask.fit(np.zeros(5), name="n")


def test_intervals_do_not_reach_below_0_and_the_task_is_stored():
    task, logits = task_of(), np.log(np.maximum(COUNTS, 0.1) / COUNTS.mean())[:, None]
    fitted = task.with_confidence(HeldOut(logits, COUNTS + RNG.poisson(1, 200)), CalibrationSpec())
    columns = fitted.predictions(logits)
    lower, rates, upper = (columns[name].to_numpy() for name in ("lower", "prediction", "upper"))
    assert lower.min() == 0
    assert (lower <= rates).all()
    assert (rates < upper).all()
    again = task_from_json(fitted.to_json())
    assert isinstance(again, CountTask)
    assert again == fitted
    assert again.read_predictions(pa.chunked_array([columns["prediction"]]), place="p").tolist() == rates.tolist()


def test_the_baseline_is_the_mean_and_for_mae_the_median():
    found = task_of().baseline(COUNTS[:50], COUNTS)
    mean, median = COUNTS.mean(), np.median(COUNTS)
    assert found["poisson_deviance"] == pytest.approx(sk.mean_poisson_deviance(COUNTS[:50], np.full(50, mean)))
    assert found["mae"] == pytest.approx(np.abs(COUNTS[:50] - median).mean())
    assert task_of().numbers(task_of().constant_logits(COUNTS, None)[None])[0] == pytest.approx(mean)


def test_a_spec_names_its_loss_and_metrics():
    spec = {"task": "count", "data": {"path": "x"}, "backbone": {"name": "resnet18"}}
    assert validate({**spec, "train": {"loss": "poisson", "early_stopping": {"metric": "val/d2"}}}).task == "count"
    with pytest.raises(SpecError, match=r"train\.loss: 'mse' needs numbers; count takes 'poisson'"):
        validate({**spec, "train": {"loss": "mse"}})
    with pytest.raises(SpecError, match=r"data.label: count takes one column, got \['a', 'b'\]"):
        validate({**spec, "data": {"path": "x", "label": ["a", "b"]}})


def test_a_fit_takes_no_part_in_what_train_does_not_hold():
    fitted = task_of().fit_splits({"train": COUNTS[:100], "val": COUNTS[100:]}, train=TrainSpec(), name="n")
    assert fitted.task.mean == pytest.approx(COUNTS[:100].mean())  # type: ignore[attr-defined]

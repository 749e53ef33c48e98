"""Heads that are the exact minimum of their loss: as scikit-learn finds it, and without any row of val."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from devices import DEVICE
from faults.killing import finish, killed_after, log_lines, same_outcome
from PIL import Image
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.metrics import mean_poisson_deviance, roc_curve

from deeptune.data.sources.parquet import open_source
from deeptune.data.splits.folds import draw_folds
from deeptune.engine.run import execute
from deeptune.errors import SpecError
from deeptune.model.head import ScaledLinear
from deeptune.report import write_report
from deeptune.runs import RunDirectory, new_run_directory, read_records, write_text
from deeptune.spec import RunSpec, dump_spec
from deeptune.spec.defaults import PENALTIES
from deeptune.spec.toml import load_spec, validate
from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.regression import RegressionTask

pytestmark = pytest.mark.usefixtures("no_reports")

ROWS = 150

Labelled = tuple[np.ndarray, np.ndarray]  # features and labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exact")
    table = pq.read_table(open_source("sample:openclipart7").files[0]).slice(0, ROWS)
    bright = [np.asarray(Image.open(io.BytesIO(one)).convert("L")).mean() for one in table["images"].to_pylist()]
    labels, rng = table["labels"].to_numpy(), np.random.default_rng(0)
    names = np.array(["a", "b", "c"])
    split = np.array(["train", "train", "train", "val", "test"])[np.arange(ROWS) % 5]
    table = pa.table(
        {
            "images": table["images"].combine_chunks(),
            "labels": names[labels % 3],
            "other_val": np.where(split == "val", "a", names[labels % 3]),
            "several": [[name for at, name in enumerate(names) if label >> at & 1] for label in labels],
            "number": labels + rng.normal(size=ROWS),
            "bright": bright + np.random.default_rng(1).normal(0, 60, ROWS),
            "things": rng.poisson(1 + labels),
            "split": split,
            "site": np.where(np.arange(ROWS) < ROWS * 3 // 4, "one", np.where(np.arange(ROWS) % 2, "two", "three")),
        }
    )
    pq.write_table(table, root / "all.parquet")
    return root


def make_spec(folder: Path, task: str = "classification", **values: Any) -> RunSpec:
    data = {"path": str(folder / "all.parquet"), "split_column": "split", **values.pop("data", {})}
    train = {"device": DEVICE, "precision": "auto", "workers": 0, **values.pop("train", {})}
    backbone = {"name": "timm:test_resnet", "weights": "random", "image_size": 32}
    return validate({"task": task, "data": data, "backbone": backbone, "train": train, **values})


@pytest.fixture(scope="module")
def train(folder: Path) -> Callable[..., RunDirectory]:
    made: dict[str, RunDirectory] = {}

    def run(task: str = "classification", **values: Any) -> RunDirectory:
        key = repr((task, values))
        if key not in made:
            made[key] = new_run_directory(folder, "run")
            execute(make_spec(folder, task, **values), made[key])
        return made[key]

    return run


def epochs_of(run: RunDirectory) -> list[dict[str, Any]]:
    return [event for event in read_records(run.events) if event["kind"] == "epoch"]


def features_of(run: RunDirectory, split: str) -> tuple[np.ndarray, np.ndarray]:
    table = pq.read_table(run.embeddings(split))
    return np.stack(table["embedding"].to_numpy()).astype(np.float64), table["label"].to_numpy()


def scaled(train: np.ndarray, others: np.ndarray, *, common: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Both in the scale of the head: it is that of the training rows."""
    import torch

    layer = ScaledLinear(train.shape[1], 1)
    layer.set_scale(torch.from_numpy(train), common=common)
    shift, scale = layer.shift.numpy(), layer.scale.numpy()
    return (train - shift) / scale, (others - shift) / scale


def test_a_head_of_classes_is_logistic_regression(train: Any) -> None:
    run = train()
    penalty = epochs_of(run)[-1]["train"]["penalty"]
    (x, y), (test, _) = features_of(run, "train"), features_of(run, "test")
    x, test = scaled(x, test)
    theirs = LogisticRegression(C=1 / penalty, max_iter=10_000, tol=1e-9).fit(x, y)
    uncalibrated = json.loads(run.metrics.read_text())["test"].get("uncalibrated", {})
    truth = features_of(run, "test")[1]
    chances = theirs.predict_proba(test)[np.arange(len(truth)), np.searchsorted(theirs.classes_, truth)]
    found = uncalibrated.get("log_loss", json.loads(run.metrics.read_text())["test"]["loss"])
    assert found == pytest.approx(-np.log(chances).mean(), abs=1e-3)


@pytest.mark.parametrize(("label", "common"), [("number", False), ("bright", True)])
def test_a_head_of_numbers_is_ridge_regression_in_the_scale_that_predicts_other_folds_best(
    train: Any, label: str, common: bool
) -> None:
    run = train("regression", data={"label": label})
    penalty = epochs_of(run)[-1]["train"]["penalty"]
    (x, y), (test, _) = features_of(run, "train"), features_of(run, "test")
    folds = draw_folds(y, RegressionTask.fit(y), seed=load_spec(run.spec).train.seed)

    def loss(one: bool, penalty: float) -> float:
        z, ridge = scaled(x, x, common=one)[0], Ridge(alpha=penalty / 2)
        errors = [
            ridge.fit(z[folds != fold], y[folds != fold]).predict(z[folds == fold]) - y[folds == fold]
            for fold in range(5)
        ]
        return float(np.square(np.concatenate(errors)).mean() / y.var())

    losses = {(one, tried): loss(one, tried) for one in (False, True) for tried in PENALTIES}
    best = min(losses, key=lambda at: losses[at])
    assert best == (common, pytest.approx(penalty))
    assert epochs_of(run)[-1]["val"]["out_of_fold_loss"] == pytest.approx(losses[best], rel=1e-3)
    x, test = scaled(x, test, common=common)
    theirs = Ridge(alpha=penalty / 2).fit(x, y).predict(test)
    assert np.allclose(pq.read_table(run.predictions)["prediction"].to_numpy(), theirs, rtol=1e-3, atol=1e-3)


def test_a_head_of_counts_is_poisson_regression(train: Any) -> None:
    run = train("count", data={"label": "things"})
    penalty = epochs_of(run)[-1]["train"]["penalty"]
    (x, y), (test, truth) = features_of(run, "train"), features_of(run, "test")
    x, test = scaled(x, test)
    alpha = y.mean() * penalty / (2 * len(y))
    theirs = PoissonRegressor(alpha=alpha, tol=1e-10, solver="newton-cholesky").fit(x, y).predict(test)
    assert np.allclose(pq.read_table(run.predictions)["prediction"].to_numpy(), theirs, rtol=1e-3)
    found = json.loads(run.metrics.read_text())["test"]
    assert found["poisson_deviance"] == pytest.approx(mean_poisson_deviance(truth, theirs), rel=1e-3)


def test_an_epoch_is_a_penalty_and_the_last_one_predicts_other_folds_best(train: Any) -> None:
    run = train()
    epochs = epochs_of(run)
    assert [epoch["train"]["penalty"] for epoch in epochs] == list(PENALTIES[: len(epochs)])
    losses = [epoch["val"]["out_of_fold_loss"] for epoch in epochs]
    assert losses.index(min(losses)) == len(losses) - 1
    best = json.loads(run.result.read_text())["best"]
    assert best == {"epoch": len(epochs), "metric": "val/out_of_fold_loss", "value": pytest.approx(min(losses))}


def test_an_exact_head_tells_no_learning_rate_and_no_gradient_norm(train: Any) -> None:
    events = [event for event in read_records(train().events) if event["kind"] in ("step", "epoch")]
    assert {event["kind"] for event in events} == {"step", "epoch"}
    for event in events:
        assert not {"learning_rate", "gradient_norm"} & event.keys()


def test_no_row_of_val_has_a_part_in_the_head(train: Any) -> None:
    one, other = train(), train(data={"label": "other_val"})
    first, second = (pq.read_table(run.predictions)["prediction"].to_pylist() for run in (one, other))
    assert first == second
    assert [epoch["train"] for epoch in epochs_of(one)] == [epoch["train"] for epoch in epochs_of(other)]
    assert [epoch["val"]["accuracy"] for epoch in epochs_of(one)] != [
        epoch["val"]["accuracy"] for epoch in epochs_of(other)
    ]


@pytest.mark.parametrize(
    ("task", "values"),
    [
        ("multilabel", {"data": {"label": "several"}}),
        ("regression", {"data": {"label": "number"}, "train": {"loss": "huber"}}),
        ("classification", {"train": {"class_weights": "balanced", "label_smoothing": 0.1}}),
        ("classification", {"head": {"standardise": False}}),
        ("classification", {"train": {"solver": "exact", "weight_decay": 10.0}}),
        ("classification", {"data": {"split_column": "none", "split": {"train": 0.8, "val": 0.0, "test": 0.2}}}),
    ],
)
def test_each_task_has_an_exact_head(train: Any, task: str, values: Any) -> None:
    run = train(task, **values)
    assert load_spec(run.spec).train.solver == "exact"
    assert np.isfinite(json.loads(run.metrics.read_text())["test"]["loss"])
    assert epochs_of(run)


@pytest.mark.parametrize(
    "values",
    [
        {"train": {"epochs": 2}},
        {"train": {"learning_rate": 0.01, "epochs": 1}},
        {"train": {"optimizer": "sgd", "epochs": 1}},
        {"train": {"early_stopping": {"metric": "val/accuracy"}, "epochs": 1}},
        {"train": {"epochs": 1}, "head": {"layers": 2}},
        {"train": {"solver": "steps", "epochs": 1}},
    ],
)
def test_a_run_that_sets_a_key_of_the_steps_takes_steps(train: Any, values: Any) -> None:
    run = train(**values)
    assert load_spec(run.spec).train.solver == "steps"
    assert "penalty" not in epochs_of(run)[0]["train"]


def test_cross_validation_compares_penalties_and_trains_on_the_rows_of_val(train: Any) -> None:
    run = train(train={"val": "cv"})
    chosen = json.loads(run.metrics.read_text())["val"]["out_of_fold"]
    assert min(chosen["compared"], key=lambda one: one["value"])["weight_decay"] == chosen["weight_decay"]
    assert epochs_of(run)[-1]["train"]["penalty"] == chosen["weight_decay"]
    assert len(pq.read_table(run.out_of_fold)) == 120
    write_report(run.path)
    assert f"penalty ({chosen['weight_decay']:g})" in run.report.read_text()


def test_fine_tuning_starts_from_the_exact_head(train: Any) -> None:
    run = train(tuning={"method": "full"}, train={"epochs": 1, "start": "head"})
    head = json.loads(run.metrics.read_text())["head"]
    alone = json.loads(train().metrics.read_text())
    assert head["test"]["loss"] == pytest.approx(alone["test"]["loss"], rel=1e-5)


def test_the_report_says_which_penalty_was_chosen(train: Any) -> None:
    run = train()
    penalty = epochs_of(run)[-1]["train"]["penalty"]
    write_report(run.path)
    text = run.report.read_text()
    assert f"L2 penalty {penalty:g}" in text
    assert "weight decay auto" not in text


DRAWN = {"split_column": "none"}


def log_loss_at(penalty: float, scale: np.ndarray, learned: Labelled, scored: Labelled) -> float:
    """The log loss of scikit-learn's logistic regression on other rows, in the scale of the features `scale`."""
    fitted = LogisticRegression(C=1 / penalty, max_iter=10_000, tol=1e-9).fit(scaled(scale, learned[0])[1], learned[1])
    chances = fitted.predict_proba(scaled(scale, scored[0])[1])
    return float(-np.log(chances[np.arange(len(scored[1])), np.searchsorted(fitted.classes_, scored[1])]).mean())


def test_the_stored_head_is_fitted_to_val_too_and_val_is_scored_by_one_that_is_not(train: Any) -> None:
    run = train(data=DRAWN, train={"solver": "exact", "weight_decay": 1.0})  # so weak that the rows of val tell
    penalty = epochs_of(run)[-1]["train"]["penalty"]
    (x, y), (val, of_val), (test, truth) = (features_of(run, split) for split in ("train", "val", "test"))
    metrics = json.loads(run.metrics.read_text())

    both = np.concatenate([x, val]), np.concatenate([y, of_val])
    assert metrics["val"]["loss"] == pytest.approx(log_loss_at(penalty, x, (x, y), (val, of_val)), abs=1e-3)
    assert metrics["test"]["loss"] == pytest.approx(log_loss_at(penalty, x, both, (test, truth)), abs=1e-3)
    assert metrics["test"]["loss"] != pytest.approx(log_loss_at(penalty, x, (x, y), (test, truth)), abs=1e-3)
    assert any("fitted to train alone" in note for note in metrics["val"]["notes"])
    assert load_spec(run.spec).train.refit == "yes"


@pytest.mark.parametrize(
    "values",
    [
        {"data": {"split_column": "none", "split": {"train": 0.7, "val": 0.15, "test": 0.15}, "group": "site"}},
        {"data": DRAWN, "train": {"solver": "exact", "early_stopping": {"metric": "val/macro_f1"}}},
    ],
    ids=["no folds", "another metric"],
)
def test_the_stored_head_has_the_penalty_of_the_best_epoch(train: Any, values: Any) -> None:
    run = train(**values)
    best, epochs = json.loads(run.result.read_text())["best"]["epoch"], epochs_of(run)
    assert best < len(epochs), "the last penalty must not be the best one"
    assert load_spec(run.spec).train.refit == "yes"
    penalty = epochs[best - 1]["train"]["penalty"]
    (x, y), (val, of_val), (test, truth) = (features_of(run, split) for split in ("train", "val", "test"))
    metrics = json.loads(run.metrics.read_text())
    assert metrics["val"]["loss"] == pytest.approx(log_loss_at(penalty, x, (x, y), (val, of_val)), abs=1e-3)
    both = np.concatenate([x, val]), np.concatenate([y, of_val])
    assert metrics["test"]["loss"] == pytest.approx(log_loss_at(penalty, x, both, (test, truth)), abs=1e-3)


def youden(positive: np.ndarray, chances: np.ndarray) -> float:
    """Return the highest sensitivity + specificity - 1."""
    false, true, _ = roc_curve(positive, chances, drop_intermediate=False)
    return float((true - false).max())


def test_confidence_is_fitted_to_the_folds_of_train_and_to_val(train: Any) -> None:
    run = train(data=DRAWN, calibration={"method": "temperature"}, train={"seed": 1})
    (x, y), (val, of_val) = (features_of(run, split) for split in ("train", "val"))
    z, others = scaled(x, val)
    task = ClassificationTask(("a", "b", "c"))
    truth, seed = np.searchsorted(task.values, y), load_spec(run.spec).train.seed
    folds = draw_folds(truth, task, seed=seed)
    tried = PENALTIES[: len(epochs_of(run)) + 2]
    logits = np.zeros((len(tried), len(y), 3))
    for place, penalty in enumerate(tried):
        for fold in range(5):
            model = LogisticRegression(C=1 / penalty, max_iter=10_000, tol=1e-8).fit(z[folds != fold], y[folds != fold])
            logits[place, folds == fold] = model.decision_function(z[folds == fold])
    losses = -log_softmax(logits, axis=2)[:, np.arange(len(y)), truth]
    of_others = np.array([losses[:, folds != fold].mean(axis=1).argmin() for fold in range(5)])
    chosen = LogisticRegression(C=1 / epochs_of(run)[-1]["train"]["penalty"], max_iter=10_000, tol=1e-8).fit(z, y)
    held_out = np.concatenate([logits[of_others[folds], np.arange(len(y))], chosen.decision_function(others)])
    truth = np.concatenate([truth, np.searchsorted(task.values, of_val)])

    def loss(temperature: float) -> float:
        return float(-log_softmax(held_out / temperature, axis=1)[np.arange(len(truth)), truth].mean())

    expected = minimize_scalar(loss, bounds=(0.05, 20), method="bounded").x
    assert calibrator_of(run)["parameters"][0][0] == pytest.approx(expected, rel=0.01)
    assert json.loads(run.metrics.read_text())["val"]["out_of_fold_rows"] == len(y)
    assert "out_of_fold_rows" not in json.loads(train().metrics.read_text())["val"]
    chances = softmax(held_out / expected, axis=1)
    for point in json.loads(run.metrics.read_text())["val"]["operating_points"]:  # by Youden's rule
        positive, of_class = truth == point["class"], chances[:, point["class"]]
        assert point["n"] == len(truth)
        # Many probabilities lie within 1e-4 of one another, and two solvers rank those differently.
        moved = np.where(positive, 1e-4, -1e-4)
        least, most = (youden(positive, of_class + sign * moved) for sign in (-1, 1))
        assert least - 1e-9 <= point["sensitivity"] + point["specificity"] - 1 <= most + 1e-9


def calibrator_of(run: RunDirectory) -> dict[str, Any]:
    return json.loads(run.labels.read_text())["confidence"]["calibrator"]


def test_a_val_that_is_given_stays_out_of_training(train: Any) -> None:
    assert load_spec(train().spec).train.refit == "no"
    assert load_spec(train(data=DRAWN, train={"refit": "no"}).spec).train.refit == "no"


def test_a_head_that_fine_tuning_does_not_beat_is_the_one_of_a_partial_run(train: Any) -> None:
    tuned = train(data=DRAWN, tuning={"method": "full"}, train={"epochs": 1, "start": "head", "learning_rate": 1e-9})
    alone = train(data=DRAWN)
    metrics, expected = (json.loads(run.metrics.read_text()) for run in (tuned, alone))
    assert metrics["head"]["is_model"]
    assert metrics["val"]["out_of_fold_rows"] == expected["val"]["out_of_fold_rows"]
    for split in ("val", "test"):
        assert metrics[split]["loss"] == pytest.approx(expected[split]["loss"], rel=1e-4)
        assert metrics["head"][split]["loss"] == metrics[split]["loss"]


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
def test_a_run_that_is_killed_and_resumed_ends_with_the_same_bits(folder: Path, share: float) -> None:
    alone, killed = (new_run_directory(folder, name) for name in ("alone", "killed"))
    spec = make_spec(folder, data=DRAWN, train={"checkpoint_every": "1 steps"})
    for run in (alone, killed):
        write_text(run.spec, dump_spec(spec))
    finish(alone)
    assert killed_after(int(share * log_lines(alone)), 0, killed)
    same_outcome(alone, finish(killed))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tuning": {"method": "full"}}, "the backbone learns"),
        ({"head": {"layers": 2}}, "it has two layers"),
        ({"head": {"dropout": 0.1}}, "head.dropout is random"),
        ({"train": {"augmentation": "light"}}, "train.augmentation is random"),
    ],
)
def test_what_has_no_exact_minimum_is_refused(folder: Path, values: Any, said: str) -> None:
    values = {**values, "train": {**values.get("train", {}), "solver": "exact"}}
    with pytest.raises(SpecError, match=said):
        make_spec(folder, **values)

"""The exact minimum of a linear layer, against scikit-learn's ridge and logistic regression on the same features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from deeptune.engine.exact_head import cross_validated_penalties
from deeptune.engine.linear_minimum import LinearLoss, Minimum
from deeptune.engine.loss import BATCH_SUMS, Criterion
from deeptune.spec.defaults import PENALTIES

CLASSES = 3


def made(rows: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of very different scales, classes and numbers that depend on them with noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, width)) * np.logspace(0, -1.5, width) + rng.normal(size=width)
    scores = (features - features.mean(axis=0)) @ rng.normal(size=(width, CLASSES)) + 2 * rng.normal(
        size=(rows, CLASSES)
    )
    numbers = features @ rng.normal(size=width) + rng.normal(size=rows)
    return features, scores.argmax(axis=1), numbers


def minimum(
    features: np.ndarray, targets: np.ndarray, criterion: Criterion, outputs: int, *, penalties: list[float]
) -> Minimum:
    found = Minimum(LinearLoss(torch.from_numpy(features), torch.from_numpy(targets), criterion, outputs))
    for penalty in penalties:
        found.solve(penalty)
    return found


@pytest.mark.parametrize("shape", [(60, 100), (200, 20)])
@pytest.mark.parametrize("penalty", [0.3, 30.0])
def test_cross_entropy_is_logistic_regression(shape: tuple[int, int], penalty: float) -> None:
    features, classes, _ = made(*shape)
    weight, bias = minimum(features, classes, Criterion("cross_entropy"), CLASSES, penalties=[100.0, penalty]).layer()
    theirs = LogisticRegression(C=1 / penalty, max_iter=10_000, tol=1e-9).fit(features, classes)
    chances = torch.softmax(torch.from_numpy(features) @ weight.t() + bias, dim=1).numpy()
    assert np.abs(chances - theirs.predict_proba(features)).max() < 2e-4


@pytest.mark.parametrize("shape", [(60, 100), (200, 20)])
@pytest.mark.parametrize("penalty", [0.1, 30.0])
def test_squared_error_is_ridge_regression(shape: tuple[int, int], penalty: float) -> None:
    features, _, numbers = made(*shape)
    weight, bias = minimum(features, numbers, Criterion("mse"), 1, penalties=[penalty]).layer()
    theirs = Ridge(alpha=penalty / 2).fit(features, numbers)
    assert np.allclose(weight.numpy()[0], theirs.coef_, atol=1e-7)
    assert float(bias) == pytest.approx(theirs.intercept_, abs=1e-7)


def test_a_missing_number_counts_for_nothing() -> None:
    features, _, numbers = made(80, 10)
    targets = np.stack([numbers, numbers[::-1]], axis=1)
    targets[::4, 1] = np.nan
    weight, bias = minimum(features, targets, Criterion("mse"), 2, penalties=[5.0]).layer()
    for column in range(2):
        known = np.isfinite(targets[:, column])
        theirs = Ridge(alpha=2.5).fit(features[known], targets[known, column])
        assert np.allclose(weight.numpy()[column], theirs.coef_, atol=1e-3)
        assert float(bias[column]) == pytest.approx(theirs.intercept_, abs=1e-3)


def test_class_weights_are_those_of_logistic_regression() -> None:
    features, classes, _ = made(150, 12)
    weights = {0: 3.0, 1: 1.0, 2: 0.2}
    criterion = Criterion("cross_entropy", torch.tensor(list(weights.values())))
    weight, bias = minimum(features, classes, criterion, CLASSES, penalties=[2.0]).layer()
    theirs = LogisticRegression(C=1 / 2.0, class_weight=weights, max_iter=10_000, tol=1e-9).fit(features, classes)
    chances = torch.softmax(torch.from_numpy(features) @ weight.t() + bias, dim=1).numpy()
    assert np.abs(chances - theirs.predict_proba(features)).max() < 2e-4


def test_labels_are_logistic_regressions_of_their_own() -> None:
    features, classes, _ = made(150, 12)
    targets = np.stack([classes == 0, classes != 2], axis=1).astype(np.float64)
    weight, bias = minimum(features, targets, Criterion("bce"), 2, penalties=[2.0]).layer()
    chances = torch.sigmoid(torch.from_numpy(features) @ weight.t() + bias).numpy()
    for label in range(2):
        theirs = LogisticRegression(C=1 / 2.0, max_iter=10_000, tol=1e-9).fit(features, targets[:, label])
        assert np.abs(chances[:, label] - theirs.predict_proba(features)[:, 1]).max() < 2e-4


@pytest.mark.parametrize("criterion", [Criterion("huber"), Criterion("cross_entropy", label_smoothing=0.1)])
def test_no_weights_near_the_minimum_are_better(criterion: Criterion) -> None:
    features, classes, numbers = made(100, 8)
    targets, outputs = (numbers, 1) if criterion.loss == "huber" else (classes, CLASSES)
    penalty = 1.0
    weight, bias = minimum(features, targets, criterion, outputs, penalties=[penalty]).layer()

    def objective(weight: torch.Tensor, bias: torch.Tensor) -> float:
        out = torch.from_numpy(features) @ weight.t() + bias
        return float(
            BATCH_SUMS[criterion.loss](criterion, out, torch.from_numpy(targets)) + penalty / 2 * (weight**2).sum()
        )

    torch.manual_seed(0)
    least = objective(weight, bias)
    for size in (1e-3, 1e-2, 0.1):
        for _ in range(20):
            there = objective(weight + size * torch.randn_like(weight), bias + size * torch.randn_like(bias))
            assert there > least - 1e-6


def test_the_penalty_of_numbers_is_the_one_of_cross_validated_ridge_regression() -> None:
    features, _, numbers = made(80, 60)
    codes = np.arange(80) % 5
    loss = LinearLoss(torch.from_numpy(features), torch.from_numpy(numbers), Criterion("mse"), 1)
    folds = cross_validated_penalties(loss, codes, list(PENALTIES))
    theirs = RidgeCV(
        alphas=[penalty / 2 for penalty in PENALTIES], cv=PredefinedSplit(codes), scoring="neg_mean_squared_error"
    ).fit(features, numbers)
    assert folds.penalties[folds.best] / 2 == pytest.approx(theirs.alpha_)
    assert folds.means[folds.best] == pytest.approx(-theirs.best_score_, rel=1e-6)


def test_the_penalty_of_classes_is_the_one_of_cross_validated_logistic_regression() -> None:
    features, classes, _ = made(90, 40)
    codes = np.arange(90) % 5
    loss = LinearLoss(torch.from_numpy(features), torch.from_numpy(classes), Criterion("cross_entropy"), CLASSES)
    folds = cross_validated_penalties(loss, codes, list(PENALTIES))
    search = GridSearchCV(
        LogisticRegression(max_iter=5000),
        {"C": [1 / penalty for penalty in PENALTIES[:9]]},
        scoring="neg_log_loss",
        cv=PredefinedSplit(codes),
    ).fit(features, classes)
    assert 1 / folds.penalties[folds.best] == pytest.approx(search.best_params_["C"])
    assert folds.means[folds.best] == pytest.approx(-search.best_score_, abs=1e-3)
    chances = torch.softmax(torch.from_numpy(folds.logits[folds.best]).double(), dim=1).numpy()
    assert log_loss(classes, chances) == pytest.approx(folds.means[folds.best], abs=1e-5)


def test_the_penalty_of_a_fold_is_chosen_by_the_others() -> None:
    features, classes, _ = made(90, 40)
    codes = np.arange(90) % 5
    loss = LinearLoss(torch.from_numpy(features), torch.from_numpy(classes), Criterion("cross_entropy"), CLASSES)
    folds = cross_validated_penalties(loss, codes, list(PENALTIES))
    nested = folds.nested()
    for fold in range(5):
        others = [other for other in range(5) if other != fold]
        place = folds.losses[:, others].mean(axis=1).argmin()  # folds are of one size
        assert np.array_equal(nested[codes == fold], folds.logits[place, codes == fold])

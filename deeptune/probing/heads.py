"""Heads of scikit-learn on frozen features, and their predictions of rows that they were not fitted to.

A head gives outputs in the terms of its task, as a model does: `Task.score` scores both.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import expit, logit

from deeptune.tasks import Task
from deeptune.tasks.base import TREES
from deeptune.tasks.row_losses import row_losses as losses_of_rows

RECIPE = 1  # raise it when a head gives other scores: stored ones are then made again
MIN_CHANCE = 1e-6  # least share of a class or label in a constant prediction, so that its log odds are finite
COMPONENTS = 64  # principal components that trees see: with a thousand features they take minutes, and score less


@dataclass(frozen=True)
class OutOfFold:
    """The out-of-fold outputs of a head (float64 (N, outputs)), fitted to the rows of the other folds.

    `penalty` is the strength of the penalty with the least loss over all folds, None for a head without one.
    """

    logits: np.ndarray
    penalty: float | None


class HeadKind(ABC):
    """A kind of head, at several strengths of its penalty."""

    name: Literal["linear", "trees"]
    penalties: tuple[float | None, ...] = (None,)

    @abstractmethod
    def prepared(self, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scale features (N, width) of training rows and of others by the training rows."""

    @abstractmethod
    def classifier(self, penalty: float | None) -> Any:
        """Return an estimator of classes with `predict_proba`."""


class LinearHead(HeadKind):
    """Logistic or ridge regression on features in the scale that a run's own head learns in."""

    name = "linear"
    # 1/C of logistic regression, alpha of ridge regression. Weaker ones take long, and were never best on real data.
    penalties = (1.0, 10.0, 100.0, 1e3, 1e4)

    def prepared(self, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = train.mean(axis=0, dtype=np.float64), train.var(axis=0, dtype=np.float64)
        # As `ScaledLinear.set_scale`: a feature that hardly varies in these rows is not blown up in others.
        scale = np.sqrt(variance + variance.mean()) + np.finfo(np.float64).tiny
        return (train - mean) / scale, (test - mean) / scale

    def classifier(self, penalty: float | None) -> Any:
        from sklearn.linear_model import LogisticRegression

        assert penalty is not None
        return LogisticRegression(C=1 / penalty, max_iter=100)


class BoostedTrees(HeadKind):
    """Gradient boosting on the first principal components: the classical reference that is not linear."""

    name = "trees"

    def prepared(self, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.decomposition import PCA

        components = PCA(min(COMPONENTS, *train.shape), svd_solver="randomized", random_state=0).fit(train)
        return components.transform(train), components.transform(test)

    def classifier(self, penalty: float | None) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(**TREES)


def out_of_fold(
    kind: HeadKind,
    features: np.ndarray,
    targets: np.ndarray,
    task: Task,
    folds: np.ndarray,
    check: Callable[[], None] = lambda: None,
) -> OutOfFold:
    """Predict each row by a head that was fitted to the other folds.

    features: float32 (N, width). targets: those of the task. folds: int64 (N,), at least two codes. The penalty for a
    fold is the one with the least loss on the other folds, so the rows of a fold don't choose what predicts them.
    `check` is called before each fold, and may raise.
    """
    found = np.zeros((len(kind.penalties), len(targets), task.outputs))
    for fold in np.unique(folds):
        check()
        here = folds == fold
        train, test = kind.prepared(features[~here], features[here])
        for at, penalty in enumerate(kind.penalties):
            found[at, here] = _predicted(kind, penalty, task, targets[~here], train, test)
    if len(kind.penalties) == 1:
        return OutOfFold(found[0], None)
    losses = np.stack([row_losses(task, logits, targets) for logits in found])
    chosen = np.zeros(len(targets), np.int64)
    for fold in np.unique(folds):
        chosen[folds == fold] = losses[:, folds != fold].mean(axis=1).argmin()
    best = int(losses.mean(axis=1).argmin())
    return OutOfFold(found[chosen, np.arange(len(targets))], kind.penalties[best])


def row_losses(task: Task, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the loss of each row (float64 (N,)) that the task is trained by: its log loss, or that of its numbers.

    A chance counts as MIN_CHANCE at least, as in the logits. Equal odds at two thresholds leave the class between
    them none, and one such row must not choose the penalty.
    """
    if task.info.view == "numbers":
        return losses_of_rows(task.info.default_loss, logits, task.model_targets(targets))
    if task.info.view == "labels":
        chance = np.where(targets > 0, expit(logits), expit(-logits))
        return -np.log(np.maximum(chance, MIN_CHANCE)).mean(axis=1)
    chances = task.comparable(logits)
    return -np.log(np.maximum(chances[np.arange(len(targets)), targets], MIN_CHANCE))


def _predicted(
    kind: HeadKind, penalty: float | None, task: Task, targets: np.ndarray, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Return the outputs (len(test), outputs) of a head that is fitted to `train` with its `targets`."""
    if task.info.view == "numbers":
        wanted = task.model_targets(targets).reshape(len(targets), -1)
        return np.stack(
            [_number(task.estimator(kind.name, penalty), column, train, test) for column in wanted.T], axis=1
        )
    if task.info.view == "labels":
        return np.stack([_log_odds(kind, penalty, column > 0, train, test) for column in targets.T], axis=1)
    if task.info.ordered:  # a classifier for each threshold (Frank & Hall 2001), whose odds are made to fall
        odds = [_log_odds(kind, penalty, targets > rank, train, test) for rank in range(task.outputs)]
        return np.minimum.accumulate(np.stack(odds, axis=1), axis=1)
    return _class_logits(kind, penalty, targets, task.outputs, train, test)


def _class_logits(
    kind: HeadKind, penalty: float | None, targets: np.ndarray, classes: int, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Log probabilities; a class without a training row has the least."""
    logits = np.full((len(test), classes), np.log(MIN_CHANCE))
    present = np.unique(targets)
    if len(present) == 1:
        logits[:, present] = 0.0
        return logits
    chances = _fitted(kind.classifier(penalty), train, targets).predict_proba(test)
    logits[:, present] = np.log(np.maximum(chances, MIN_CHANCE))
    return logits


def _log_odds(
    kind: HeadKind, penalty: float | None, positive: np.ndarray, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    share = positive.mean()
    if share in (0.0, 1.0):
        return np.full(len(test), logit(np.clip(share, MIN_CHANCE, 1 - MIN_CHANCE)))
    chances = _fitted(kind.classifier(penalty), train, positive).predict_proba(test)[:, 1]
    return logit(np.clip(chances, MIN_CHANCE, 1 - MIN_CHANCE))


def _number(estimator: Any, wanted: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    known = np.isfinite(wanted)
    if not known.any():
        return np.zeros(len(test))
    return _fitted(estimator, train[known], wanted[known].astype(np.float64)).predict(test)


def _fitted(estimator: Any, train: np.ndarray, wanted: np.ndarray) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a weak penalty that has not converged: another one is chosen then
        return estimator.fit(train, wanted)

"""Tasks, and rows held out that are drawn for them."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from deeptune.tasks.classification import ClassificationTask
from deeptune.tasks.confidence.held_out import HeldOut
from deeptune.tasks.count import CountTask
from deeptune.tasks.multilabel import MultiLabelTask
from deeptune.tasks.multitarget import MultiTargetTask
from deeptune.tasks.ordinal import OrdinalTask
from deeptune.tasks.regression import RegressionTask

CLASSES = ClassificationTask(("a", "b", "c", "d"))
TWO = ClassificationTask((False, True))
RANKS = OrdinalTask((0, 1, 2, 3))
LABELS = MultiLabelTask(tuple("abcde"), (0.5,) * 5)
NUMBER = RegressionTask(5.0, 2.0)
COUNT = CountTask(4.0, 3.0)
SEVERAL = MultiTargetTask(0.0, 1.0, ("a", "b"), (RegressionTask(5.0, 2.0), RegressionTask(0.0, 1.0)))


def classes(rows: int, seed: int) -> HeldOut:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, rows)
    logits = rng.normal(size=(rows, 4))
    logits[np.arange(rows), truth] += 1.2
    return HeldOut((3 * logits).astype(np.float32), truth, seed=seed)


def two(rows: int, seed: int) -> HeldOut:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, rows)
    return HeldOut((rng.normal(size=(rows, 2)) + truth[:, None] * [-0.7, 0.7]).astype(np.float32), truth, seed=seed)


def ranks(rows: int, seed: int) -> HeldOut:
    rng = np.random.default_rng(seed)
    score = rng.normal(size=rows) * 2
    truth = np.digitize(score + rng.normal(size=rows) * 1.5, [-2, 0, 2])
    return HeldOut((2 * np.stack([score + 2, score, score - 2], axis=1)).astype(np.float32), truth, seed=seed)


def labels(rows: int, seed: int) -> HeldOut:
    """Labels that occur together, some of them rare; a few rows have none."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(rows, 1))
    logits = 1.5 * rng.normal(size=(rows, 5)) + common + [1.0, 0.0, -0.5, -1.0, -2.0]
    return HeldOut((2 * logits).astype(np.float32), (rng.random((rows, 5)) < expit(logits)).astype(np.int8), seed=seed)


def numbers(rows: int, seed: int) -> HeldOut:
    """Errors that grow with the predicted number."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 1)).astype(np.float32)
    error = rng.standard_t(4, size=rows) * np.exp(logits[:, 0])
    return HeldOut(logits, NUMBER.numbers(logits) + error, seed=seed)


def counts(rows: int, seed: int) -> HeldOut:
    """Counts that vary more than those of a Poisson distribution, many of them 0."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 1)).astype(np.float32)
    rates = COUNT.numbers(logits)
    return HeldOut(logits, rng.poisson(rates * rng.gamma(3, 1 / 3, rows)).astype(np.float64), seed=seed)


def several(rows: int, seed: int) -> HeldOut:
    """Two numbers whose errors go together; a third of the second ones is missing."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 2)).astype(np.float32)
    shared = rng.standard_t(4, size=(rows, 1))
    truth = SEVERAL.numbers(logits) + (shared + rng.normal(size=(rows, 2))) * np.exp(logits)
    truth[rng.random(rows) < 1 / 3, 1] = np.nan
    return HeldOut(logits, truth, seed=seed)

"""The loss of each row: a function for each row of `LOSSES` (`spec.tasks`), by its name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy  # its parts are imported where they are first used


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Log loss of logits (N, C) against int64 class indices (N,)."""
    return scipy.special.logsumexp(logits, axis=1) - logits[np.arange(len(logits)), targets]


def bce(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the mean binary log loss over the labels, of logits (N, L) against targets (N, L) of 0 and 1."""
    return -np.where(targets > 0, scipy.special.log_expit(logits), scipy.special.log_expit(-logits)).mean(axis=1)


def cumulative_link(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Log loss of log odds (N, C - 1) that a row is at least of a class, against ranks (N,)."""
    ends = np.full((len(logits), 1), np.inf)
    bounds = np.concatenate([ends, logits, -ends], axis=1)
    rows = np.arange(len(logits))
    upper, lower = bounds[rows, targets], bounds[rows, targets + 1]
    # log(σ(u) - σ(l)) = log σ(u) + log σ(-l) + log(1 - exp(l - u)), without loss of digits
    apart = np.minimum(lower - upper, -1e-12)
    return -(scipy.special.log_expit(upper) + scipy.special.log_expit(-lower) + np.log(-np.expm1(apart)))


def mse(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the squared error of outputs (N, T) against standardised targets (N,) or (N, T).

    It is the mean over the targets that are known.
    """
    return _mean_of_known((logits - targets.reshape(logits.shape)) ** 2)


def huber(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return Huber's loss with delta 1, of outputs and targets as in `mse`."""
    return _mean_of_known(scipy.special.huber(1.0, logits - targets.reshape(logits.shape)))


def poisson(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the Poisson deviance of rates exp(logits) (N, 1) against counts (N,), both in units of the mean count."""
    wanted = targets.reshape(logits.shape)
    return 2 * (scipy.special.xlogy(wanted, wanted) - wanted * logits - wanted + np.exp(logits)).mean(axis=1)


def _mean_of_known(losses: np.ndarray) -> np.ndarray:
    """Return the mean over the targets of a row that are not NaN; a row has one at least."""
    known = ~np.isnan(losses)
    return np.where(known, losses, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)


# The loss of each row, of outputs (N, outputs) and targets.
ROW_LOSSES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cross_entropy": cross_entropy,
    "mse": mse,
    "huber": huber,
    "poisson": poisson,
    "bce": bce,
    "cumulative_link": cumulative_link,
}


def row_losses(loss: str, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the loss of each row, float64 (N,), of a model's outputs (N, outputs).

    `targets` are those of the loss (`Task.model_targets`). Class weights and label smoothing are left out.
    """
    return ROW_LOSSES[loss](logits.astype(np.float64), targets)

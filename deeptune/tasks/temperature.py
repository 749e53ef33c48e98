"""One temperature for a model's logits: how sure it is, without a change to what it predicts."""

from __future__ import annotations

import math

import numpy as np
import scipy  # its parts are imported where they are first used

from deeptune.spec.tasks import LOSSES
from deeptune.tasks.row_losses import row_losses
from deeptune.tasks.temperature_prior import Prior

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0  # where every row is right, the optimum is at 0


def fit_temperature(
    logits: np.ndarray,
    targets: np.ndarray,
    *,
    loss: str = "cross_entropy",
    weights: np.ndarray | None = None,
    prior: Prior | None = None,
) -> float:
    """Fit the temperature T that minimises the mean loss of `logits / T` (Guo et al. 2017).

    See https://arxiv.org/abs/1706.04599. `logits` are float (N, outputs) and finite, `targets` those of the loss
    (`row_losses`), and `weights` float (N,) weigh the rows. The loss is one that is `tempered`: cross entropy of
    classes, binary cross entropy of labels, or the cumulative link of ranks. Each is convex in 1 / T, so there is one
    optimum. It is looked for from MIN_TEMPERATURE to MAX_TEMPERATURE. With a `prior` T is the most probable one
    instead. Returns 1.0 where there are no rows.
    """
    if not LOSSES[loss].tempered:
        raise ValueError(f"outputs of the loss {loss!r} have no temperature")
    if len(logits) == 0:
        return 1.0
    wide = logits.astype(np.float64)
    found = scipy.optimize.minimize_scalar(
        lambda log: (
            tempered_loss(wide, targets, math.exp(log), loss=loss, weights=weights)
            + (0.0 if prior is None else prior.surprise(log) / len(wide))
        ),
        bounds=(math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(float(found.x))


def tempered_loss(
    logits: np.ndarray,
    targets: np.ndarray,
    temperature: float,
    *,
    loss: str = "cross_entropy",
    weights: np.ndarray | None = None,
) -> float:
    """Return the mean loss of `logits / temperature`, with rows weighed as in `fit_temperature`."""
    return float(np.average(row_losses(loss, logits / temperature, targets), weights=weights))

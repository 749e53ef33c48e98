"""Losses by name: the sum and its denominator apart, so that accumulated batches add up to the exact mean.

A new loss is a row of `LOSSES` (`spec.tasks`), and a function here (`BATCH_SUMS`) and in `tasks.row_losses`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from deeptune.spec.tasks import LOSSES

CERTAIN = 1e4  # log odds of what is certain
MAX_LOG_RATE = 30.0  # above it a rate grows linearly, so that a step too far has a gradient that leads back


@dataclass(frozen=True)
class Criterion:
    """A loss by its name. `class_weights` float32 (C,) on the device of the outputs, or None for equal weights."""

    loss: str
    class_weights: Tensor | None = None
    label_smoothing: float = 0.0

    def sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over the rows of a batch, in float32. Shapes and dtypes are those of the loss's function."""
        return BATCH_SUMS[self.loss](self, outputs.float(), targets)

    def count(self, targets: Tensor) -> Tensor:
        """Return the denominator of the mean: the number of rows, or the sum of their class weights."""
        if LOSSES[self.loss].of_classes and targets.is_floating_point():  # shares of classes
            return targets.sum() if self.class_weights is None else (targets @ self.class_weights).sum()
        if self.class_weights is not None:
            return self.class_weights[targets].sum()
        if targets.ndim > 1:
            return targets.isfinite().sum().float()  # a missing target counts for nothing
        return torch.full((), float(targets.numel()), device=targets.device)  # without waiting for a GPU

    def on_cpu(self) -> Criterion:
        """Return the same loss with its weights on the CPU."""
        weights = None if self.class_weights is None else self.class_weights.cpu()
        return Criterion(self.loss, weights, self.label_smoothing)


def cross_entropy(criterion: Criterion, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the sum of the log losses of logits (B, C), weighted by class; `count` has the denominator.

    Targets are int64 class indices (B,) or float32 shares of classes (B, C).
    """
    return F.cross_entropy(
        outputs, targets, weight=criterion.class_weights, label_smoothing=criterion.label_smoothing, reduction="sum"
    )


def mse(criterion: Criterion, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the squared error of outputs (B, T) against float32 standardised targets (B, T), or (B,) for one target.

    A target that is NaN counts for nothing.
    """
    return F.mse_loss(*_known(outputs, targets), reduction="sum")


def huber(criterion: Criterion, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return Huber's loss (1964) with delta 1, of outputs and targets as in `mse`."""
    return F.huber_loss(*_known(outputs, targets), reduction="sum")


def _known(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and targets without those that are missing; nothing is copied where there is one target."""
    if targets.ndim == 1:
        return outputs.squeeze(1), targets
    known = targets.isfinite()
    return outputs[known], targets[known]


def poisson(criterion: Criterion, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the Poisson deviance of rates exp(outputs) (B, 1) from float32 counts (B,), in units of the mean."""
    logarithms = outputs.reshape(targets.shape)
    bounded = logarithms.clamp(max=MAX_LOG_RATE)
    rates = bounded.exp() * (1 + logarithms - bounded)
    return 2 * (torch.xlogy(targets, targets) - targets * logarithms - targets + rates).sum()


def bce(criterion: Criterion, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return binary cross entropy of logits (B, L) against float32 targets (B, L) of 0 and 1.

    It is the sum over B × L.
    """
    return F.binary_cross_entropy_with_logits(outputs, targets, reduction="sum")


def cumulative_link(criterion: Criterion, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log likelihood of ranks (B,) int64, of log odds (B, C - 1) that fall from class to class.

    An output is the log odds of being at least of a class (the proportional odds model of McCullagh 1980,
    https://doi.org/10.1111/j.2517-6161.1980.tb01109.x).
    """
    ends = outputs.new_full((len(outputs), 1), CERTAIN)
    bounds = torch.cat([ends, outputs, -ends], dim=1)
    upper, lower = (bounds.gather(1, (targets + step)[:, None]) for step in (0, 1))
    # log(σ(u) − σ(l)) = log σ(u) + log σ(−l) + log(1 − exp(l − u)), without loss of digits
    apart = (lower - upper).clamp(max=-1e-6)
    return -(F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(apart))).sum()


# The sum over a batch, of outputs and targets.
BATCH_SUMS: dict[str, Callable[[Criterion, Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "mse": mse,
    "huber": huber,
    "poisson": poisson,
    "bce": bce,
    "cumulative_link": cumulative_link,
}

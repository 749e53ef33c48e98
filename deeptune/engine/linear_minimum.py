"""The minimum of a convex loss of a linear layer with an L2 penalty: ridge and logistic regression, and their kin.

The objective is `sum of losses + penalty / 2 × sum of squared weights`; the bias has no penalty. For cross entropy that
is scikit-learn's LogisticRegression with C = 1 / penalty, for squared errors its Ridge with alpha = penalty / 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from deeptune.engine.loss import BATCH_SUMS, Criterion
from deeptune.spec.tasks import LOSSES

MIN_SPREAD = 1e-12  # share of the largest eigenvalue below which an eigenvalue is rounding
_OPTIONS = {"maxiter": 1000, "maxfun": 2000, "maxcor": 20, "gtol": 1e-6}
EXACT, NEAR = 1e-11, 1e-5  # change of the mean loss in a pass, as a share, at which the search ends


class LinearLoss:
    """The loss of a linear layer on rows, in the directions in which these differ: features float64 (N, width).

    The penalised minimum lies in the span of the rows, so the search has no more directions than there are rows.
    """

    def __init__(self, features: Tensor, targets: Tensor, criterion: Criterion, outputs: int) -> None:
        weights = None if criterion.class_weights is None else criterion.class_weights.double()
        self.criterion = replace(criterion, class_weights=weights)
        self.outputs = outputs
        self.directions = _directions(features)  # (width, r)
        self.rows = features @ self.directions  # (N, r)
        self.targets = targets

    def at(self, rows: Tensor) -> LinearLoss:
        """Return the loss on some rows (int64 places), in the same directions."""
        part = object.__new__(LinearLoss)
        part.criterion, part.outputs, part.directions = self.criterion, self.outputs, self.directions
        part.rows, part.targets = self.rows[rows], self.targets[rows]
        return part

    def outputs_of(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Return outputs (N, outputs) of a layer with weight (outputs, r) and bias (outputs)."""
        return torch.addmm(bias, self.rows, weight.t())

    def sum(self, outputs: Tensor) -> Tensor:
        return BATCH_SUMS[self.criterion.loss](self.criterion, outputs, self.targets)  # in float64

    @property
    def count(self) -> float:
        """What the sum is divided by for a mean."""
        return float(self.criterion.count(self.targets))

    def mean(self, outputs: Tensor) -> float:
        return float(self.sum(outputs)) / max(self.count, 1e-12)

    @property
    def squared(self) -> bool:
        """Whether it is a sum of squares over all rows, whose minimum has a closed form."""
        return LOSSES[self.criterion.loss].squares and bool(self.targets.isfinite().all())


def _directions(features: Tensor) -> Tensor:
    """Return orthonormal directions (width, r) that span the rows."""
    count, width = features.shape
    gram = features @ features.t() if count < width else features.t() @ features
    values, vectors = torch.linalg.eigh(gram)
    kept = values > MIN_SPREAD * values[-1].clamp(min=1e-300)
    values, vectors = values[kept], vectors[:, kept]
    return (features.t() @ vectors) / values.sqrt() if count < width else vectors


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: a pass takes a millisecond, and on a busy machine threads wait longer for one another."""
    import scipy.optimize  # noqa: F401  # its BLAS must be there to be limited
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):  # of SciPy's BLAS
            yield
    finally:
        torch.set_num_threads(before)


class Minimum:
    """The minimum of a loss at one penalty after another, each found from the one before."""

    def __init__(self, loss: LinearLoss, tolerance: float = EXACT) -> None:
        self.loss, self.tolerance = loss, tolerance
        self.weight = torch.zeros(loss.outputs, loss.rows.shape[1], dtype=torch.float64)
        self.bias = torch.zeros(loss.outputs, dtype=torch.float64)
        self._squares = (loss.rows**2).sum(dim=0)

    def solve(self, penalty: float) -> None:
        """Find weight and bias at a penalty."""
        if self.loss.squared:
            self._solve_squares(penalty)
        else:
            self._search(penalty)

    @property
    def mean_loss(self) -> float:
        """The mean loss of the rows, without the penalty."""
        return self.loss.mean(self.loss.outputs_of(self.weight, self.bias))

    def layer(self) -> tuple[Tensor, Tensor]:
        """Weight (outputs, width) and bias of the layer."""
        return self.weight @ self.loss.directions.t(), self.bias

    def _solve_squares(self, penalty: float) -> None:
        mean, middle, gram, products = self._moments
        gram = gram.clone()
        # Without a penalty, directions that the rows do not span must not divide by zero.
        gram.diagonal().add_(max(penalty / 2, 1e-10 * float(gram.diagonal().max().clamp(min=1e-300))))
        self.weight = torch.cholesky_solve(products, torch.linalg.cholesky(gram)).t().contiguous()
        self.bias = middle - self.weight @ mean

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the means of rows and targets, and the products of the centred ones: the same at each penalty."""
        rows, wanted = self.loss.rows, self.loss.targets.reshape(len(self.loss.rows), -1)
        mean, middle = rows.mean(dim=0), wanted.mean(dim=0)
        centred = rows - mean
        return mean, middle, centred.t() @ centred, centred.t() @ (wanted - middle)

    def _search(self, penalty: float) -> None:
        from scipy.optimize import minimize

        loss, shape = self.loss, self.weight.shape
        count = max(loss.count, 1e-12)
        curvature = LOSSES[loss.criterion.loss].curvature  # sets the scale of the search, and not where it ends
        # In this scale the curvature is about the same in each direction, so the search takes few passes.
        scale = torch.cat([self._squares, torch.tensor([float(len(loss.rows))], dtype=torch.float64)])
        scale = (curvature * scale + penalty).clamp(min=1e-12).rsqrt()

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            scaled = torch.from_numpy(flat).reshape(shape[0], shape[1] + 1) * scale
            weight, bias = scaled[:, :-1], scaled[:, -1]
            outputs = loss.outputs_of(weight, bias).requires_grad_()
            value = loss.sum(outputs)
            (of_outputs,) = torch.autograd.grad(value, outputs)
            gradient = torch.empty_like(scaled)
            gradient[:, :-1] = of_outputs.t() @ loss.rows + penalty * weight
            gradient[:, -1] = of_outputs.sum(dim=0)
            whole = float(value.detach()) + penalty / 2 * float(weight.square().sum())
            return whole / count, (gradient * scale / count).reshape(-1).numpy()

        start = torch.cat([self.weight, self.bias[:, None]], dim=1) / scale
        options = {**_OPTIONS, "ftol": self.tolerance}
        found = minimize(objective, start.reshape(-1).numpy(), jac=True, method="L-BFGS-B", options=options)
        solved = torch.from_numpy(found.x).reshape(shape[0], shape[1] + 1) * scale
        self.weight, self.bias = solved[:, :-1].contiguous(), solved[:, -1].contiguous()

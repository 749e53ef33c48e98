"""The gradients of a head on stored features, by hand: with few operations, and the bits of autograd.

A step of such a head takes less time than what calls it: autograd's graph, a module for each layer, memory for each
result. So operations are called alone and in autograd's order, and write where the step before wrote.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from deeptune.engine.loss import Criterion
from deeptune.engine.optimizers import QuickAdam
from deeptune.model.head import Head, ScaledLinear

_aten = torch.ops.aten
_SUM = 2  # the reduction, as kernels number it
ALIGNED = 16  # numbers in the 64 bytes that PyTorch aligns the memory of a tensor to
NEAR = 0.98  # share of the limit of the norm: below it, a norm whose last digits differ is within the limit, too
MIN_LIMIT = 1e-3  # limit of the norm above which NEAR holds
MAX_QUICK_NORM = 1e15  # norm up to which its squares stay far from the end of float32

# The gradient before an activation, of that after it, what came in and what came out.
_BEFORE: dict[type[nn.Module], Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    nn.ReLU: lambda gradient, _before, after: _aten.threshold_backward.default(gradient, after, 0),
    nn.GELU: lambda gradient, before, _after: _aten.gelu_backward.default(gradient, before),
    nn.SiLU: lambda gradient, before, _after: _aten.silu_backward.default(gradient, before),
    nn.Tanh: lambda gradient, _before, after: _aten.tanh_backward.default(gradient, after),
}


class HeadSteps:
    """Finds the gradients of a head on the CPU, and shortens them.

    It is used without gradients of its own (`torch.no_grad`). `of` returns None for a head or an optimizer that it has
    no operations for.
    """

    def __init__(self, head: Head, criterion: Criterion) -> None:
        self.criterion = criterion
        self.hidden: ScaledLinear | None = None
        self.activation: nn.Module = head.embedding
        if isinstance(head.embedding, nn.Sequential):
            self.hidden, self.activation = head.embedding  # type: ignore[assignment]
        self.last, self.dropout = head.last_layer, head.dropout.p
        self.parameters = list(head.parameters())
        # All gradients in one tensor, with zeros between them: each begins where a tensor of its own would, as the bits
        # of a product depend on that on some CPUs.
        rooms = [-(-one.numel() // ALIGNED) * ALIGNED for one in self.parameters]
        self.flat = torch.zeros(sum(rooms))
        parts = torch.split(self.flat, rooms)
        self.gradients = [part[: one.numel()].view_as(one) for part, one in zip(parts, self.parameters, strict=True)]
        self.shares: dict[int, Tensor] = {}  # of a row in the mean, by the number of rows
        self.layers: dict[nn.Module, Scaled] = {
            layer: Scaled(layer, *self.gradients_of(layer))
            for layer in (self.hidden, self.last)
            if isinstance(layer, ScaledLinear)
        }
        self.norms = torch.empty(len(self.parameters))
        self.known_norm: float | None = None
        self.shortened = False  # in the step before, and so most likely in this one

    @classmethod
    def of(cls, head: Head, criterion: Criterion, adam: QuickAdam | None) -> HeadSteps | None:
        """Return the steps of a head; None where they are not known by hand."""
        layers = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
        two = isinstance(head.embedding, nn.Sequential)
        known = all(type(layer) in (nn.Linear, ScaledLinear) for layer in layers) and (two or not head.dropout.p)
        learns = all(one.requires_grad for one in head.parameters())
        if adam is None or not (known and learns):
            return None
        ours = {id(one) for one in head.parameters()}
        theirs = {id(one) for group in adam.optimizer.param_groups for one in group["params"]}
        return cls(head, criterion) if ours == theirs else None

    def gradients_of(self, layer: nn.Module) -> tuple[Tensor, Tensor]:
        """Return where the gradients of a layer's weight and bias are."""
        by_parameter = dict(zip(map(id, self.parameters), self.gradients, strict=True))
        return by_parameter[id(layer.weight)], by_parameter[id(layer.bias)]

    def find(self, features: Tensor, targets: Tensor) -> tuple[float, float]:
        """Find the gradients of the mean loss of a batch; returns the sum of losses, and what that is divided by."""
        self.known_norm = None
        hidden, last, drop = self.hidden, self.last, None
        before = after = dropped = features
        if hidden is not None:
            before = self.layers[hidden].outputs(features)
            after = dropped = self.activation(before)
            if self.dropout:
                drop = torch.empty_like(after).bernoulli_(1 - self.dropout).div_(1 - self.dropout)
                dropped = after * drop
        scaled = self.layers.get(last)
        outputs = torch.addmm(last.bias, dropped, last.weight.t()) if scaled is None else scaled.outputs(dropped)
        loss, count, gradient = self._loss(outputs, targets)
        if scaled is not None:
            scaled.find(dropped, gradient)
            return loss, count
        of_weight, of_bias = self.gradients_of(last)
        torch.sum(gradient, 0, out=of_bias)
        torch.mm(gradient.t(), dropped, out=of_weight)
        assert hidden is not None
        gradient = gradient.mm(last.weight)
        if drop is not None:
            gradient.mul_(drop)
        self.layers[hidden].find(features, _BEFORE[type(self.activation)](gradient, before, after))
        return loss, count

    def _loss(self, outputs: Tensor, targets: Tensor) -> tuple[float, float, Tensor]:
        """Return the sum of the losses, what it is divided by, and the gradient of their mean by the outputs."""
        criterion, rows = self.criterion, len(targets)
        kernel = None if criterion.class_weights is not None or criterion.label_smoothing else criterion.loss
        if kernel == "bce":
            count = criterion.count(targets)
            gradient = outputs.sigmoid().sub_(targets).mul_(torch.ones(()) / count)
            return criterion.sum(outputs, targets).item(), count.item(), gradient
        if targets.ndim != 1 or kernel not in ("cross_entropy", "mse"):
            return self._loss_by_autograd(outputs, targets)
        share = self.shares.get(rows)
        if share is None:
            share = self.shares[rows] = torch.ones(()) / criterion.count(targets)
        if kernel == "mse":
            found = outputs.squeeze(1)
            loss = _aten.mse_loss.default(found, targets, _SUM)
            return loss.item(), rows, _aten.mse_loss_backward.default(share, found, targets, _SUM).unsqueeze(1)
        logs = torch.log_softmax(outputs, 1)
        loss, total = _aten.nll_loss_forward.default(logs, targets, None, _SUM, -100)
        gradient = _aten.nll_loss_backward.default(share, logs, targets, None, _SUM, -100, total)
        return loss.item(), rows, _aten._log_softmax_backward_data.default(gradient, logs, 1, torch.float32)

    def _loss_by_autograd(self, outputs: Tensor, targets: Tensor) -> tuple[float, float, Tensor]:
        with torch.enable_grad():
            loss = self.criterion.sum(outputs.requires_grad_(), targets)
        count = self.criterion.count(targets)
        (gradient,) = torch.autograd.grad(loss, outputs, torch.ones(()) / count)
        return loss.item(), count.item(), gradient

    def shorten(self, limit: float) -> float:
        """Shorten the gradients to a norm, if it is not 0. Returns the norm before, whose last digits may differ."""
        if not self.shortened:
            quick: float = torch.linalg.vector_norm(self.flat).item()
            if quick < MAX_QUICK_NORM and (not limit or (limit > MIN_LIMIT and quick < NEAR * limit)):
                return quick
        norm = self.norm()
        self.shortened = bool(limit) and norm >= 0.99 * limit - 1e-6
        if self.shortened:
            # In float32, and in the order of `limit / (norm + 1e-6)` of tensors, which is by a reciprocal.
            one, more = np.float32(1), np.float32(1e-6)
            self.flat.mul_(float(min(one / (np.float32(norm) + more) * np.float32(limit), one)))
        return norm

    def norm(self) -> float:
        """Return the norm of the gradients as they were found last."""
        if self.known_norm is None:
            for gradient, norm in zip(self.gradients, self.norms.unbind(), strict=True):
                torch.linalg.vector_norm(gradient, out=norm)
            self.known_norm = torch.linalg.vector_norm(self.norms).item()
        return self.known_norm

    def hand_over(self) -> None:
        """Make the gradients those that an optimizer looks for."""
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient


class Scaled:
    """A scaled layer whose outputs and gradients are written to the same memory in each step."""

    def __init__(self, layer: ScaledLinear, of_weight: Tensor, of_bias: Tensor) -> None:
        self.layer, self.of_weight, self.of_bias = layer, of_weight, of_bias
        self.folded, self.shifts = torch.empty_like(of_weight), torch.empty_like(of_weight)

    def outputs(self, features: Tensor) -> Tensor:
        """Return what the layer gives of features (B, in_features), as `ScaledLinear.forward` does."""
        layer = self.layer
        folded = torch.div(layer.weight, layer.scale, out=self.folded)
        bias = layer.bias - torch.mul(folded, layer.shift, out=self.shifts).sum(1)
        return torch.addmm(bias, features, folded.t())

    def find(self, features: Tensor, gradient: Tensor) -> None:
        """Find the gradients of the parameters, of that of the outputs, as `ScaledLinear.add_gradients` does."""
        layer, of_weight = self.layer, self.of_weight
        torch.sum(gradient, 0, out=self.of_bias)
        torch.mm(gradient.t(), features, out=of_weight)
        torch.mul(self.of_bias[:, None], layer.shift, out=self.shifts)
        of_weight.sub_(self.shifts).div_(layer.scale)

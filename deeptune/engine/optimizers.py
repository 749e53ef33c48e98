"""Optimizer, learning rate schedule and loss of a run, from its spec."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeptune.spec.model import TrainSpec
from deeptune.spec.optimizers import OPTIMIZERS


def make_optimizer(model: nn.Module, train: TrainSpec) -> torch.optim.Optimizer:
    """Build the optimizer over every parameter that learns, in groups by learning rate and weight decay.

    Biases, norms and other vectors are not decayed. It is fused where PyTorch has such a kernel. `train` must be
    resolved (no `"auto"`).
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    devices = set()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = float(train.head_learning_rate if name.startswith("head.") else train.learning_rate)
        decay = float(train.weight_decay) if parameter.ndim >= 2 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
        devices.add(parameter.device.type)
    row = OPTIMIZERS[train.optimizer]
    options = dict(row.options)
    if row.fused and devices <= {"cpu", "cuda"}:
        options["fused"] = True
    optimizer: torch.optim.Optimizer = getattr(torch.optim, row.torch_class)(
        [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()],
        lr=float(train.learning_rate),
        **options,
    )
    return optimizer


def schedule_factor(step: int, *, steps: int, warmup: float, schedule: str) -> float:
    """Return the share of the peak learning rate at optimizer step `step` (from 0).

    It rises linearly during warmup, then follows the schedule to 0.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    progress = (step - rising) / max(1, steps - rising)
    return 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1 - progress


def make_schedule(optimizer: torch.optim.Optimizer, train: TrainSpec, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Build the learning rate schedule over `steps` optimizer steps, to be stepped after each of them."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: schedule_factor(min(step, steps - 1), steps=steps, warmup=train.warmup, schedule=train.schedule),
    )


class Criterion:
    """The loss as a sum and its denominator apart, so that accumulated batches add up to the exact mean.

    Classification: cross entropy of logits (B, C) against int64 class indices (B,), weighted by class.
    Regression: MSE or Huber (delta 1) of outputs (B, 1) against float32 standardised targets (B,).
    """

    def __init__(self, loss: str, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        self.loss = loss
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing

    def sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs = outputs.float()
        if self.loss == "cross_entropy":
            return F.cross_entropy(
                outputs, targets, weight=self.class_weights, label_smoothing=self.label_smoothing, reduction="sum"
            )
        measure = F.mse_loss if self.loss == "mse" else F.huber_loss
        return measure(outputs.squeeze(1), targets, reduction="sum")

    def count(self, targets: Tensor) -> Tensor:
        """What `sum` is divided by for a mean: the rows, or the sum of their class weights."""
        if self.class_weights is not None:
            return self.class_weights[targets].sum()
        return torch.tensor(float(targets.numel()), device=targets.device)

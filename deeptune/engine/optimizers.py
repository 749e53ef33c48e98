"""Optimizer and learning rate schedule of a run, from its spec."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from deeptune.spec.optimizers import OPTIMIZERS
from deeptune.spec.run_spec import TrainSpec


def make_optimizer(model: nn.Module, train: TrainSpec) -> torch.optim.Optimizer:
    """Build the optimizer over every parameter that learns, in groups by learning rate and weight decay.

    The rates of a backbone's blocks fall towards its input by `train.layer_decay`. Biases, norms and other vectors are
    not decayed. It is fused where PyTorch has such a kernel. `train` must be
    resolved (no `"auto"`).
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    devices = set()
    shares = layer_shares(model, train.layer_decay)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = float(train.head_learning_rate if name.startswith("head.") else train.learning_rate)
        rate *= shares.get(name, 1.0)
        # Where the penalty is found without steps, it may still be open.
        decay = float(train.weight_decay) if parameter.ndim >= 2 and train.solver != "exact" else 0.0
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


class QuickAdam:
    """Takes the steps of a fused Adam or AdamW on the CPU by its kernel alone, to the same bits.

    PyTorch's own step looks at every state and option anew, which takes longer than a small step. The first step is
    PyTorch's, as it makes the states.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.kernel = torch._fused_adamw_ if isinstance(optimizer, torch.optim.AdamW) else torch._fused_adam_
        self._states: list[tuple[list[Tensor], ...]] = []
        self._steps: list[Tensor] = []

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> QuickAdam | None:
        """Return the quick form of an optimizer, or None for another kind or another device."""
        groups = optimizer.param_groups
        plain = isinstance(optimizer, torch.optim.Adam) and all(
            group["fused"] and not group["amsgrad"] and not group["maximize"] for group in groups
        )
        parameters = [parameter for group in groups for parameter in group["params"]]
        kinds = {(parameter.device.type, parameter.dtype) for parameter in parameters}
        return cls(optimizer) if plain and kinds == {("cpu", torch.float32)} else None

    @torch.no_grad()
    def step(self) -> None:
        """Take a step; every parameter has a gradient."""
        if not self._states:
            self.optimizer.step()
            self._states = [self._state(group["params"]) for group in self.optimizer.param_groups]
            self._steps = [step for state in self._states for step in state[-1]]
            return
        torch._foreach_add_(self._steps, 1)
        for group, (parameters, means, squares, steps) in zip(self.optimizer.param_groups, self._states, strict=True):
            beta1, beta2 = group["betas"]
            self.kernel(
                parameters,
                [parameter.grad for parameter in parameters],  # type: ignore[misc]
                means,
                squares,
                [],
                steps,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    def forget(self) -> None:
        """Look the states up again, as others were loaded."""
        self._states = []

    def _state(self, parameters: list[Any]) -> tuple[list[Tensor], ...]:
        states = [self.optimizer.state[parameter] for parameter in parameters]
        return (parameters, *([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step")))


def layer_shares(model: nn.Module, decay: float) -> dict[str, float]:
    """Return each backbone parameter's share of the learning rate: `decay` for each block that comes after its own.

    What stands before the first block has one more, and what follows a block goes with it (the rates by layer of
    Clark et al. 2020, https://arxiv.org/abs/2003.10555, and Bao et al. 2022, https://arxiv.org/abs/2106.08254).
    Without a backbone whose blocks are known, and for a decay of 1, it is empty.
    """
    backbone = getattr(model, "backbone", None)
    if decay == 1 or backbone is None:
        return {}
    blocks = backbone.blocks()
    depths: dict[str, int] = {}
    depth = 0
    for name, _ in backbone.net.named_parameters():
        while depth < len(blocks) and name.startswith(f"{blocks[depth]}."):
            depth += 1
        depths[f"backbone.net.{name}"] = depth
    return {name: decay ** (len(blocks) - depth) for name, depth in depths.items()}


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


class Schedule:
    """Sets the learning rates of an optimizer before the first step, and after each by `step`.

    The rates are those of PyTorch's `LambdaLR`, which takes longer to set them than a small step takes.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, factor: Callable[[int], float]) -> None:
        self.optimizer, self.factor = optimizer, factor
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self.last_epoch = -1  # the number of steps, by PyTorch's name
        self.step()

    def step(self) -> None:
        """Count a step, and set the rates of the next one."""
        self.last_epoch += 1
        share = self.factor(self.last_epoch)
        for group, rate in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = rate * share

    def get_last_lr(self) -> list[float]:
        """Return the rates of the next step."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs, under the names of `LambdaLR`."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on a stored schedule; the optimizer's own state has the rates."""
        self.base_lrs, self.last_epoch = list(state["base_lrs"]), state["last_epoch"]


def make_schedule(optimizer: torch.optim.Optimizer, train: TrainSpec, steps: int) -> Schedule:
    """Build the learning rate schedule over `steps` optimizer steps, to be stepped after each of them."""
    return Schedule(
        optimizer,
        lambda step: schedule_factor(min(step, steps - 1), steps=steps, warmup=train.warmup, schedule=train.schedule),
    )

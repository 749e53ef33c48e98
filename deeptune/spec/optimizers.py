"""The optimizers that a spec can name, one row each. Nothing here imports torch; `engine.optimizers` builds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal


@dataclass(frozen=True)
class OptimizerInfo:
    """An optimizer of `torch.optim`: its class by name, and the arguments that DeepTune passes besides rate and decay.

    `state_bytes` is what it keeps for each parameter that learns, in fp32. `fused` says whether PyTorch has one kernel
    for all parameters, on CPU and CUDA. `skips_on_device` says whether that kernel can be asked on the device to leave
    all as it is: fused Adam can, while fused SGD would start its momentum with such a step.
    """

    name: str
    title: str
    description: str
    torch_class: str
    state_bytes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    fused: bool = False
    skips_on_device: bool = False


_ROWS = (
    OptimizerInfo(
        "adamw", "AdamW", "Adam with decoupled weight decay", "AdamW", 8, fused=True, skips_on_device=True
    ),
    OptimizerInfo(
        "adam", "Adam", "weight decay is an L2 penalty", "Adam", 8, fused=True, skips_on_device=True
    ),
    OptimizerInfo(
        "sgd", "SGD", "with Nesterov momentum of 0.9", "SGD", 4,
        options={"momentum": 0.9, "nesterov": True}, fused=True,
    ),
    OptimizerInfo("radam", "RAdam", "Adam that rectifies its first steps", "RAdam", 8),
    OptimizerInfo("nadam", "NAdam", "Adam with Nesterov momentum", "NAdam", 8),
    OptimizerInfo("adamax", "Adamax", "Adam that scales by the largest recent gradient", "Adamax", 8),
    OptimizerInfo("rmsprop", "RMSprop", "scales by recent squared gradients", "RMSprop", 4),
    OptimizerInfo("adafactor", "Adafactor", "keeps almost no state, for little memory", "Adafactor", 0),
)  # fmt: skip

OPTIMIZERS: dict[str, OptimizerInfo] = {row.name: row for row in _ROWS}

if TYPE_CHECKING:
    OptimizerName = str
else:
    OptimizerName = Literal[tuple(OPTIMIZERS)]


def optimizers_text() -> str:
    """Name and description of every row, in one line."""
    return "; ".join(f"`{row.name}`: {row.description}" for row in OPTIMIZERS.values())

"""The state of training besides the model's weights, as tensors and JSON: stored and loaded without any loss."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Values = dict[str, Any]
Tensors = dict[str, Tensor]


@dataclass
class TrainState:
    """The state that training needs to continue exactly, besides the weights that the model stores itself.

    The names of the tensors, and the keys of the values, are those of `training.safetensors` and of `training` in the
    manifest of `checkpoints/last`.
    """

    tensors: Tensors
    values: Values


def optimizer_state_dict(optimizer: torch.optim.Optimizer) -> TrainState:
    """Return the state of an optimizer: tensors `optimizer.INDEX.NAME` on the CPU, and the values of other types."""
    state = optimizer.state_dict()
    tensors, values = {}, {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            key = f"optimizer.{index}.{name}"
            if isinstance(value, Tensor):
                tensors[key] = value.detach().cpu().contiguous().clone()
            else:
                values[key] = value
    return TrainState(tensors, {"state": values, "groups": state["param_groups"]})


def load_optimizer_state_dict(optimizer: torch.optim.Optimizer, stored: TrainState) -> None:
    """Load what `optimizer_state_dict` gave; other tensors are passed over."""
    state: dict[int, dict[str, Any]] = {}
    tensors = {key: value for key, value in stored.tensors.items() if key.startswith("optimizer.")}
    for key, value in (tensors | stored.values["state"]).items():
        _, index, name = key.split(".", 2)
        state.setdefault(int(index), {})[name] = value
    groups = [
        {name: tuple(value) if isinstance(value, list) and name != "params" else value for name, value in group.items()}
        for group in stored.values["groups"]
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # Fused kernels need the layout of the parameter.
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def rng_state_dict() -> TrainState:
    """Return the state of every random number generator that training may draw from."""
    version, words, gauss = random.getstate()
    numpy: Any = np.random.get_state(legacy=False)
    tensors = {
        "generator.python": torch.tensor(words, dtype=torch.int64),
        "generator.numpy": torch.from_numpy(numpy["state"]["key"].astype(np.int64)),
        "generator.torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        tensors |= {f"generator.cuda.{number}": state for number, state in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        tensors["generator.mps"] = torch.mps.get_rng_state()
    values = {
        "python": {"version": version, "gauss": gauss},
        "numpy": {
            "pos": int(numpy["state"]["pos"]),
            "has_gauss": int(numpy["has_gauss"]),
            "gauss": float(numpy["gauss"]),
        },
    }
    return TrainState(tensors, values)


def load_rng_state_dict(stored: TrainState) -> None:
    """Load the state of the generators that this machine has; other tensors are passed over."""
    tensors, python, numpy = stored.tensors, stored.values["python"], stored.values["numpy"]
    random.setstate((python["version"], tuple(tensors["generator.python"].tolist()), python["gauss"]))
    key = tensors["generator.numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, numpy["pos"], numpy["has_gauss"], numpy["gauss"]))
    torch.set_rng_state(tensors["generator.torch"])
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            if (state := tensors.get(f"generator.cuda.{number}")) is not None:
                torch.cuda.set_rng_state(state, number)
    if torch.backends.mps.is_available() and "generator.mps" in tensors:
        torch.mps.set_rng_state(tensors["generator.mps"])


@contextmanager
def rng_state_kept() -> Iterator[None]:
    """Leave the random number generators after the block as they were before it."""
    before = rng_state_dict()
    try:
        yield
    finally:
        load_rng_state_dict(before)

"""Everything but the weights that decides how training goes on, as tensors and JSON, taken and put back exactly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

Values = dict[str, Any]
Tensors = dict[str, Tensor]


def take_optimizer(optimizer: torch.optim.Optimizer) -> tuple[Tensors, Values]:
    state = optimizer.state_dict()
    tensors, values = {}, {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            key = f"optimizer.{index}.{name}"
            if isinstance(value, Tensor):
                tensors[key] = value.detach().cpu().contiguous().clone()
            else:
                values[key] = value
    return tensors, {"state": values, "groups": state["param_groups"]}


def put_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors, values: Values) -> None:
    state: dict[int, dict[str, Any]] = {}
    found = {key: value for key, value in tensors.items() if key.startswith("optimizer.")} | values["state"]
    for key, value in found.items():
        _, index, name = key.split(".", 2)
        state.setdefault(int(index), {})[name] = value
    groups = [
        {name: tuple(value) if isinstance(value, list) and name != "params" else value for name, value in group.items()}
        for group in values["groups"]
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if (
                isinstance(value, Tensor) and value.shape == parameter.shape
            ):  # fused kernels need the parameter's layout
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def take_generators() -> tuple[Tensors, Values]:
    """The state of every random number generator that training may draw from."""
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
    return tensors, values


def put_generators(tensors: Tensors, values: Values) -> None:
    """Put back what this machine has generators for."""
    python, numpy = values["python"], values["numpy"]
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
def generators_left_alone() -> Iterator[None]:
    """What happens in the block draws no number that training would have drawn."""
    before = take_generators()
    try:
        yield
    finally:
        put_generators(*before)

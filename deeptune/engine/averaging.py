"""Averages of the weights that learn, which are scored and stored in their place: over steps, or over epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from deeptune.engine.train_state import TrainState
from deeptune.spec.defaults import soup_size
from deeptune.spec.run_spec import TrainSpec

DECAY = 0.98  # largest decay of the average: it is over about the last 50 steps


class WeightAverage:
    """The exponential moving average of some tensors, over the steps of an optimizer.

    The share of the past rises with the steps (1 + t) / (10 + t), up to `decay`, so that a short training does not
    keep the weights that it started from.
    """

    def __init__(self, tensors: list[Tensor], decay: float = DECAY) -> None:
        self.tensors, self.decay = tensors, decay
        self.average = [tensor.detach().clone() for tensor in tensors]
        self.steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the tensors as they are after a step."""
        self.steps += 1
        kept = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.average, self.tensors, 1 - kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average into the tensors for a block; after it they are what they were, bit for bit."""
        with torch.no_grad():
            before = [tensor.detach().clone() for tensor in self.tensors]
            torch._foreach_copy_(self.tensors, self.average)
            try:
                yield
            finally:
                torch._foreach_copy_(self.tensors, before)

    def state_dict(self) -> TrainState:
        """Return the average, as tensors `average.INDEX`, and how many steps it holds."""
        # Contiguous, as files hold no other layout; loading gives back that of channels last.
        tensors = {f"average.{index}": tensor.cpu().contiguous().clone() for index, tensor in enumerate(self.average)}
        return TrainState(tensors, {"average": self.steps})

    def load_state_dict(self, state: TrainState) -> None:
        """Continue from what `state_dict` gave; other tensors are passed over."""
        self.steps = state.values["average"]
        for index, tensor in enumerate(self.average):
            tensor.copy_(state.tensors[f"average.{index}"])


@dataclass(frozen=True)
class Ingredient:
    """The weights after an epoch, on the CPU, and the value that val gave them alone."""

    epoch: int
    value: float
    weights: list[Tensor]


class Soup:
    """The mean of the weights of the best `size` epochs so far.

    This is a uniform soup (Wortsman et al. 2022, https://arxiv.org/abs/2203.05482) of epochs in place of trainings.
    `better` compares two values on val. All is on the CPU, so it takes no memory of the device.
    """

    def __init__(self, tensors: list[Tensor], better: Callable[[float, float], bool], size: int) -> None:
        self.tensors, self.better, self.size = tensors, better, size
        self.best: list[Ingredient] = []  # the best one first

    @classmethod
    def of(cls, train: TrainSpec, tensors: list[Tensor], better: Callable[[float, float], bool]) -> Soup:
        """Return the soup of a training that is resolved."""
        return cls(tensors, better, soup_size(int(train.epochs)))

    @property
    def epochs(self) -> list[int]:
        """The epochs in the mean, in the order in which they were trained."""
        return sorted(one.epoch for one in self.best)

    @property
    def worst(self) -> float:
        """The value of the epoch in the mean that is the worst alone."""
        return self.best[-1].value

    def offer(self, epoch: int, value: float) -> bool:
        """Take the weights as they are after an epoch into the mean, if only few epochs are better.

        Returns whether they are in it, beside those of other epochs. An epoch that is offered again takes its place.
        """
        self.best = [one for one in self.best if one.epoch != epoch]
        place = sum(not self.better(value, one.value) for one in self.best)
        if place >= self.size:
            return False
        self.best.insert(place, Ingredient(epoch, value, _on_cpu(self.tensors)))
        del self.best[self.size :]
        return len(self.best) > 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the mean into the tensors for a block; after it they are what they were, bit for bit."""
        with torch.no_grad():
            before = _on_cpu(self.tensors)
            torch._foreach_copy_(self.tensors, [_mean(parts) for parts in zip(*self._weights(), strict=True)])
            try:
                yield
            finally:
                torch._foreach_copy_(self.tensors, before)

    def _weights(self) -> list[list[Tensor]]:
        """Return the weights of the epochs in the order of the epochs, in which they are added."""
        return [one.weights for one in sorted(self.best, key=lambda one: one.epoch)]

    def state_dict(self) -> TrainState:
        """Return the weights of the epochs, as tensors `soup.EPOCH.INDEX`, and the value of each."""
        tensors = {
            f"soup.{one.epoch}.{index}": tensor.contiguous()  # nothing changes an ingredient: no copy
            for one in self.best
            for index, tensor in enumerate(one.weights)
        }
        return TrainState(tensors, {"soup": [[one.epoch, one.value] for one in self.best]})

    def load_state_dict(self, state: TrainState) -> None:
        """Continue from what `state_dict` gave."""
        self.best = [
            Ingredient(epoch, value, [state.tensors[f"soup.{epoch}.{index}"] for index in range(len(self.tensors))])
            for epoch, value in state.values["soup"]
        ]


def state_of(*averages: WeightAverage | Soup | None) -> TrainState:
    """Return the state of the averages that a training has, together."""
    states = [one.state_dict() for one in averages if one is not None]
    tensors = {name: tensor for state in states for name, tensor in state.tensors.items()}
    return TrainState(tensors, {name: value for state in states for name, value in state.values.items()})


def _on_cpu(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.detach().cpu().clone() for tensor in tensors]


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """Return the mean, added in float64, so that it does not depend on the order of many."""
    total = tensors[0].to(torch.float64, copy=True)
    for tensor in tensors[1:]:
        total += tensor
    return total.div_(len(tensors)).to(tensors[0].dtype)

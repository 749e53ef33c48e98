"""A moving average of the weights that learn, which is scored and stored in their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from deeptune.engine.train_state import TrainState

DECAY = 0.98  # at most: the average is over about the last 50 steps


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

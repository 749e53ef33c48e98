"""A backbone of texts: tokens in, and texts of one length at a time where padding would reach them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deeptune.backbones.base import Backbone
from deeptune.backbones.unpadded import by_length
from deeptune.data.loading.preprocessing import TextPreprocessing


@dataclass(frozen=True)
class TextBehaviour:
    """The result of a small pass through a text network.

    `width` is that of a token's vector, `shortest` the fewest tokens that pass, and `padding_reaches` says whether a
    short text's vectors depend on the padding after it.
    """

    width: int
    shortest: int
    padding_reaches: bool


class TextBackbone(Backbone):
    """A backbone for {"input_ids", "attention_mask": int64 (B, T)}; `features` is (B, T, D)."""

    config: Any  # the library's own description of the network

    @property
    @abstractmethod
    def behaviour(self) -> TextBehaviour | None:
        """How the network takes its texts; None on the meta device, where nothing passes."""

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """The number of token ids."""

    @abstractmethod
    def run(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the vectors (B, T, D) of tokens, all in one pass."""

    @property
    def padding_reaches(self) -> bool:
        return self.behaviour is not None and self.behaviour.padding_reaches

    @property
    def pad_id(self) -> int:
        if isinstance(self.preprocessing, TextPreprocessing):
            return self.preprocessing.pad_id
        return getattr(self.config, "pad_token_id", None) or 0

    def features(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.each_length(self.run, inputs)

    def each_length(self, function: Callable[[dict[str, Tensor]], Tensor], inputs: dict[str, Tensor]) -> Tensor:
        """Return `function` of inputs (B, T, …), of texts of one length at a time where padding reaches them."""
        how = self.behaviour
        if how is None or (inputs["input_ids"].shape[1] >= how.shortest and not how.padding_reaches):
            return function(inputs)
        return by_length(function, inputs, shortest=how.shortest, pad_id=self.pad_id)

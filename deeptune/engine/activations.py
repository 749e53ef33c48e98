"""What the frozen blocks of a backbone hand to those that learn, as rows of a table and as batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deeptune.backbones.cut import Cut
from deeptune.data.features import Features
from deeptune.data.loader import Batch, Loader
from deeptune.engine.device import Compute


@dataclass(frozen=True)
class CutActivations:
    """A cut, and what stands there in a run's precision: of an image one map of `shape`, of a text a vector of `shape`
    for each token that counts."""

    cut: Cut
    shape: tuple[int, ...]
    dtype: torch.dtype
    of_tokens: bool

    @classmethod
    def of(cls, cut: Cut, compute: Compute) -> CutActivations:
        """Raises CannotCut where what learns needs more than the boundary."""
        cut.check()
        inputs = {name: value.to(compute.device) for name, value in cut.backbone.sample().items()}
        cut.backbone.eval()
        with torch.inference_mode(), compute.autocast():
            boundary = cut.prefix(inputs)
        of_tokens = "attention_mask" in inputs
        return cls(cut, tuple(boundary.shape[2 if of_tokens else 1 :]), boundary.dtype, of_tokens)

    @property
    def width(self) -> int:
        return math.prod(self.shape)

    def flat(self, inputs: dict[str, Tensor]) -> Tensor:
        """Vectors (n, width) of a batch, those of one row after those of another: one for each map or token."""
        boundary = self.cut.prefix(inputs)
        return boundary[inputs["attention_mask"].bool()] if self.of_tokens else boundary.flatten(1)

    def maps(self, vectors: np.ndarray) -> Tensor:
        """The boundary (B, *shape) of images from their vectors, in the very numbers that the prefix gave."""
        return torch.from_numpy(vectors).view(-1, *self.shape).to(self.dtype)

    def tokens(self, vectors: np.ndarray, mask: Tensor) -> Tensor:
        """The boundary (B, T, D) of texts from their tokens' vectors; zeros where `mask` (B, T) is 0."""
        boundary = torch.zeros(*mask.shape, *self.shape, dtype=self.dtype)
        boundary[mask.bool()] = torch.from_numpy(vectors).to(self.dtype)
        return boundary


class TextActivationLoader:
    """The batches of a loader of texts, with their boundary from a table: masks and positions come of the tokens."""

    def __init__(self, loader: Loader, table: Features, boundary: CutActivations) -> None:
        self.loader, self.table, self.boundary = loader, table, boundary
        self.set_epoch, self.padded_share = loader.set_epoch, loader.padded_share

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            vectors = self.table.take(batch.rows.numpy())
            found = self.boundary.tokens(vectors, batch.inputs["attention_mask"])
            yield Batch({**batch.inputs, "boundary": found}, batch.targets, batch.rows)

"""Activations at the boundary of the frozen blocks: stored as vectors, read in batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deeptune.backbones.base import Cut
from deeptune.data.loading.dataset import Inputs
from deeptune.data.loading.features import Features
from deeptune.engine.device import Compute


@dataclass(frozen=True)
class CutActivations:
    """A cut, and what stands there in a run's precision.

    That is one map of `shape` for an image, and a vector of `shape` for each token of a text that is not padding.
    """

    cut: Cut
    shape: tuple[int, ...]
    dtype: torch.dtype
    of_tokens: bool

    @classmethod
    def of(cls, cut: Cut, compute: Compute) -> CutActivations:
        """Find out what stands at a cut. Raises CannotCut if the blocks that learn need more than that."""
        cut.check()
        inputs = {name: value.to(compute.device) for name, value in cut.backbone.sample().items()}
        cut.backbone.eval()
        with torch.inference_mode(), compute.autocast():
            boundary = cut.prefix(inputs)
        of_tokens = "attention_mask" in inputs
        return cls(cut, tuple(boundary.shape[2 if of_tokens else 1 :]), boundary.dtype, of_tokens)

    @property
    def name(self) -> str:
        """The first block that learns."""
        return self.cut.name

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return math.prod(self.shape)

    def flat(self, inputs: dict[str, Tensor]) -> Tensor:
        """Run the frozen blocks on a batch; returns the vectors (n, width) of one row after those of another."""
        boundary = self.cut.prefix(inputs)
        return boundary[inputs["attention_mask"].bool()] if self.of_tokens else boundary.flatten(1)

    def maps(self, vectors: np.ndarray) -> Tensor:
        """Restore the activations (B, *shape) of images from their vectors, bit for bit."""
        return torch.from_numpy(vectors).view(-1, *self.shape).to(self.dtype)

    def tokens(self, vectors: np.ndarray, mask: Tensor) -> Tensor:
        """Restore the activations (B, T, D) of texts from their tokens' vectors; zeros where `mask` (B, T) is 0."""
        boundary = torch.zeros(*mask.shape, *self.shape, dtype=self.dtype)
        boundary[mask.bool()] = torch.from_numpy(vectors).to(self.dtype)
        return boundary


class ActivationInputs(Inputs):
    """Activations at the cut that are stored: {"boundary": (B, *shape)}, beside the ids and mask of texts.

    With several `views`, epoch e reads the e-th, from the first again after the last. `samples` are the inputs of the
    same rows: a text model makes masks and positions of the tokens.
    """

    def __init__(self, activations: CutActivations, views: Sequence[Features], samples: Inputs) -> None:
        self.activations, self.views, self.samples = activations, views, samples

    def batch(self, rows: np.ndarray, epoch: int) -> dict[str, Tensor]:
        vectors = self.views[epoch % len(self.views)].take(rows)
        if not self.activations.of_tokens:
            return {"boundary": self.activations.maps(vectors)}
        inputs = self.samples.batch(rows, epoch)
        return {**inputs, "boundary": self.activations.tokens(vectors, inputs["attention_mask"])}

    def lengths(self, rows: np.ndarray) -> np.ndarray | None:
        return self.samples.lengths(rows)

    def truncated(self, rows: np.ndarray) -> int:
        return self.samples.truncated(rows)

    def padded_width(self, longest: int) -> int:
        return self.samples.padded_width(longest)

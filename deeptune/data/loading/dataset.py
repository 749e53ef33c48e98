"""Rows of a source as a model takes them: inputs made of samples or of stored features, with their targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deeptune.data.loading.features import Features, JoinedFeatures

OF_TOKENS = ("input_ids", "attention_mask", "token_type_ids")  # inputs that have a place for each token


@dataclass
class Batch:
    """Inputs of B rows, by name, with their targets.

    `inputs` has `images` (uint8 (B, 3, S, S)), or `input_ids`, `attention_mask` and, for pairs of texts,
    `token_type_ids` (int64 (B, T)), or both of an image with a text, or `features` (float32 (B, width)), or `boundary`
    (what the frozen blocks gave).
    `targets` are int64 class indices, or float32 as they were given, or None. `rows` (int64 (B,)) index the source.
    """

    inputs: dict[str, Tensor]
    targets: Tensor | None
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        """Tokens of each text, padding included; 1 for anything else."""
        return self.inputs["input_ids"].shape[1] if "input_ids" in self.inputs else 1

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Copy inputs and targets to `device`; `rows` stay where they are."""
        inputs = {name: value.to(device, non_blocking=non_blocking) for name, value in self.inputs.items()}
        targets = None if self.targets is None else self.targets.to(device, non_blocking=non_blocking)
        return Batch(inputs, targets, self.rows)

    def part(self, places: slice) -> Batch:
        """Slice the batch by rows."""
        inputs = {name: value[places] for name, value in self.inputs.items()}
        return Batch(inputs, None if self.targets is None else self.targets[places], self.rows[places])

    def pin_memory(self) -> Batch:
        """Copy inputs and targets to pinned memory. torch's DataLoader calls this, too."""
        inputs = {name: value.pin_memory() for name, value in self.inputs.items()}
        return Batch(inputs, None if self.targets is None else self.targets.pin_memory(), self.rows)


class Inputs(ABC):
    """A source of inputs for the rows of a file: samples, features, or activations at the cut."""

    decodes = False  # whether making a batch takes so much work that worker processes pay
    row_bytes = 0  # that the inputs of a row take, where `decodes`

    @abstractmethod
    def batch(self, rows: np.ndarray, epoch: int) -> dict[str, Tensor]:
        """Make the inputs of rows (int64 (B,)). Raises DataError for a sample that can't be used."""

    def lengths(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the tokens of the text in each row (int64 (n,)), or None if rows have no tokens."""
        return None

    def truncated(self, rows: np.ndarray) -> int:
        """Count the rows whose text was cut to the maximum length."""
        return 0

    def padded_width(self, longest: int) -> int:
        """Return the tokens that each text of a batch takes whose longest text has `longest`."""
        return longest


@dataclass(frozen=True)
class SampleOptions:
    """Options that turn samples into inputs: see `Samples.inputs`.

    `blank` rows are replaced by a white image or an empty text. `augmentation` changes images depending on `seed`,
    epoch and row; `flip` allows mirrored ones. Texts are padded to a multiple of `pad_multiple` tokens.
    """

    blank: frozenset[int] = frozenset()
    augmentation: str = "none"
    seed: int = 0
    flip: bool = False
    pad_multiple: int = 1


class FeatureInputs(Inputs):
    """Pooled features that are stored: {"features": float32 (B, width)}.

    With several `views`, epoch e reads the e-th, from the first again after the last.
    """

    def __init__(self, views: Sequence[Features | JoinedFeatures]) -> None:
        self.views = views

    def batch(self, rows: np.ndarray, epoch: int) -> dict[str, Tensor]:
        return {"features": torch.from_numpy(self.views[epoch % len(self.views)].take(rows))}


class Dataset:
    """Rows of a source (int64 (n,)), in any order, with their inputs and, if there are any, one target for each.

    Integer targets become int64, others float32. `lengths` are the tokens of each row (int64 (n,)) or None; `truncated`
    says how many rows lost tokens.
    """

    def __init__(self, inputs: Inputs, rows: np.ndarray, targets: np.ndarray | None = None) -> None:
        self.inputs, self.rows = inputs, np.asarray(rows, np.int64)
        self.lengths, self.truncated = inputs.lengths(self.rows), inputs.truncated(self.rows)
        self.targets: Tensor | None = None
        if targets is not None:
            if len(targets) != len(rows):
                raise ValueError(f"{len(targets)} targets for {len(rows)} rows")
            whole = np.issubdtype(targets.dtype, np.integer)
            self.targets = torch.from_numpy(targets.astype(np.int64 if whole else np.float32))

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, positions: np.ndarray, epoch: int = 0) -> Batch:
        """Make a batch of the rows at some positions (int64 (B,)). Raises DataError."""
        rows = self.rows[positions]
        targets = None if self.targets is None else self.targets[torch.from_numpy(positions)]
        return Batch(self.inputs.batch(rows, epoch), targets, torch.from_numpy(rows))

"""Run a model over rows and score what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from deeptune.data.loading.loader import Batch
from deeptune.engine.device import Compute
from deeptune.engine.loss import Criterion
from deeptune.engine.micro_batch import MicroBatcher, each_micro_batch
from deeptune.errors import TrainingError, listed
from deeptune.progress import Progress
from deeptune.tasks import Task


class Scorer(Protocol):
    """A network that is run over rows: a tuned model, or a plain backbone behind the same interface."""

    @property
    def last_layer(self) -> Any: ...
    def embed(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor: ...
    def eval(self) -> Any: ...


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model for some rows.

    rows: int64 (N,); logits: float32 (N, outputs); embeddings: float32 (N, width) or None.
    """

    rows: np.ndarray
    logits: np.ndarray
    embeddings: np.ndarray | None = None

    @classmethod
    def nothing(cls, model: Scorer, *, embed: bool = False) -> Outputs:
        """Return the outputs of no row, of the shapes that the model's have."""
        layer = model.last_layer
        embeddings = np.zeros((0, layer.in_features), np.float32) if embed else None
        return cls(np.zeros(0, np.int64), np.zeros((0, layer.out_features), np.float32), embeddings)

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, places: slice | np.ndarray) -> Outputs:
        """Select rows by position; a slice copies nothing."""
        return Outputs(
            self.rows[places],
            self.logits[places],
            None if self.embeddings is None else self.embeddings[places],
        )

    def without_embeddings(self) -> Outputs:
        return Outputs(self.rows, self.logits)


class MeanLoss:
    """The mean loss of what was added so far; `value` is None before."""

    def __init__(self, criterion: Criterion) -> None:
        self.criterion = criterion
        self._sum = self._count = 0.0

    def add(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        # Python's floats: the logits come to the CPU anyway, and not every device has float64.
        self._sum += float(self.criterion.sum(logits, targets))
        self._count += float(self.criterion.count(targets))

    @property
    def value(self) -> float | None:
        return self._sum / self._count if self._count else None


@dataclass(frozen=True)
class Inference:
    """A model on its device, and how much of a batch passes at once."""

    model: Scorer
    compute: Compute
    micro_batches: MicroBatcher = field(default_factory=MicroBatcher)

    def outputs(
        self,
        batches: Iterable[Batch],
        *,
        embed: bool = False,
        loss: MeanLoss | None = None,
        total: int = 0,
        progress: Progress | None = None,
    ) -> Iterator[Outputs]:
        """Yield the model's outputs for each batch of a loader, in eval mode; nothing is kept.

        A batch that does not fit into memory comes in parts. `loss` takes in those that have targets. `progress` counts
        rows, of `total`.
        """
        self.model.eval()
        done = 0
        for _, found in each_micro_batch(batches, partial(self._forward, embed=embed, loss=loss), self.micro_batches):
            done += len(found)
            if progress is not None:
                progress(done, total)
            yield found

    @torch.inference_mode()
    def _forward(self, batch: Batch, *, embed: bool, loss: MeanLoss | None) -> Outputs:
        batch = batch.to(self.compute.device, non_blocking=True)
        with self.compute.autocast():
            embedding = self.model.embed(batch.inputs).float()
        logits = self.model.last_layer(embedding)
        if loss is not None and batch.targets is not None:
            loss.add(logits, batch.targets)
        return Outputs(batch.rows.numpy(), logits.cpu().numpy(), embedding.cpu().numpy() if embed else None)


def joined(parts: Sequence[Outputs], model: Scorer) -> Outputs:
    """Concatenate outputs in their order; without parts, return outputs of no row."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Outputs.nothing(model)
    embeddings = [part.embeddings for part in parts if part.embeddings is not None]
    return Outputs(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.logits for part in parts]),
        np.concatenate(embeddings) if embeddings else None,
    )


def score(outputs: Outputs, truth: np.ndarray, task: Task, loss: float | None = None) -> dict[str, Any]:
    """Return the metrics of outputs against the truth, which are targets of the task, and `loss` if known.

    Raises TrainingError when an output is not finite: no metric is defined then.
    """
    broken = ~np.isfinite(outputs.logits).all(axis=1)
    if broken.any():
        raise TrainingError(
            f"the model's outputs are not finite for {int(broken.sum()):,} of {len(broken):,} rows: "
            f"rows {listed(outputs.rows[broken])}",
            hint="Look at those rows, set train.precision = 'fp32', or train with a lower train.learning_rate.",
        )
    metrics = task.score(outputs.logits, truth) | task.confidence_metrics(outputs.logits, truth)
    return {"loss": loss, **metrics} if loss is not None else metrics

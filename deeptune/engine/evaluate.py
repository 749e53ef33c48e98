"""Run a model over rows and score what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from deeptune.data.labels import ClassLabels, Labels, NumberLabels
from deeptune.data.loader import Batch
from deeptune.engine.device import Compute
from deeptune.engine.memory import RowLimit, each_piece
from deeptune.engine.metrics import classification_metrics, regression_metrics
from deeptune.engine.optim import Criterion
from deeptune.errors import TrainingError, listed

Progress = Callable[[int, int], None]


class Scorer(Protocol):
    """What is run over rows: a tuned model, or a plain backbone behind the same interface."""

    @property
    def last_layer(self) -> Any: ...
    def embed(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor: ...
    def eval(self) -> Any: ...


@dataclass(frozen=True)
class Outputs:
    """What a model said of some rows, in the loader's order.

    rows: int64 (N,); logits: float32 (N, outputs); embeddings: float32 (N, width) or None; loss: mean, or None
    without targets.
    """

    rows: np.ndarray
    logits: np.ndarray
    embeddings: np.ndarray | None
    loss: float | None


def iterate(
    model: Scorer,
    batches: Iterable[Batch],
    compute: Compute,
    *,
    embed: bool = False,
    limit: RowLimit | None = None,
) -> Iterator[tuple[Batch, torch.Tensor, torch.Tensor | None]]:
    """Yield (batch, float32 logits, float32 embedding or None) for each batch, in eval mode, on the device.

    A batch that does not fit into memory comes in parts.
    """
    model.eval()

    def forward(batch: Batch) -> tuple[Batch, torch.Tensor, torch.Tensor | None]:
        batch = batch.to(compute.device, non_blocking=True)
        with compute.autocast():
            embedding = model.embed(batch.inputs)
        return batch, model.last_layer(embedding.float()), embedding if embed else None

    with torch.inference_mode():
        for _, found in each_piece(batches, forward, limit or RowLimit()):
            yield found


def run(
    model: Scorer,
    batches: Iterable[Batch],
    compute: Compute,
    *,
    criterion: Criterion | None = None,
    embed: bool = False,
    limit: RowLimit | None = None,
    total: int = 0,
    progress: Progress | None = None,
) -> Outputs:
    """The model's outputs for every row of a loader, in eval mode."""
    rows, logits, embeddings = [], [], []
    loss_sum = count_sum = 0.0
    done = 0
    for batch, scores, embedding in iterate(model, batches, compute, embed=embed, limit=limit):
        rows.append(batch.rows.cpu().numpy())
        logits.append(scores.cpu().numpy())
        if embedding is not None:
            embeddings.append(embedding.cpu().numpy())
        if criterion is not None and batch.targets is not None:
            # Python's floats: the logits came to the CPU already, and not every device has float64.
            loss_sum += float(criterion.sum(scores, batch.targets))
            count_sum += float(criterion.count(batch.targets))
        done += len(batch.rows)
        if progress is not None:
            progress(done, total)
    width = model.last_layer.in_features
    return Outputs(
        rows=np.concatenate(rows) if rows else np.zeros(0, np.int64),
        logits=np.concatenate(logits) if logits else np.zeros((0, model.last_layer.out_features), np.float32),
        embeddings=(np.concatenate(embeddings) if embeddings else np.zeros((0, width), np.float32)) if embed else None,
        loss=loss_sum / count_sum if count_sum else None,
    )


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def predicted_numbers(logits: np.ndarray, labels: NumberLabels) -> np.ndarray:
    """Outputs (N, 1) of a regression in the label's own unit, float64 (N,)."""
    return labels.restore(logits[:, 0].astype(np.float64))


def score(outputs: Outputs, truth: np.ndarray, labels: Labels) -> dict[str, Any]:
    """Metrics of outputs against the truth (class indices, or numbers in the label's own unit), `loss` included.

    Raises TrainingError when an output is not finite: no metric is defined then.
    """
    broken = ~np.isfinite(outputs.logits).all(axis=1)
    if broken.any():
        raise TrainingError(
            f"the model's outputs are not finite for {int(broken.sum()):,} of {len(broken):,} rows: "
            f"rows {listed(outputs.rows[broken])}",
            hint="Look at those rows, set train.precision = 'fp32', or train with a lower train.learning_rate.",
        )
    if isinstance(labels, ClassLabels):
        metrics = classification_metrics(truth, probabilities(outputs.logits), labels)
    else:
        metrics = regression_metrics(truth, predicted_numbers(outputs.logits, labels))
    return {"loss": outputs.loss, **metrics} if outputs.loss is not None else metrics

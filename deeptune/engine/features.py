"""Pooled features of a frozen backbone, computed once and trained on for every epoch."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import torch
from torch import Tensor

from deeptune.backbones.base import Backbone
from deeptune.data.loader import Batch, Loader, batch_slices, epoch_order
from deeptune.engine.device import Compute
from deeptune.engine.evaluate import Progress
from deeptune.engine.memory import RowLimit, each_piece
from deeptune.spec.model import RunSpec

MEMORY_SHARE = 0.25  # of the memory that is free now


class FeatureLoader:
    """Yields batches of stored features in the very order that the `Loader` they came from would.

    features: float32 (N, width), by ascending row.
    """

    def __init__(
        self, features: Tensor, targets: Tensor, rows: Tensor, *, batch_size: int, shuffle: bool, seed: int
    ) -> None:
        self.features, self.targets, self.rows = features, targets, rows
        self.shuffle, self.seed = shuffle, seed
        self.epoch = self.skip = 0
        self._slices = batch_slices(len(rows), batch_size, training=shuffle)

    def __len__(self) -> int:
        return len(self._slices)

    def set_epoch(self, epoch: int, *, skip: int = 0) -> None:
        self.epoch, self.skip = epoch, skip

    def __iter__(self) -> Iterator[Batch]:
        count = len(self.rows)
        order = epoch_order(count, self.seed, self.epoch) if self.shuffle else torch.arange(count)
        for picked in (order[places] for places in self._slices[self.skip :]):
            yield Batch({"features": self.features[picked]}, self.targets[picked], self.rows[picked])


def can_store(spec: RunSpec, rows: int, width: int) -> bool:
    """Whether a run may train on stored features: nothing random before the head, and they fit in memory."""
    if spec.tuning.method != "partial" or spec.train.augmentation != "none":
        return False
    return rows * width * 4 <= MEMORY_SHARE * psutil.virtual_memory().available


def compute_features(
    backbone: Backbone,
    loader: Loader,
    compute: Compute,
    *,
    limit: RowLimit | None = None,
    progress: Progress | None = None,
    before: int = 0,
    total: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pass every row of an unshuffled, labelled loader through the backbone once.

    Returns features float32 (N, width), targets (N,) and rows int64 (N,), all on the CPU, by ascending row.
    `progress(done, total)` counts on from `before`.
    """
    features, targets, rows = [], [], []
    done = 0
    backbone.eval()

    def pool(batch: Batch) -> Tensor:
        moved = batch.to(compute.device, non_blocking=True)
        with compute.autocast():
            return backbone(moved.inputs).float().cpu()

    with torch.inference_mode():
        for batch, pooled in each_piece(loader, pool, limit or RowLimit()):
            features.append(pooled)
            assert batch.targets is not None
            targets.append(batch.targets)
            rows.append(batch.rows)
            done += len(batch.rows)
            if progress is not None:
                progress(before + done, total)
    if not rows:
        return torch.zeros(0, backbone.width), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    order = torch.cat(rows).argsort()  # the loader may go through texts by length
    # Indexing outside of inference mode copies: these tensors take part in training.
    return torch.cat(features)[order], torch.cat(targets)[order], torch.cat(rows)[order]

"""Batches of a dataset, in the order of its rows or in that of a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deeptune.data.loading.batch_order import batch_slices, bucketed_order, epoch_order, padded_share, windowed_order
from deeptune.data.loading.dataset import Batch, Dataset
from deeptune.data.loading.feature_table import FeatureTable
from deeptune.data.loading.worker_pool import WorkerPool


@dataclass(frozen=True)
class LoaderOptions:
    """Options of batches: their size and order, and the processes that make them.

    Without `shuffle` batches come in the order of the rows. With `by_length` a batch has texts of similar length and so
    little padding: in the order of `windowed_order` or, shuffled, of `bucketed_order`. Rows of similar length then meet
    in an optimizer step, which has `accumulation` batches, so that `batch_size` does not decide which rows a step has.
    `workers` processes make the batches if there is something to decode. Stored features that are read in each epoch
    are `kept_on` a device, while they take little of its memory.
    """

    batch_size: int
    shuffle: bool = False
    seed: int = 0
    by_length: bool = False
    accumulation: int = 1
    workers: int = 0
    pin_memory: bool = False
    kept_on: torch.device | None = None


class Loader:
    """Iterates over the batches of a dataset. The last, shorter batch is kept.

    A batch depends on options, epoch and rows alone, not on the workers that make it. `warn` gets a sentence when
    workers die or have no room.
    """

    def __init__(
        self, dataset: Dataset, options: LoaderOptions, warn: Callable[[str], None] = lambda _text: None
    ) -> None:
        self.dataset, self.options, self.warn = dataset, options, warn
        self.rows, self.lengths, self.truncated = dataset.rows, dataset.lengths, dataset.truncated
        self._slices = batch_slices(len(dataset), options.batch_size, training=options.shuffle)
        self._lengths = torch.from_numpy(self.lengths) if options.by_length and self.lengths is not None else None
        self._unshuffled = torch.arange(len(dataset)) if self._lengths is None else windowed_order(self._lengths)
        self._pool: WorkerPool | None = None
        if dataset.inputs.decodes and options.workers:
            self._pool = WorkerPool(dataset, options.workers, options.batch_size, pin_memory=options.pin_memory)
        self._epoch = self._skip = 0
        self._table: FeatureTable | None = None
        self._kept_on = options.kept_on

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self._slices)

    def set_epoch(self, epoch: int, *, skip: int = 0) -> None:
        """Choose the order and the augmentation of the next iterations; `skip` leaves out the first batches."""
        self._epoch, self._skip = epoch, skip

    def order(self, epoch: int) -> np.ndarray:
        """Return the rows (int64) in the order in which an epoch passes them."""
        return self.rows[self._order(epoch).numpy()]

    def padded_share(self, epoch: int = 0) -> float:
        """Return the share of padding among all tokens of an epoch's batches; 0 where rows have no tokens."""
        if self.lengths is None:
            return 0.0
        lengths = self.lengths[self._order(epoch).numpy()]
        return padded_share(lengths, self._slices, self.dataset.inputs.padded_width)

    def __iter__(self) -> Iterator[Batch]:
        epoch, done = self._epoch, self._skip
        places = self._order(epoch)
        if (table := self._feature_table()) is not None:
            yield from table.batches(places, [one.stop - one.start for one in self._slices], epoch, skip=done)
            return
        order = places.numpy()
        if self._pool is not None:
            for batch in self._pool.batches(epoch, [order[places] for places in self._slices], done, self.warn):
                done += 1
                yield batch
        for some in self._slices[done:]:  # all, or those that no worker has room for
            batch = self.dataset.batch(order[some], epoch)
            yield batch.pin_memory() if self.options.pin_memory else batch

    def _feature_table(self) -> FeatureTable | None:
        """Return the features on their device, which are put there by the first epoch that needs them."""
        if self._kept_on is not None:
            self._table, self._kept_on = FeatureTable.of(self.dataset, self._kept_on), None
        return self._table

    def _order(self, epoch: int) -> Tensor:
        """Return the positions of all rows, int64 (n,), in the order of an epoch."""
        options = self.options
        if not options.shuffle:
            return self._unshuffled
        if self._lengths is None:
            return epoch_order(len(self.dataset), options.seed, epoch)
        return bucketed_order(self._lengths, options.batch_size * options.accumulation, options.seed, epoch)

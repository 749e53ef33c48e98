"""Stored features of a dataset on the device that reads them in each epoch, so that a batch is made there."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from deeptune.data.loading.dataset import Batch, Dataset, FeatureInputs
from deeptune.memory import memory

MEMORY_SHARE = 0.25  # largest share of the device's free memory for a table


class FeatureTable:
    """The features (float32 (n, width), one for each view) and the targets of a dataset's rows, on one device.

    Its batches are those of `Dataset.batch`, to the bit, but for the device. `rows` stay on the CPU.
    """

    def __init__(self, inputs: FeatureInputs, dataset: Dataset, device: torch.device) -> None:
        self.views = [torch.from_numpy(view.take(dataset.rows)).to(device) for view in inputs.views]
        self.targets = None if dataset.targets is None else dataset.targets.to(device)
        self.rows = torch.from_numpy(dataset.rows)
        self.device = device

    @classmethod
    def of(cls, dataset: Dataset, device: torch.device) -> FeatureTable | None:
        """Return the table of a dataset; None where it has no pooled features, or these would take too much memory."""
        inputs = dataset.inputs
        if not isinstance(inputs, FeatureInputs) or not len(dataset):
            return None
        width = inputs.views[0].take(dataset.rows[:1]).shape[1]
        taken = len(dataset) * width * 4 * len(inputs.views)
        if taken > MEMORY_SHARE * free_memory(device):
            return None
        return cls(inputs, dataset, device)

    def batches(self, order: Tensor, sizes: list[int], epoch: int, *, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch after the first `skip`: `sizes` rows each, of places in `order` (int64)."""
        features, targets = self.views[epoch % len(self.views)], self.targets
        rows = torch.split(self.rows.index_select(0, order), sizes)
        places = torch.split(order.to(self.device), sizes)
        for some, at in zip(rows[skip:], places[skip:], strict=True):
            inputs = {"features": features.index_select(0, at)}
            yield Batch(inputs, None if targets is None else targets.index_select(0, at), some)


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a device's memory, from which the table of a split is kept."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return memory().free  # an Apple GPU has the memory of the CPU

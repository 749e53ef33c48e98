"""Batches that a thread makes while the device works on the one before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from deeptune.data.loading.dataset import Batch

PREFETCHED_BATCHES = 2  # batches that are made before they are asked for


def prefetched(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the batches in their order; a thread makes the next `PREFETCHED_BATCHES` of them meanwhile.

    What making a batch raises is raised where that batch is asked for. Whoever stops before the end waits for the batch
    that is being made.
    """
    iterator = iter(batches)
    with ThreadPoolExecutor(1, "batches", _use, (device,)) as thread:
        waiting = deque(thread.submit(next, iterator, None) for _ in range(PREFETCHED_BATCHES))
        try:
            while (batch := waiting.popleft().result()) is not None:
                waiting.append(thread.submit(next, iterator, None))
                yield batch
        finally:
            for made in waiting:
                made.cancel()


def _use(device: torch.device) -> None:
    if device.type == "cuda":  # a thread begins with the first GPU, and would pin memory by that one
        torch.cuda.set_device(device)

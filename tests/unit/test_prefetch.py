"""A thread makes the next batches of a feature pass, with the rows, the bits and the errors of a pass without it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from deeptune.data.loading.dataset import Batch
from deeptune.data.loading.prefetch import PREFETCHED_BATCHES, prefetched
from deeptune.engine import extraction_job
from deeptune.engine.device import Compute
from deeptune.engine.extraction_job import forward_batches
from deeptune.engine.micro_batch import MicroBatcher
from deeptune.errors import DataError

CPU = torch.device("cpu")
COMPUTE = Compute(CPU, None, "a test")


def batches(count: int, made: list[int] | None = None, fails_at: int | None = None):
    for number in range(count):
        if number == fails_at:
            raise DataError("row 17 can't be decoded")
        if made is not None:
            made.append(number)
        rows = torch.arange(4 * number, 4 * number + 4)
        yield Batch({"images": rows.float()[:, None] / 7}, None, rows)


def test_batches_come_in_their_order_from_another_thread() -> None:
    threads = set()

    def seen():
        for batch in batches(9):
            threads.add(threading.get_ident())
            yield batch

    assert torch.cat([batch.rows for batch in prefetched(seen(), CPU)]).tolist() == list(range(36))
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert list(prefetched(batches(0), CPU)) == []


def test_an_error_comes_after_the_batches_before_it() -> None:
    found = prefetched(batches(9, fails_at=3), CPU)
    assert [next(found).rows[0].item() for _ in range(3)] == [0, 4, 8]
    with pytest.raises(DataError, match="row 17"):
        next(found)


def test_who_stops_leaves_no_thread_and_at_most_some_batches() -> None:
    made: list[int] = []
    before = threading.active_count()
    iterator = prefetched(batches(100, made), CPU)
    for _ in range(3):
        next(iterator)
    iterator.close()
    assert threading.active_count() == before
    assert len(made) <= 3 + PREFETCHED_BATCHES


def test_a_pass_gives_the_same_and_collects_one_behind(monkeypatch) -> None:
    weights = torch.randn(1, 5, generator=torch.Generator().manual_seed(0))
    passed: list[int] = []

    def forward(inputs):
        if len(inputs["images"]) > 2 and inputs["images"][0] > 3:
            raise torch.OutOfMemoryError("a test")
        passed.append(len(inputs["images"]))
        return inputs["images"] @ weights

    def features() -> list[np.ndarray]:
        micro_batcher = MicroBatcher()
        found = forward_batches(torch.nn.Identity(), forward, batches(9), COMPUTE, micro_batcher)  # type: ignore
        values = [next(found)]
        begun.append(len(passed))
        values += found
        assert micro_batcher.max_units == 2
        assert not values[0].is_inference()
        return [one.numpy() for one in values]

    begun: list[int] = []
    plain = features()
    passed.clear()
    monkeypatch.setattr(extraction_job, "_overlaps", lambda _device: True)
    overlapped = features()
    assert begun == [1, 2]  # parts that had passed when the first batch was collected
    assert [one.tobytes() for one in overlapped] == [one.tobytes() for one in plain]

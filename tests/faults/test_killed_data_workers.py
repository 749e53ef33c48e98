"""Data workers that are killed: new ones go on with the same batches, or the run ends with advice."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from loading import make_loader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from deeptune.data.loading.open_samples import open_samples
from deeptune.data.loading.preprocessing import ImagePreprocessing
from deeptune.data.loading.worker_pool import MAX_RESTARTS
from deeptune.data.sources.parquet import open_source
from deeptune.errors import TrainingError

PIXELS = ImagePreprocessing(image_size=24, resize=28, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
ROWS = np.arange(200)


def augmented(workers: int):
    samples = open_samples(open_source("sample:digits_rotation"), "images", PIXELS)
    return make_loader(
        samples, ROWS, targets=ROWS * 1.0, batch_size=5, shuffle=True, seed=3,
        augmentation="light", workers=workers,
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed():
    """The batches of an epoch as this process makes them."""
    loader = augmented(workers=0)

    def epoch(number: int) -> list:
        loader.set_epoch(number)
        return list(loader)

    return epoch


def assert_same(found: list, expected: list) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.rows, other.rows)
        assert torch.equal(one.targets, other.targets)
        assert torch.equal(one.inputs["images"], other.inputs["images"])


@contextmanager
def disturbed():
    """A loader with two workers, what it told of restarts, and a function that kills some of its workers."""
    others = set(multiprocessing.active_children())

    def kill(count: int = 1) -> None:
        mine = sorted(set(multiprocessing.active_children()) - others, key=lambda worker: worker.pid)
        for worker in mine[:count]:
            os.kill(worker.pid, signal.SIGKILL)

    loader, told = augmented(workers=2), []
    loader.warn = told.append
    yield loader, told, kill
    del loader


def consume(batches, found: list, then=lambda: None) -> None:
    for batch in batches:
        found.append(batch)
        then()


@pytest.fixture
def soon(monkeypatch):
    """torch looks for dead workers when no batch has come for 5 seconds: here, for a fifth of one."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))


@pytest.mark.parametrize("count", [1, 2])
def test_an_epoch_whose_workers_are_killed_is_the_epoch_that_was_left_alone(undisturbed, count):
    with disturbed() as (loader, told, kill):
        loader.set_epoch(4, skip=3)
        batches = iter(loader)
        found = [next(batches) for _ in range(5)]
        kill(count)
        found += batches
        assert_same(found, undisturbed(4)[3:])
        (sentence,) = told
        at = re.fullmatch(
            r"a process that decodes images ended unexpectedly: new ones start after batch (\d+) of 40 "
            r"\(restart 1 of at most 3\)",
            sentence,
        )
        assert 8 <= int(at[1]) <= 12  # what had been fetched before is not lost
        before = set(multiprocessing.active_children())
        loader.set_epoch(5)  # whole again: nothing is skipped, and the new workers live on
        assert_same(list(loader), undisturbed(5))
        assert set(multiprocessing.active_children()) == before
        assert len(told) == 1


def test_a_worker_that_is_killed_does_not_disturb_the_step_that_is_being_done(undisturbed, soon):
    """torch would raise from a signal handler, wherever the main thread is."""
    with disturbed() as (loader, told, kill):
        found = []
        for batch in loader:
            if len(found) == 10:
                kill()
                deadline = time.monotonic() + 0.5
                while time.monotonic() < deadline:
                    time.sleep(0.01)
            found.append(batch)
        assert_same(found, undisturbed(0))
        assert len(told) == 1


def test_a_worker_that_is_killed_while_it_is_waited_for(undisturbed, soon):
    with disturbed() as (loader, told, kill):
        batches = iter(loader)
        found = [next(batches) for _ in range(6)]
        stopped = multiprocessing.active_children()
        for worker in stopped:
            os.kill(worker.pid, signal.SIGSTOP)
        timer = threading.Timer(0.5, kill, (2,))
        timer.start()
        found += batches
        timer.join()
        assert_same(found, undisturbed(0))
        assert len(told) == 1


def test_a_worker_that_is_killed_between_two_epochs(undisturbed, soon):
    with disturbed() as (loader, told, kill):
        assert_same(list(loader), undisturbed(0))
        kill()
        loader.set_epoch(1)
        assert_same(list(loader), undisturbed(1))
        assert len(told) == 1
        assert "after batch 0 of 40" in told[0]


@pytest.mark.timeout(60)
def test_a_worker_that_died_with_a_lock_in_its_hands_does_not_hang_the_run(undisturbed, soon):
    started = time.monotonic()
    with disturbed() as (loader, told, kill):
        batches = iter(loader)
        found = [next(batches)]
        loader._pool._loader._iterator._workers_done_event.event._cond.acquire()  # as a worker does to look at it
        kill()
        found += batches
        assert_same(found, undisturbed(0))
        assert len(told) == 1
    assert time.monotonic() - started < 40


def test_workers_that_are_killed_again_and_again_end_with_advice(undisturbed, soon):
    with disturbed() as (loader, told, kill):
        found = []
        with pytest.raises(TrainingError) as caught:
            consume(loader, found, then=kill)
        assert caught.value.message.startswith(
            "Processes that decode images ended unexpectedly 4 times in one pass over the data, "
            "most often because memory, or shared memory (/dev/shm), ran out"
        )
        assert caught.value.hint == "Set train.workers to a smaller number; 0 decodes in the main process."
        assert len(told) == MAX_RESTARTS == 3
        assert_same(found, undisturbed(0)[: len(found)])  # up to there nothing was lost or seen twice
        del caught  # its frames hold the loader, which would leave the new workers to the garbage collector
        for epoch in range(2):  # each pass counts for itself
            loader.set_epoch(epoch)
            batches = iter(loader)
            again = [next(batches)]
            kill()
            again += batches
            assert_same(again, undisturbed(epoch))
        assert len(told) == MAX_RESTARTS + 2


def test_workers_that_a_sample_kills_end_with_advice(undisturbed, monkeypatch, soon):
    """The same batch takes down every worker that it is given to, such as an image that crashes its decoder."""
    from deeptune.data.loading import image_samples as module

    decode = module.decode_quietly

    def deadly(data, **how):
        if multiprocessing.parent_process() is not None and data == crashing:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(data, **how)

    monkeypatch.setattr(module, "decode_quietly", deadly)
    with disturbed() as (loader, told, _):
        row = loader.order(0)[100]
        crashing = open_source("sample:digits_rotation").column("images")[int(row)].as_py()
        found = []
        with pytest.raises(TrainingError, match="4 times"):
            consume(loader, found)
        assert len(told) == 3
        # batches that a worker had made before are lost with it when they were not fetched yet
        assert 16 <= len(found) <= 20
        assert_same(found, undisturbed(0)[: len(found)])

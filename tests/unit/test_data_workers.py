"""How many processes may decode: room in shared memory, open files, a short folder for temporary files."""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import threading
from collections import namedtuple

import numpy as np
import pytest
import torch
from loading import make_loader

from deeptune.data.images import decoding_threads
from deeptune.data.loading import image_samples, worker_pool
from deeptune.data.loading import worker_memory as workers
from deeptune.data.loading.dataset import SampleOptions
from deeptune.data.loading.open_samples import open_samples
from deeptune.data.loading.preprocessing import ImagePreprocessing
from deeptune.data.loading.worker_memory import NoRoom, cannot_pass, workers_that_fit
from deeptune.data.sources.parquet import open_source
from deeptune.engine.device import Compute
from deeptune.engine.prepare import decoding_workers_beside

PIXELS = ImagePreprocessing(image_size=24, resize=28, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
ROWS = np.arange(60)
Room = namedtuple("Room", "f_bavail f_frsize")


def augmented(workers: int):
    samples = open_samples(open_source("sample:digits_rotation"), "images", PIXELS)
    return make_loader(
        samples, ROWS, targets=ROWS * 1.0, batch_size=5, shuffle=True, seed=3, augmentation="light", workers=workers
    )


def test_workers_with_room_are_as_asked():
    assert workers_that_fit(0, batch_bytes=10**12) == (0, None)
    assert workers_that_fit(2, batch_bytes=1000) == (2, None)


@pytest.mark.parametrize(("free", "fit"), [(64, 1), (640, 8), (0.2, 0)])
def test_workers_are_as_many_as_shared_memory_holds_batches_of(monkeypatch, free, fit):
    monkeypatch.setattr(os, "statvfs", lambda path: Room(int(free * 1e6), 1))
    found, reason = workers_that_fit(8, batch_bytes=6_000_000)
    assert found == fit
    assert (reason is None) == (fit == 8)
    if fit < 8:
        assert "/dev/shm" in reason
        assert "train.workers" in reason
    if fit:  # every loader's processes have their batches, and one is in use
        assert workers.LOADERS * (fit * workers.BATCHES_AHEAD + 1) * 6e6 <= free * 1e6


def test_workers_are_as_many_as_open_files_allow(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, 100))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: None)
    monkeypatch.setattr(os, "listdir", lambda path: [str(number) for number in range(30)])
    found, reason = workers_that_fit(4, batch_bytes=1000)
    assert found == 1
    assert reason == (
        "1 of 4 processes decode images (train.workers), because this process may open 100 files; "
        "more room: `ulimit -n`"
    )


def test_a_long_folder_for_temporary_files_has_no_room_for_sockets(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 80)))
    found, reason = workers_that_fit(2, batch_bytes=1000)
    assert found == 0
    assert "TMPDIR" in reason


def test_the_limit_of_open_files_is_raised_where_the_system_allows_it(monkeypatch):
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append(limits))
    assert workers_that_fit(4, batch_bytes=1000) == (4, None)
    assert asked == [(4096, 4096)]


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (OSError(24, "Too many open files"), "ulimit -n"),
        (RuntimeError("received 0 items of ancdata"), "ulimit -n"),
        (RuntimeError("unable to write to file </torch_12_34>: No space left on device (28)"), "/dev/shm"),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1>"), "/dev/shm"),
        (OSError("AF_UNIX path too long"), "TMPDIR"),
    ],
)
def test_what_keeps_a_batch_from_being_passed_is_named(error, part):
    assert part in cannot_pass(error)
    assert cannot_pass(RuntimeError("The size of tensor a must match")) is None


def test_a_pass_whose_shared_memory_fills_up_ends_in_the_main_process(monkeypatch):
    """The room was there at first: another program took it."""
    expected = list(augmented(0))
    made = multiprocessing.get_context("fork").Value("i", 0)

    def full_after_three(batch):
        with made.get_lock():
            made.value += 1
            return batch if made.value <= 3 else NoRoom("the shared memory (/dev/shm) is full")

    monkeypatch.setattr(worker_pool, "batch_in_shared_memory", full_after_three)
    loader, told = augmented(2), []
    loader.warn = told.append
    found = list(loader)
    assert len(told) == 1
    assert "the main process decodes images from batch" in told[0]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.inputs["images"], other.inputs["images"])
        assert torch.equal(one.rows, other.rows)


def test_a_loader_that_has_no_room_from_the_start_says_so(monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda path: Room(1000, 1))
    loader, told = augmented(2), []
    loader.warn = told.append
    assert len(list(loader)) == 12
    assert len(told) == 1
    assert "/dev/shm" in told[0]


def test_a_batch_is_decoded_by_all_cores_to_the_pixels_of_one(monkeypatch):
    samples = open_samples(open_source("sample:digits_rotation"), "images", PIXELS)
    inputs = samples.inputs(SampleOptions(blank=frozenset({7})))
    seen: set[str] = set()
    pixels = samples.pixels
    monkeypatch.setattr(samples, "pixels", lambda *of: (seen.add(threading.current_thread().name), pixels(*of)))
    monkeypatch.setattr(decoding_threads, "cores", lambda: 3)
    found = inputs.batch(ROWS, 0)["images"]
    assert seen
    assert threading.main_thread().name not in seen
    assert (found[7] == 255).all()
    for row in (0, 8, 59):
        one = np.empty((3, 24, 24), np.uint8)
        pixels(row, one)
        assert (found[row].numpy() == one).all()
    seen.clear()
    monkeypatch.setattr(torch.utils.data, "get_worker_info", object)
    assert torch.equal(inputs.batch(ROWS, 0)["images"], found)
    assert seen == {threading.main_thread().name}


@pytest.mark.parametrize(("seconds", "workers"), [(0.01, 11), (0.0001, 0)])
def test_all_cores_but_one_decode_beside_a_gpu_where_one_is_not_enough(monkeypatch, seconds, workers):
    samples = open_samples(open_source("sample:digits_rotation"), "images", PIXELS)
    clock = iter([0.0, 32 * seconds])
    monkeypatch.setattr(image_samples, "cores", lambda: 12)
    monkeypatch.setattr(image_samples.time, "perf_counter", lambda: next(clock))
    assert decoding_workers_beside(Compute(torch.device("cuda"), None, ""), [samples]) == workers
    assert decoding_workers_beside(Compute(torch.device("cpu"), None, ""), [samples]) == 0

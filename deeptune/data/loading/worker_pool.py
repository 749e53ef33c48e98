"""Processes that make batches, and what happens when they die or run out of room."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import data as torch_data
from torch.utils.data._utils import signal_handling

from deeptune.data.loading.dataset import Batch, Dataset
from deeptune.data.loading.worker_memory import NoRoom, batch_in_shared_memory, cannot_pass, workers_that_fit
from deeptune.errors import DataError, TrainingError

# A fork shares what is in memory with its parent, where a fresh process would copy it. None: the system's own way.
START_METHOD = "fork" if sys.platform == "linux" else None
MAX_RESTARTS = 3  # times that one epoch starts new worker processes for some that died
_Key = tuple[int, np.ndarray]  # epoch, positions of a batch


class WorkerPool:
    """Processes that make the batches of a dataset, and live on from one epoch to the next.

    When one dies, new ones start after the batch that was yielded last. Once they have no room for their batches, in
    shared memory or in open files, `workers` is 0, and the caller makes the remaining batches itself.
    """

    def __init__(self, dataset: Dataset, workers: int, batch_size: int, *, pin_memory: bool) -> None:
        self.dataset, self.workers, self.pin_memory = dataset, workers, pin_memory
        self.batch_bytes = batch_size * dataset.inputs.row_bytes
        self._keys = _Keys()
        self._loader: torch_data.DataLoader[Any] | None = None
        self._measured = False

    def batches(
        self, epoch: int, positions: Sequence[np.ndarray], first: int, warn: Callable[[str], None]
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch from number `first` on, or fewer if the workers have no room.

        Raises DataError for a sample that can't be used, and TrainingError if workers died more than MAX_RESTARTS
        times.
        """
        self._measure(warn)
        done, restarts = first, 0
        while self.workers:
            problem: DataError | TrainingError | NoRoom | None = None
            try:
                for batch in self._start([(epoch, some) for some in positions[done:]]):
                    if not isinstance(batch, Batch):
                        problem = batch
                        break
                    done += 1
                    yield batch
            except (RuntimeError, OSError, EOFError) as error:
                problem = _problem(error, restarts + 1)
            if problem is None:
                return
            # Outside of the handler: its traceback holds on to the workers, and to stop these from the garbage
            # collector takes torch many seconds.
            batch = self._loader = None
            if isinstance(problem, NoRoom):
                self.workers = 0
                warn(f"{problem.reason}: the main process decodes images from batch {done + 1:,} on")
                return
            restarts += 1
            if isinstance(problem, DataError) or restarts > MAX_RESTARTS:
                raise problem
            warn(
                f"a process that decodes images ended unexpectedly: new ones start after batch {done:,} of "
                f"{len(positions):,} (restart {restarts} of at most {MAX_RESTARTS})"
            )

    def _measure(self, warn: Callable[[str], None]) -> None:
        """Find out, once, how many workers have room."""
        if not self._measured:
            self._measured = True
            self.workers, reason = workers_that_fit(self.workers, batch_bytes=self.batch_bytes)
            if reason:
                warn(reason)

    def _start(self, keys: list[_Key]) -> Iterator[Any]:
        """Start torch's iterator over some batches; workers that are there go on."""
        self._keys.keys = keys
        if self._loader is None:
            self._loader = self._new_loader()
        batches: Any = iter(self._loader)
        if getattr(batches, "_worker_pids_set", False):
            # torch's handler of SIGCHLD raises wherever the main thread is when a worker dies, be it in the middle
            # of a training step. Without it, `next` finds the dead worker, within seconds.
            signal_handling._remove_worker_pids(id(batches))
            batches._worker_pids_set = False
            batches._workers_done_event = _Ended(batches._workers_done_event)
        return batches

    def _new_loader(self) -> torch_data.DataLoader[Any]:
        return torch_data.DataLoader(
            _WorkerDataset(self.dataset),
            batch_sampler=self._keys,
            collate_fn=_as_it_is,
            num_workers=self.workers,
            pin_memory=self.pin_memory,
            persistent_workers=True,
            multiprocessing_context=START_METHOD,
            generator=torch.Generator(),  # torch's own would draw from the generator that dropout uses
        )


class _Keys:
    """The batches of the next iteration, as torch's batch sampler: workers that live on learn the epoch with each."""

    def __init__(self) -> None:
        self.keys: list[_Key] = []

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys)


class _WorkerDataset(torch_data.Dataset[Any]):
    """A dataset in a worker process.

    An error is a value: one that is raised would come back wrapped in the process's traceback.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitems__(self, key: _Key) -> Batch | DataError | NoRoom:
        epoch, positions = key
        try:
            batch = self.dataset.batch(positions, epoch)
        except DataError as error:
            return error
        return batch_in_shared_memory(batch)


class _Ended:
    """The event by which torch ends its workers.

    A killed worker may have kept the event's lock, and torch would wait for it for ever. So the main process looks at a
    flag of its own, and asks for the lock with a limit.
    """

    def __init__(self, event: Any) -> None:
        self.event, self.here = event, False

    def is_set(self) -> bool:
        return self.here

    def set(self) -> None:
        self.here = True
        if self.event._cond.acquire(timeout=1.0):
            self.event._cond.release()
            self.event.set()


def _problem(error: Exception, deaths: int) -> TrainingError | NoRoom:
    """Translate an error of torch's loader. Raises the error itself if it is not about the workers."""
    if (reason := cannot_pass(error)) is not None:
        return NoRoom(reason)
    lost = (ConnectionError, EOFError, FileNotFoundError)
    if isinstance(error, lost) or "DataLoader worker (pid" in str(error):
        return TrainingError(
            f"Processes that decode images ended unexpectedly {deaths} times in one pass over the data, most often "
            f"because memory, or shared memory (/dev/shm), ran out ({error}).",
            hint="Set train.workers to a smaller number; 0 decodes in the main process.",
        )
    raise error


def _as_it_is(batch: Any) -> Any:
    return batch

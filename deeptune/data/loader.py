"""Samples of a source, in batches of tensors."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info
from torch.utils.data._utils import signal_handling

from deeptune.data.images import Augmentation, blank_image, to_tensor
from deeptune.data.modalities.image_samples import Images
from deeptune.data.modalities.text_samples import Texts
from deeptune.data.samples import Samples
from deeptune.data.sampling import batch_slices, bucketed_order, epoch_order, padded_share, windowed_order
from deeptune.data.text import padded_width
from deeptune.data.workers import NoRoom, batch_in_shared_memory, cannot_pass, workers_that_fit
from deeptune.errors import DataError, TrainingError

RESTARTS = 3  # times that one iteration starts new worker processes for some that died
_Key = tuple[int, int]  # epoch, position among the loader's rows


@dataclass
class Batch:
    """`inputs` are {"images": uint8 (B, 3, S, S)}, or {"input_ids", "attention_mask": int64 (B, T)} and, of pairs of
    texts, "token_type_ids"; `targets` int64 class indices or float32 as they were given, or None; `rows` (int64) index
    the source."""

    inputs: dict[str, Tensor]
    targets: Tensor | None
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        """Tokens of each text, padding included; 1 for anything else."""
        return self.inputs["input_ids"].shape[1] if "input_ids" in self.inputs else 1

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Inputs and targets on `device`; `rows` stay where they are."""
        inputs = {name: value.to(device, non_blocking=non_blocking) for name, value in self.inputs.items()}
        targets = None if self.targets is None else self.targets.to(device, non_blocking=non_blocking)
        return Batch(inputs, targets, self.rows)

    def part(self, places: slice) -> Batch:
        """Some of its rows."""
        inputs = {name: value[places] for name, value in self.inputs.items()}
        return Batch(inputs, None if self.targets is None else self.targets[places], self.rows[places])

    def pin_memory(self) -> Batch:  # found and called by torch's DataLoader
        inputs = {name: value.pin_memory() for name, value in self.inputs.items()}
        return Batch(inputs, None if self.targets is None else self.targets.pin_memory(), self.rows)


def make_loader(
    samples: Samples,
    rows: np.ndarray,
    *,
    targets: np.ndarray | None = None,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    augmentation: str = "none",
    flip: bool | None = None,
    workers: int = 0,
    blank: AbstractSet[int] = frozenset(),
    pin_memory: bool = False,
    by_length: bool = False,
    accumulation: int = 1,
    pad_multiple: int = 1,
) -> Loader:
    """A loader over `rows` (int64 indices in the samples' source).

    `targets`, one per row, are passed on: integers as int64, floats as float32 (standardise them first).
    `blank` holds the rows to replace by a white image or an empty text. `flip` allows mirrored images; by
    default where the targets are classes. `workers` processes decode images, where there is something to decode.

    With `by_length` a batch holds texts of like length and so little padding: in the order of `windowed_order` or, when
    shuffled, of `bucketed_order`. Rows of like length then meet in an optimizer step, which has `accumulation` batches,
    so that `batch_size` does not decide which rows a step has. Batches are padded to a multiple of `pad_multiple`
    tokens.
    """
    rows = np.asarray(rows, np.int64)
    dataset: _Images | _Texts
    if isinstance(samples, Texts):
        dataset = _Texts(samples, rows, targets, blank, pad_multiple)
    else:
        assert isinstance(samples, Images)
        augment = None
        if augmentation != "none":
            flip = targets is not None and np.issubdtype(targets.dtype, np.integer) if flip is None else flip
            size, mode = samples.preprocessing.image_size, samples.preprocessing.interpolation
            augment = Augmentation(augmentation, image_size=size, interpolation=mode, flip=flip, seed=seed)
        dataset = _Images(samples, rows, targets, blank, augment)
    if not samples.decodes:
        workers = 0  # reading is all that is left to do
    return Loader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        workers=workers,
        pin_memory=pin_memory,
        by_length=by_length,
        accumulation=accumulation,
    )


class Loader:
    """Iterates over Batch. Without shuffling in the rows' order; the last, shorter batch is kept.

    When a worker process dies, new ones start after the batch that was yielded last: a batch depends on seed, epoch
    and rows alone. After RESTARTS of these, TrainingError. Where workers cannot pass their batches on (shared memory or
    open files run out), this process decodes from there on. `warn` gets a sentence about either.

    For text, `lengths` are the tokens of each row as kept (int64, in the order of `rows`) and `truncated` says
    how many rows lost some; for images they are None and 0.
    """

    def __init__(
        self,
        dataset: _Images | _Texts,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
        workers: int,
        pin_memory: bool,
        by_length: bool,
        accumulation: int,
    ) -> None:
        self.rows = dataset.rows
        self.lengths: np.ndarray | None = getattr(dataset, "lengths", None)
        self.truncated: int = getattr(dataset, "truncated", 0)
        lengths = torch.from_numpy(self.lengths) if by_length and self.lengths is not None else None
        self._sampler = _EpochSampler(len(dataset.rows), batch_size, accumulation, shuffle, seed, lengths)
        self.warn: Callable[[str], None] | None = None
        self._epoch = self._skip = 0
        self._dataset, self._batch_size, self._pin_memory = dataset, batch_size, pin_memory
        self._workers = workers
        self._loader: DataLoader[Any] | None = None

    def _new_loader(self) -> DataLoader[Any]:
        return DataLoader(
            self._dataset,
            batch_sampler=self._sampler,
            collate_fn=_as_it_is,
            num_workers=self._workers,
            pin_memory=self._pin_memory,
            persistent_workers=self._workers > 0,
            # a fork shares what is in memory with its parent, where a fresh process would copy it
            multiprocessing_context="fork" if self._workers and sys.platform == "linux" else None,
            generator=torch.Generator(),  # torch's own would draw from the generator that dropout uses
        )

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self._sampler)

    def set_epoch(self, epoch: int, *, skip: int = 0) -> None:
        """Choose the order and the augmentation of the next iterations; `skip` leaves out the first batches."""
        self._epoch, self._skip = epoch, skip

    def order(self, epoch: int) -> np.ndarray:
        """The rows (int64) in the order in which an epoch goes through them."""
        return self.rows[self._sampler.order(epoch).numpy()]

    def padded_share(self, epoch: int = 0) -> float:
        """How many of all tokens in an epoch's batches are padding; 0 for images."""
        if not isinstance(self._dataset, _Texts):
            return 0.0
        lengths = self._dataset.lengths[self._sampler.order(epoch).numpy()]
        return padded_share(lengths, self._sampler.slices, self._dataset.width)

    def __iter__(self) -> Iterator[Batch]:
        epoch, skip = self._epoch, self._skip
        if self._loader is None:
            self._workers, reason = workers_that_fit(
                self._workers, batch_bytes=self._batch_size * self._dataset.sample_bytes
            )
            if reason and self.warn is not None:
                self.warn(reason)
            self._loader = self._new_loader()
        batches: Iterator[Any] | None = None
        done = restarts = 0
        while True:
            problem: DataError | TrainingError | NoRoom
            try:
                if batches is None:
                    batches = self._start(epoch, skip + done)
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                if not self._workers:
                    raise
                if (reason := cannot_pass(error)) is not None:
                    problem = NoRoom(reason)
                elif _died(error):
                    problem = TrainingError(
                        f"Processes that decode images ended unexpectedly {restarts + 1} times in one pass over the "
                        f"data, most often because memory, or shared memory (/dev/shm), ran out ({error}).",
                        hint="Set train.workers to a smaller number; 0 decodes in the main process.",
                    )
                else:
                    raise
            else:
                if isinstance(batch, Batch):
                    done += 1
                    yield batch
                    continue
                problem = batch
            # Let go of the workers now: the error's traceback would hold on to them, and stopping them from
            # the garbage collector takes torch many seconds.
            batches = None
            if isinstance(problem, NoRoom):
                self._workers = 0
                said = f"{problem.reason}: the main process decodes images from batch {skip + done + 1:,} on"
            else:
                restarts += 1
                said = (
                    f"a process that decodes images ended unexpectedly: new ones start after batch {skip + done:,} of "
                    f"{len(self):,} (restart {restarts} of at most {RESTARTS})"
                )
            self._loader = self._new_loader()
            if isinstance(problem, DataError) or restarts > RESTARTS:
                raise problem  # type: ignore[misc]
            if self.warn is not None:
                self.warn(said)

    def _start(self, epoch: int, first: int) -> Iterator[Any]:
        """torch's iterator over an epoch from its batch `first` on."""
        self._sampler.epoch, self._sampler.first = epoch, first
        batches: Any = iter(self._loader or self._new_loader())
        if getattr(batches, "_worker_pids_set", False):
            # torch's handler of SIGCHLD raises wherever the main thread is when a worker dies, be it in the middle
            # of a training step. Without it, `next` finds the dead worker, within seconds.
            signal_handling._remove_worker_pids(id(batches))
            batches._worker_pids_set = False
            batches._workers_done_event = _Ended(batches._workers_done_event)
        return batches


def _died(error: Exception) -> bool:
    """Whether an error of torch's loader says that a worker process has ended."""
    lost = (ConnectionError, EOFError, FileNotFoundError)
    return isinstance(error, lost) or "DataLoader worker (pid" in str(error)


class _Ended:
    """The event by which torch ends its workers. One that was killed may have kept the event's lock, and torch would
    wait for that for ever, so the main process looks at a flag of its own and asks for the lock with a limit."""

    def __init__(self, event: Any) -> None:
        self.event, self.here = event, False

    def is_set(self) -> bool:
        return self.here

    def set(self) -> None:
        self.here = True
        if self.event._cond.acquire(timeout=1.0):
            self.event._cond.release()
            self.event.set()


class _EpochSampler(Sampler[list[_Key]]):
    """Batches of (epoch, position): workers that live on learn the epoch with each batch."""

    def __init__(
        self, n: int, batch_size: int, accumulation: int, shuffle: bool, seed: int, lengths: Tensor | None
    ) -> None:
        self.n, self.step, self.shuffle, self.seed, self.lengths = n, batch_size * accumulation, shuffle, seed, lengths
        self.unshuffled = torch.arange(n) if lengths is None else windowed_order(lengths)
        self.epoch = self.first = 0
        self.slices = batch_slices(n, batch_size, training=shuffle)

    def order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return self.unshuffled
        if self.lengths is None:
            return epoch_order(self.n, self.seed, epoch)
        return bucketed_order(self.lengths, self.step, self.seed, epoch)

    def __len__(self) -> int:
        return len(self.slices)

    def __iter__(self) -> Iterator[list[_Key]]:
        epoch, order = self.epoch, self.order(self.epoch).tolist()
        for places in self.slices[self.first :]:
            yield [(epoch, position) for position in order[places]]


class _Rows(Dataset[Batch], ABC):
    """What images and texts share: whole batches are fetched, and an error is a value, as one raised in a worker
    process would come back wrapped in that process's traceback."""

    sample_bytes = 0  # of a sample's inputs, where processes make them

    def __init__(self, rows: np.ndarray, targets: np.ndarray | None, blank: AbstractSet[int]) -> None:
        self.rows, self.blank = rows, frozenset(blank)
        self.targets: Tensor | None = None
        if targets is not None:
            if len(targets) != len(rows):
                raise ValueError(f"{len(targets)} targets for {len(rows)} rows")
            whole = np.issubdtype(targets.dtype, np.integer)
            self.targets = torch.from_numpy(targets.astype(np.int64 if whole else np.float32))

    @abstractmethod
    def inputs(self, keys: Sequence[_Key]) -> dict[str, Tensor]:
        """What the backbone takes, for a batch."""

    def __getitems__(self, keys: list[_Key]) -> Batch | DataError | NoRoom:
        positions = torch.tensor([position for _, position in keys])
        try:
            inputs = self.inputs(keys)
        except DataError as error:
            return error
        batch = Batch(
            inputs, None if self.targets is None else self.targets[positions], torch.from_numpy(self.rows)[positions]
        )
        return batch if get_worker_info() is None else batch_in_shared_memory(batch)


class _Images(_Rows):
    def __init__(
        self,
        samples: Images,
        rows: np.ndarray,
        targets: np.ndarray | None,
        blank: AbstractSet[int],
        augmentation: Augmentation | None,
    ) -> None:
        super().__init__(rows, targets, blank)
        self.samples, self.augmentation = samples, augmentation
        self.size = samples.preprocessing.image_size
        self.sample_bytes = 3 * self.size**2

    def inputs(self, keys: Sequence[_Key]) -> dict[str, Tensor]:
        images = torch.empty(len(keys), 3, self.size, self.size, dtype=torch.uint8)
        for image, (epoch, position) in zip(images, keys, strict=True):
            row = int(self.rows[position])
            if row in self.blank:
                image.copy_(blank_image(self.size))
            elif self.augmentation is None:
                self.samples.pixels(row, image.numpy())
            else:
                picture = self.samples.picture(row, self.augmentation.least)
                image.copy_(to_tensor(self.augmentation(picture.image, epoch=epoch, row=row)))
        return {"images": images}


class _Texts(_Rows):
    def __init__(
        self,
        samples: Texts,
        rows: np.ndarray,
        targets: np.ndarray | None,
        blank: AbstractSet[int],
        pad_multiple: int,
    ) -> None:
        super().__init__(rows, targets, blank)
        samples.require_texts(np.setdiff1d(rows, list(self.blank)))
        self.samples, self.preprocessing, self.pad_multiple = samples, samples.preprocessing, pad_multiple
        self.lengths = samples.lengths(rows, self.blank)
        self.truncated = samples.cut(rows, self.blank)

    def inputs(self, keys: Sequence[_Key]) -> dict[str, Tensor]:
        return self.samples.batch(self.rows[[position for _, position in keys]], self.blank, self.width)

    def width(self, longest: int) -> int:
        return padded_width(longest, self.pad_multiple, self.preprocessing.max_length)


def _as_it_is(batch: Any) -> Any:
    return batch

"""Going on when memory runs out: fewer rows at a time, the same result."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from deeptune.data.loader import Batch, batch_slices
from deeptune.errors import TrainingError

T = TypeVar("T")

# What PyTorch's CPU allocators and oneDNN say; only a GPU's has a class of its own.
_CPU_WORDS = re.compile(
    r"can't allocate memory|not enough memory|Cannot allocate memory|failed to allocate|"
    r"could not create a (primitive$|memory)"
)


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and _CPU_WORDS.search(str(error).strip()) is not None


class RowLimit:
    """How many rows go through a model at once: a whole batch until memory runs out, then half as many, for good.

    `tell` gets a sentence for the log each time; `least` is the fewest rows that make sense together.
    """

    def __init__(
        self, tell: Callable[[str], None] = lambda text: None, *, rows: int | None = None, least: int = 1
    ) -> None:
        self.tell, self.rows, self.least = tell, rows, least

    def pieces(self, batch: Batch) -> list[Batch]:
        """The batch in parts that fit; none of a single row unless the batch is one, or the limit."""
        count = len(batch)
        if self.rows is None or count <= self.rows:
            return [batch]
        return [batch.part(places) for places in batch_slices(count, self.rows, training=self.rows > 1)]

    def halve(self, count: int, doing: str) -> None:
        """Memory ran out with `count` rows at once. Raises TrainingError when there is nothing left to halve."""
        fewer = max(self.least, count // 2)
        if fewer >= count:
            raise TrainingError(
                f"out of memory while {doing} {count} row{'s' if count > 1 else ''} at once, which is the fewest",
                hint="Choose a smaller backbone, backbone.image_size or backbone.max_length, or tuning.method = "
                "'partial' or 'lora'; and look whether other processes use the same memory.",
            )
        self.rows = fewer
        self.tell(f"out of memory while {doing} {count} rows at once: going on with {fewer}")
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def each_piece(batches: Iterable[Batch], forward: Callable[[Batch], T], limit: RowLimit) -> Iterator[tuple[Batch, T]]:
    """`forward` of every batch, in parts that fit into memory, each with what it gave."""
    for batch in batches:
        waiting = limit.pieces(batch)
        while waiting:
            try:
                found = forward(waiting[0])
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            except MemoryError:
                pass
            else:
                yield waiting.pop(0), found
                continue
            limit.halve(len(waiting[0]), "passing")  # out of the handler, whose traceback holds on to tensors
            waiting = [piece for part in waiting for piece in limit.pieces(part)]

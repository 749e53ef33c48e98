"""Passes batches in parts that fit into memory, with the same result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from deeptune.data.loading.loader import Batch, batch_slices
from deeptune.engine.out_of_memory import is_out_of_memory, release_memory
from deeptune.errors import TrainingError

T = TypeVar("T")


class MicroBatcher:
    """Decides how many rows pass a model at once.

    A whole batch does, of texts up to `tokens` tokens (padding included), until memory runs out; from then on, half of
    what was too much. `tell` gets a sentence for the log each time. At least `min_rows` rows pass together.
    """

    def __init__(
        self, tell: Callable[[str], None] = lambda _text: None, *, tokens: int | None = None, min_rows: int = 1
    ) -> None:
        self.tell, self.tokens, self.min_rows = tell, tokens, min_rows
        self.max_units: int | None = None  # since memory ran out: tokens of texts, rows of anything else

    def rows(self, batch: Batch) -> int:
        """Count the rows of a batch that pass at once."""
        limits = [self.max_units, self.tokens if batch.width > 1 else None]
        allowed = [max(self.min_rows, limit // batch.width) for limit in limits if limit is not None]
        return min([len(batch), *allowed])

    def split(self, batch: Batch) -> list[Batch]:
        """Split a batch into similar parts that fit. If `min_rows` is 2, a last row joins the part before it."""
        count, rows = len(batch), self.rows(batch)
        if count <= rows:
            return [batch]
        rows = math.ceil(count / math.ceil(count / rows))
        return [batch.part(places) for places in batch_slices(count, rows, training=self.min_rows > 1)]

    def halve(self, piece: Batch, doing: str) -> None:
        """Pass fewer rows from now on, as memory ran out on a piece. Raises TrainingError if it can't be halved."""
        count, width = len(piece), piece.width
        fewer = max(self.min_rows, count // 2)
        if fewer >= count:
            raise TrainingError(
                f"out of memory while {doing} {_sized(count, width)} at once, and fewer are not possible",
                hint="Choose a smaller backbone, backbone.image_size or backbone.max_length, or tuning.method = "
                "'partial' or 'lora'; and check whether other processes use the same memory.",
            )
        self.max_units = fewer * width
        going = fewer if width == 1 else f"{self.max_units:,} tokens"
        self.tell(f"out of memory while {doing} {_sized(count, width)} at once: continuing with {going}")
        release_memory()


def _sized(rows: int, width: int) -> str:
    some = f"{rows} row{'s' if rows > 1 else ''}"
    return some if width == 1 else f"{some} of {width} tokens"


def each_micro_batch(
    batches: Iterable[Batch], forward: Callable[[Batch], T], micro_batcher: MicroBatcher
) -> Iterator[tuple[Batch, T]]:
    """Call `forward` on every batch, in parts that fit into memory. Yields each part with the result."""
    for batch in batches:
        waiting = micro_batcher.split(batch)
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
            micro_batcher.halve(waiting[0], "passing")  # outside of the handler, whose traceback holds on to tensors
            waiting = [piece for part in waiting for piece in micro_batcher.split(part)]

"""Fewer rows at a time once memory has run out, with the same result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from deeptune.data.loader import Batch, batch_slices
from deeptune.engine.out_of_memory import is_out_of_memory, release_memory
from deeptune.errors import TrainingError

T = TypeVar("T")


class MicroBatcher:
    """How much goes through a model at once: a whole batch, of texts at most `tokens` (padding included), until memory
    runs out; then half of what was too much, for good.

    `tell` gets a sentence for the log each time; `least` is the fewest rows that make sense together.
    """

    def __init__(
        self, tell: Callable[[str], None] = lambda text: None, *, tokens: int | None = None, least: int = 1
    ) -> None:
        self.tell, self.tokens, self.least = tell, tokens, least
        self.most: int | None = None  # what want of memory has set: tokens of texts, rows of anything else

    def rows(self, batch: Batch) -> int:
        """How many rows of a batch pass at once."""
        limits = [self.most, self.tokens if batch.width > 1 else None]
        allowed = [max(self.least, limit // batch.width) for limit in limits if limit is not None]
        return min([len(batch), *allowed])

    def pieces(self, batch: Batch) -> list[Batch]:
        """The batch in parts of like size that fit; where `least` is 2, a last row goes with the part before it."""
        count, rows = len(batch), self.rows(batch)
        if count <= rows:
            return [batch]
        rows = math.ceil(count / math.ceil(count / rows))
        return [batch.part(places) for places in batch_slices(count, rows, training=self.least > 1)]

    def halve(self, piece: Batch, doing: str) -> None:
        """Memory ran out on a piece. Raises TrainingError when there is nothing left to halve."""
        count, width = len(piece), piece.width
        fewer = max(self.least, count // 2)
        if fewer >= count:
            raise TrainingError(
                f"out of memory while {doing} {_sized(count, width)} at once, which is the fewest",
                hint="Choose a smaller backbone, backbone.image_size or backbone.max_length, or tuning.method = "
                "'partial' or 'lora'; and look whether other processes use the same memory.",
            )
        self.most = fewer * width
        going = fewer if width == 1 else f"{self.most:,} tokens"
        self.tell(f"out of memory while {doing} {_sized(count, width)} at once: going on with {going}")
        release_memory()


def _sized(rows: int, width: int) -> str:
    some = f"{rows} row{'s' if rows > 1 else ''}"
    return some if width == 1 else f"{some} of {width} tokens"


def each_piece(
    batches: Iterable[Batch], forward: Callable[[Batch], T], limit: MicroBatcher
) -> Iterator[tuple[Batch, T]]:
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
            limit.halve(waiting[0], "passing")  # out of the handler, whose traceback holds on to tensors
            waiting = [piece for part in waiting for piece in limit.pieces(part)]

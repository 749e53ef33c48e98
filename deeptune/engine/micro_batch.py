"""Memory that is freed is used again; and when it runs out: less at a time, the same result."""

from __future__ import annotations

import ctypes
import functools
import gc
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

import torch

from deeptune.data.loader import Batch, batch_slices
from deeptune.errors import TrainingError

T = TypeVar("T")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)

# What PyTorch's CPU allocators and oneDNN say; only a GPU's has a class of its own.
_CPU_WORDS = re.compile(
    r"can't allocate memory|not enough memory|Cannot allocate memory|failed to allocate|"
    r"could not create a (primitive$|memory)"
)


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and _CPU_WORDS.search(str(error).strip()) is not None


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep what is freed, for the next step.

    glibc gives large blocks back at once, so that each step has every page of its activations mapped and zeroed anew:
    without that a step of ResNet-18 (96 px) took 0.74 of the time, one of MiniLM 0.93 (2 cores). Elsewhere this does
    nothing.
    """
    _libc("mallopt", _MMAP_THRESHOLD, 32 << 20)  # the most that glibc itself raises it to
    _libc("mallopt", _TRIM_THRESHOLD, 2**31 - 1)


def give_freed_memory_back() -> None:
    """As glibc does by default, from now on."""
    _libc("mallopt", _MMAP_THRESHOLD, 128 * 1024)
    _libc("mallopt", _TRIM_THRESHOLD, 128 * 1024)
    _libc("malloc_trim", 0)


def _libc(name: str, *arguments: int) -> None:
    """Call a function of glibc's, where there is one."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), name)(*arguments)


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
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        give_freed_memory_back()


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

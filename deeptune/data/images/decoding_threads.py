"""Threads that decode images: PIL does so without the interpreter's lock."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from deeptune.environment import cores

MAX_THREADS = 16
HANDED = 4  # images that a thread takes at once: to hand over a small one takes a tenth of its decoding

T = TypeVar("T")
V = TypeVar("V")


@contextmanager
def decoding_threads() -> Iterator[ThreadPoolExecutor]:
    """Run threads that decode for as long as the block runs. Warnings of PIL are not shown."""
    with warnings.catch_warnings(), ThreadPoolExecutor(min(MAX_THREADS, cores())) as threads:
        warnings.simplefilter("ignore")
        yield threads


def each_image(do: Callable[[V], T], values: Sequence[V], threads: ThreadPoolExecutor) -> list[T]:
    """Apply `do` to each of some encoded images, or to their rows, in order."""
    parts = [values[start : start + HANDED] for start in range(0, len(values), HANDED)]
    return [found for part in threads.map(lambda part: [do(value) for value in part], parts) for found in part]

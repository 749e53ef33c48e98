"""A hash of each sample, found where samples are read anyway: the identical ones share it.

The hash 0 stands for no sample: one that is null, or that can't be used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

HASH = np.dtype("<u8")  # two different samples of 10 million share a hash in one of 370,000 such data sets
_PARTS = 16  # parts that threads share; large samples are hashed without the interpreter's lock


def content_hashes(values: pa.Array, threads: ThreadPoolExecutor) -> np.ndarray:
    """Return the first 64 bits of the BLAKE2b digest of each text or encoded image (uint64 (N,)); 0 for a null."""
    size = max(1, -(-len(values) // _PARTS))
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    return np.concatenate([np.zeros(0, HASH), *threads.map(_hashes, parts)])


def sample_hashes(columns: Sequence[pa.Array], threads: ThreadPoolExecutor) -> np.ndarray:
    """Return `content_hashes` of samples that one column holds, or several together; 0 where one of them is null."""
    return joined_hashes([content_hashes(values, threads) for values in columns])


def joined_hashes(found: Sequence[np.ndarray]) -> np.ndarray:
    """Return the hashes (uint64 (N,)) of samples that are made of several parts, by those of the parts."""
    if len(found) == 1:
        return found[0]
    whole = np.stack(found, axis=1)
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in whole)
    return np.where((whole == 0).any(axis=1), 0, np.frombuffer(digests, HASH)).astype(HASH)


def _hashes(values: pa.Array) -> np.ndarray:
    buffers = (value.as_buffer() for value in values)
    digests = (bytes(8) if one is None else hashlib.blake2b(one, digest_size=8).digest() for one in buffers)
    return np.frombuffer(b"".join(digests), HASH)

"""Samples that are identical, byte for byte: a hash of each, found where samples are read anyway, and what follows.

The hash 0 stands for no sample: one that is null, or that can't be used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

HASH = np.dtype("<u8")  # two different samples of 10 million share a hash in one of 370,000 such data sets
_PARTS = 16  # that threads share; large samples are hashed without the interpreter's lock


def content_hashes(values: pa.Array, threads: ThreadPoolExecutor) -> np.ndarray:
    """The first 64 bits of the BLAKE2b digest of each text or encoded image (uint64 (N,)); 0 for a null."""
    size = max(1, -(-len(values) // _PARTS))
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    return np.concatenate([np.zeros(0, HASH), *threads.map(_hashes, parts)])


def sample_hashes(columns: Sequence[pa.Array], threads: ThreadPoolExecutor) -> np.ndarray:
    """`content_hashes` of samples that one column holds, or several together; 0 where one of them is null."""
    return joined_hashes([content_hashes(values, threads) for values in columns])


def joined_hashes(found: Sequence[np.ndarray]) -> np.ndarray:
    """The hashes (uint64 (N,)) of samples that are made of several parts, by those of the parts."""
    if len(found) == 1:
        return found[0]
    whole = np.stack(found, axis=1)
    digests = b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in whole)
    return np.where((whole == 0).any(axis=1), 0, np.frombuffer(digests, HASH)).astype(HASH)


def _hashes(values: pa.Array) -> np.ndarray:
    buffers = (value.as_buffer() for value in values)
    digests = (bytes(8) if one is None else hashlib.blake2b(one, digest_size=8).digest() for one in buffers)
    return np.frombuffer(b"".join(digests), HASH)


def twins(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which samples are identical to one of `others` (bool (N,)), by the hashes of both."""
    return (hashes != 0) & np.isin(hashes, others)


def duplicate_sets(hashes: np.ndarray) -> np.ndarray:
    """The number of the set of identical samples that each sample is in (int64 (N,)): 1, 2, …; 0 for a unique one."""
    _, sets, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    repeated = (counts[sets] > 1) & (hashes != 0)
    numbers = np.zeros(len(hashes), np.int64)
    numbers[repeated] = np.unique(sets[repeated], return_inverse=True)[1] + 1
    return numbers


def conflicting(sets: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Which samples are identical to another one that has another target (bool (N,)), by their `duplicate_sets`."""
    if targets.ndim > 1:
        targets = np.unique(np.nan_to_num(targets), axis=0, return_inverse=True)[1].ravel()
    lowest = np.full(sets.max(initial=0) + 1, np.inf)
    highest = -lowest
    repeated = sets > 0
    np.minimum.at(lowest, sets[repeated], targets[repeated])
    np.maximum.at(highest, sets[repeated], targets[repeated])
    return repeated & (lowest < highest)[sets]


def kept_together(hashes: np.ndarray, groups: np.ndarray | None) -> np.ndarray | None:
    """Codes (int64 (N,)) of groups in which identical samples are together, and so are the rows of each of `groups`.

    None without `groups` and duplicates: every row is then by itself.
    """
    sets = duplicate_sets(hashes)
    if not sets.any():
        return groups
    own = np.where(sets > 0, sets - 1, sets.max() + np.arange(len(sets)))  # a set of its own for each unique sample
    if groups is None:
        return own
    from scipy.sparse import coo_array  # a tenth of a second
    from scipy.sparse.csgraph import connected_components

    # A graph of groups and sets, in which a row links its group with its set.
    group = np.unique(groups, return_inverse=True)[1]
    size = group.max() + 1 + own.max() + 1
    links = coo_array((np.ones(len(own), np.int8), (group, group.max() + 1 + own)), shape=(size, size))
    return connected_components(links, directed=False)[1][group].astype(np.int64)

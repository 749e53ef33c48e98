"""The order in which an epoch goes through its rows, and where it is cut into batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from deeptune.data.loading.tokenise import padded_width
from deeptune.spec.estimate import batch_count

WINDOW = 4096  # rows sorted by length together, so that their order can be restored with little memory
POOL = 100  # batches sorted by length together: about 2% of their tokens are padding, 4% with 50


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """Return the order (int64 permutation of n) in which a shuffled epoch goes through the rows."""
    return torch.randperm(n, generator=_generator(seed, epoch))


def batch_slices(n: int, batch_size: int, *, training: bool) -> list[slice]:
    """Cut n places into batches. The last, shorter batch is kept.

    In training there are as many as `batch_count` says.
    """
    starts = list(range(0, n, batch_size))
    if training:
        starts = starts[: batch_count(n, batch_size)]
    return [slice(start, end) for start, end in itertools.pairwise([*starts, n])]


def windowed_order(lengths: Tensor) -> Tensor:
    """Return the order (int64 permutation) from short to long within each WINDOW of rows, one window after the other.

    lengths: int64 (n,). What comes out in this order can be put back into that of the rows window by window.
    """
    windows = np.arange(len(lengths)) // WINDOW
    return torch.from_numpy(np.lexsort((lengths.numpy(), windows)))


def bucketed_order(lengths: Tensor, batch_size: int, seed: int, epoch: int) -> Tensor:
    """Order rows as `epoch_order`, but rows of similar length meet in the batches of `batch_slices`.

    lengths: int64 (n,). The shuffled rows are split into pools of up to POOL batches. Each pool is sorted by length and
    cut, and the batches of the whole epoch are shuffled. So a row may come at any time, with any neighbours of about
    its length. There are at least two pools, as the rows of a single pool would meet in every epoch.
    """
    n = len(lengths)
    generator = _generator(seed, epoch)
    order = torch.randperm(n, generator=generator)
    last = batch_slices(n, batch_size, training=True)[-1:]
    odd = last[0].stop - last[0].start if last else 0  # rows of the last batch: fewer as a rule, or one more
    count = (n - odd) // batch_size
    if count == 0:
        return order
    pools = min(count, max(2, -(-(count + 1) // POOL)))
    ends = np.linspace(0, count, pools + 1).round().astype(int) * batch_size
    ranked = [some[lengths[some].argsort(stable=True)] for some in torch.tensor_split(order, ends[1:-1].tolist())]
    # The last batch is a window anywhere in the last pool (it may go round the end), lest it always hold the longest.
    pool = ranked.pop()
    start = torch.randint(len(pool), (1,), generator=generator)
    apart = (torch.arange(len(pool)) - start) % len(pool) < odd
    whole = torch.cat([*ranked, pool[~apart]]).view(count, batch_size)
    return torch.cat([whole[torch.randperm(count, generator=generator)].flatten(), pool[apart]])


def padded_share(lengths: np.ndarray, slices: list[slice], width: Callable[[int], int] = padded_width) -> float:
    """Return padding tokens over all tokens when rows of these lengths, in an epoch's order, are cut into batches.

    `width` is how wide a batch gets with its longest text.
    """
    total = sum(width(int(lengths[places].max())) * (places.stop - places.start) for places in slices)
    return 1 - int(lengths.sum()) / total if total else 0.0


def _generator(seed: int, epoch: int) -> torch.Generator:
    mixed = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) >> 1)

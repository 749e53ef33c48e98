"""Opening the samples of a source, of whichever modality they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deeptune.data.cache.entry import Cache
from deeptune.data.loading.samples import Samples
from deeptune.data.modalities import MODALITIES
from deeptune.data.modalities.base import NO_NEED, Need, Progress
from deeptune.data.sources.source import Source
from deeptune.spec.modalities import Input

if TYPE_CHECKING:
    from deeptune.backbones.preprocessing import Preprocessing


def open_samples(
    source: Source,
    input: Input,
    preprocessing: Preprocessing,
    *,
    cache: Cache | None = None,
    need: Need = NO_NEED,
    progress: Progress | None = None,
) -> Samples:
    """Decode or tokenise the input columns, or find what an earlier run stored.

    The result is stored in `cache`: token ids; pixels if they take up to half of the cache's limit, else images as they
    are encoded. `need` says what images must be kept for. If the disk does not take the samples they are kept in
    memory. `progress(done, total)` counts rows. Raises DataError if neither has room.
    """
    modality = MODALITIES[preprocessing.modality]
    return modality.open_samples(source, input, preprocessing, cache=cache, need=need, progress=progress)

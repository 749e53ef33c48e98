"""Opening the samples of a source, of whichever modality they are."""

from __future__ import annotations

from deeptune.data.cache.entry import Cache
from deeptune.data.loading.image_samples import open_images
from deeptune.data.loading.image_text_samples import ImagesWithTexts
from deeptune.data.loading.preprocessing import ImagePreprocessing, ImageTextPreprocessing, Preprocessing
from deeptune.data.loading.samples import Samples, filled
from deeptune.data.loading.text_samples import Texts
from deeptune.data.modalities import MODALITIES
from deeptune.data.modalities.base import NO_NEED, Need
from deeptune.data.sources.source import Source
from deeptune.progress import Progress
from deeptune.spec.modalities import Input


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
    if isinstance(preprocessing, ImagePreprocessing):
        return open_images(source, input, preprocessing, cache=cache, need=need, progress=progress)
    if not isinstance(preprocessing, ImageTextPreprocessing):
        return filled(Texts(source, input, preprocessing), cache, progress)
    parts = MODALITIES[preprocessing.modality].parts(input)
    opened = {}  # each has an entry of its own in the cache: that of a run on this part alone
    for number, (name, (_, columns)) in enumerate(parts.items()):
        step = progress and _half(progress, number)
        opened[name] = open_samples(
            source, columns, getattr(preprocessing, name), cache=cache, need=need, progress=step
        )
    return ImagesWithTexts(source, input, opened)


def _half(progress: Progress, number: int) -> Progress:
    """Return the progress of the first or the second of two passes over the same rows."""
    return lambda done, total: progress((number * total + done) // 2, total)

"""Samples of a source as a backbone takes them: decoded or tokenised once, in one pass over the file, and stored.

`data/modalities/` checks samples; `image_samples.py` and `text_samples.py` here make the stored form. It is stored on
disk, for later runs too (`data/cache/`), or in memory where the disk has no room. The result of the check is stored
with it, so that a stored sample needs no second check.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from deeptune import __version__
from deeptune.data.cache.disk_records import EntryRequest, open_records
from deeptune.data.cache.entry import Cache, CacheRefused, key_of
from deeptune.data.cache.records import Damaged, MemoryRecords, Records, TooLarge
from deeptune.data.cache.sample_hashes import sample_hashes
from deeptune.data.images.decoding_threads import decoding_threads
from deeptune.data.modalities.base import BAD, BLANK, CLIPPED, DEEP, ColumnModality, Piece
from deeptune.data.modalities.checked_samples import AT_ONCE, CheckedSamples, fitting, stream_input
from deeptune.data.sources.column_stream import room
from deeptune.data.sources.source import Source
from deeptune.errors import DataError
from deeptune.formatting import counted, size_text
from deeptune.progress import Progress
from deeptune.spec.modalities import Input, columns_of, input_words

if TYPE_CHECKING:
    from deeptune.data.loading.dataset import Inputs, SampleOptions

MEMORY_SHARE = 0.5  # largest share of free memory for samples that the disk can't hold
AnySamples = TypeVar("AnySamples", bound="StoredSamples")


class Samples(CheckedSamples, ABC):
    """All rows of the input columns, as a backbone, or two of them, take them."""

    def __init__(self, source: Source, input: Input) -> None:
        super().__init__()
        self.source, self.input = source, input

    @property
    @abstractmethod
    def parts(self) -> dict[str, Samples]:
        """Those of each modality that the samples are made of, by its name."""

    def blank_in(self, part: str, blank: frozenset[int]) -> frozenset[int]:
        """Find which of the rows that pass as an empty sample have an empty one in a part."""
        return blank

    @abstractmethod
    def inputs(self, options: SampleOptions) -> Inputs:
        """Make the inputs of a dataset."""

    def remarks(self, rows: np.ndarray) -> list[str]:
        """Say what a person should know about some usable rows."""
        return []

    def unusable(self, row: int) -> DataError:
        return DataError(
            f"{self.source.key}: {self.source.where(row)} {self.reasons[row]}",
            hint='Repair it, or set on_bad_sample to "skip" or "blank".',
        )


class StoredSamples(Samples):
    """Samples of one modality, each of which is stored as bytes."""

    modality: ClassVar[ColumnModality]
    done: ClassVar[str]  # what happened to each row, as in "12 samples were decoded"
    decodes = False  # whether each reading has something to decode
    at_once = AT_ONCE  # rows made between two reports of progress

    def __init__(self, source: Source, input: Input) -> None:
        super().__init__(source, input)
        self.records: Records

    @property
    def parts(self) -> dict[str, Samples]:
        return {self.modality.info.name: self}

    @abstractmethod
    def make(self, piece: Piece, threads: ThreadPoolExecutor) -> tuple[bytes, np.ndarray, np.ndarray]:
        """Make the stored form of some values: their bytes end to end, the length of each, and its flags."""

    @abstractmethod
    def ingredients(self) -> dict[str, Any]:
        """Return everything but the data that decides the stored form. Raises CacheRefused where that is unknown."""

    @abstractmethod
    def about(self) -> str:
        """Return the description of the cache entry that people see."""

    @property
    @abstractmethod
    def expected_bytes(self) -> int: ...

    def read(self, row: int, into: np.ndarray | None = None) -> np.ndarray:
        """Read the stored form of a row (uint8). A damaged row is made again."""
        try:
            return self.records.read(row, into)
        except Damaged:
            self.source.require_unchanged()
            values = {name: self.source.take(name, np.array([row])).combine_chunks() for name in columns_of(self.input)}
            with decoding_threads() as threads:
                piece = self.modality.piece(self.source, values, row, threads)
                found = np.frombuffer(self.make(piece, threads)[0], np.uint8)
            if into is None:
                return found.copy()
            into.reshape(-1)[:] = found
            return into

    @abstractmethod
    def reason(self, row: int) -> str:
        """Say why a row with a BAD or BLANK flag can't be used."""


def filled(samples: AnySamples, cache: Cache | None, progress: Progress | None) -> AnySamples:
    """Make the samples on disk, or in memory if there is no cache or it has no room."""
    refused = None
    if cache is not None:
        try:
            return stored(samples, cache, progress)
        except CacheRefused as error:
            refused = error
    source = samples.source
    try:
        _fill(samples, MemoryRecords(source.num_rows, MEMORY_SHARE * room()), progress)
    except TooLarge as error:
        because = f", and the cache can't be used, because {refused}" if refused else ""
        raise DataError(
            f"{source.key}: the samples of {input_words(samples.input)} do not fit in memory: {error}, half of what is "
            f"free{because}",
            hint="Give the cache room: DEEPTUNE_CACHE names its folder, DEEPTUNE_CACHE_LIMIT its size.",
        ) from error
    return samples


def stored(samples: AnySamples, cache: Cache, progress: Progress | None) -> AnySamples:
    """Make the samples on disk. Raises CacheRefused."""
    source, ingredients = samples.source, samples.ingredients()
    ingredients |= {"data": source.fingerprint(), "input": samples.input}
    what = {
        "what": f"{samples.about()}: {source.name} ({', '.join(columns_of(samples.input))})",
        "data": source.describe(),
        "ingredients": ingredients,
    }
    request = EntryRequest("samples", key_of(ingredients), source.num_rows, samples.expected_bytes, what)
    records = open_records(cache, request)
    found = int(records.done.sum())
    try:
        _fill(samples, records, progress)
    except CacheRefused:
        cache.discard(records)
        raise
    if found == records.count:
        cache.tell(f"all {found:,} samples were in the cache: none is {samples.done} again ({samples.about()})")
    else:
        before = f" ({found:,} more were in the cache)" if found else ""
        new = records.count - found
        done = f"{counted(new, 'sample was', 'samples were')} {samples.done} once{before}"
        cache.tell(f"{done} and {'is' if new == 1 else 'are'} kept: {samples.about()}, {size_text(records.size)}")
    return samples


def _fill(samples: StoredSamples, records: Records, progress: Progress | None) -> None:
    """Make the rows that are missing. What was made stays if something interrupts it."""
    samples.records = records
    try:
        _make_missing(samples, records, progress)
    except BaseException:
        with suppress(CacheRefused):
            records.flush()
        raise
    records.settle()
    for row in np.flatnonzero(records.flags & (BAD | BLANK)).tolist():
        samples.reasons[row] = samples.reason(row)
    for row in np.flatnonzero(records.flags & DEEP).tolist():
        low, high = samples.read(row).view(np.float64).tolist()
        samples.deep[row] = low, high
    samples.clipped = np.flatnonzero(records.flags & CLIPPED).tolist()
    samples.hashes = records.hashes


def _make_missing(samples: StoredSamples, records: Records, progress: Progress | None) -> None:
    source, input, missing = samples.source, samples.input, records.missing()
    if not len(missing):
        return
    start, rows = int(missing[0]), samples.at_once
    with fitting(source, input), decoding_threads() as threads:
        for first, piece in stream_input(source, input, samples.modality, threads, start=start, rows=rows):
            places = np.arange(first, first + len(piece))
            wanted = ~records.done[places]
            if wanted.any():
                some = piece if wanted.all() else piece.take(np.flatnonzero(wanted))
                data, lengths, flags = samples.make(some, threads)
                hashes = sample_hashes(list(some.columns.values()), threads)
                records.put(places[wanted], data, lengths, flags, hashes)
            if progress:
                progress(first + len(piece), records.count)


def versions_of(*packages: str) -> dict[str, str]:
    """Return the versions of DeepTune and of packages that decode or tokenise: another version may do it otherwise."""
    return {"deeptune": __version__} | {name: version(name) for name in packages}

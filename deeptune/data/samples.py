"""The samples of a source as a backbone takes them: decoded or tokenised once, in one passage of the file, and kept.

    pixels     images after resizing and cropping, uint8 (3, S, S): nothing is decoded after this passage
    encoded    images as they are in the file, where the pixels would take too much room, or training changes each image
    tokens     token ids, int32

What is kept is on disk, for later runs too (`store.py`), or in memory where that has no room. With each row goes what
was found when it was checked, so that what is on the disk needs no check.
"""

from __future__ import annotations

import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deeptune import __version__
from deeptune.arrow import texts
from deeptune.data.columns import TooLarge, room
from deeptune.data.decode import Picture, RangeUnknown, decode_quietly
from deeptune.data.depth import Range
from deeptune.data.duplicates import content_hashes
from deeptune.data.entries import Cache, CacheRefused, cache_limit, key_of, size_text
from deeptune.data.images import LEAST, resize_crop
from deeptune.data.inputs import (
    AT_ONCE,
    NOT_UTF8,
    Checked,
    Piece,
    Progress,
    cores,
    decoding_threads,
    each_image,
    fitting,
    image_findings,
    input_piece,
    stream_input,
    text_reasons,
)
from deeptune.data.source import SMALL, Source
from deeptune.data.store import Damaged, DiskStore, MemoryStore, Store, open_store
from deeptune.data.text import tokenise, tokenizer_identity
from deeptune.errors import DataError

if TYPE_CHECKING:
    from deeptune.backbones.base import ImagePreprocessing, TextPreprocessing

PIXELS_SHARE = 0.5  # of the cache's limit: what the pixels of one source may take
MEMORY_SHARE = 0.5  # of the memory that is free: what samples may take that the disk does not
TEXTS_AT_ONCE = 2048
LETTERS_AT_ONCE = 4_000_000
RATE = 2000  # images a second that a GPU is thought to take
MOST_WORKERS = 8
LEAST_AND_GREATEST = "least and greatest values"  # what is kept of images of more than 8 bits before a range is known
_Made = str | Range | tuple[bytes, bool]  # the reason why not, the extremes, or what is kept and whether it was clipped
_BAD, _BLANK, _CUT, _NOT_UTF8, _DEEP, _CLIPPED = 1, 2, 4, 8, 16, 32  # flags of a row


class Samples(Checked, ABC):
    """All rows of an input column."""

    decodes = False  # whether there is work left for each reading
    at_once = AT_ONCE  # rows that are made between two reports of progress

    def __init__(self, source: Source, input: str) -> None:
        super().__init__()
        self.source, self.input = source, input
        self.store: Store

    @abstractmethod
    def make(self, piece: Piece, threads: ThreadPoolExecutor) -> tuple[bytes, np.ndarray, np.ndarray]:
        """What is kept of some values of the column: bytes end to end, the length of each, its flags."""

    @abstractmethod
    def ingredients(self) -> dict[str, Any]:
        """All that decides what is kept, but for the data. Raises CacheRefused where it can't be told."""

    @abstractmethod
    def about(self) -> str:
        """What is kept, for a person who looks at the cache."""

    @property
    @abstractmethod
    def expected_bytes(self) -> int: ...

    def read(self, row: int, into: np.ndarray | None = None) -> np.ndarray:
        """What is kept of a row (uint8). What was damaged since is made again."""
        try:
            return self.store.read(row, into)
        except Damaged:
            self.source.require_unchanged()
            values = self.source.take(self.input, np.array([row])).combine_chunks()
            with decoding_threads() as threads:
                piece = input_piece(self.source, values, row, threads)
                found = np.frombuffer(self.make(piece, threads)[0], np.uint8)
            if into is None:
                return found.copy()
            into.reshape(-1)[:] = found
            return into

    def unusable(self, row: int) -> DataError:
        return DataError(
            f"{self.source.key}: {self.source.where(row)} {self.reasons[row]}",
            hint='Repair it, or set on_bad_sample to "skip" or "blank".',
        )


class Images(Samples):
    """Encoded images. Values of more than 8 bits are scaled from `value_range`; without one, such a row holds its least
    and greatest value (float64)."""

    decodes = True

    def __init__(
        self, source: Source, input: str, preprocessing: ImagePreprocessing, value_range: Range | None = None
    ) -> None:
        super().__init__(source, input)
        self.preprocessing, self.value_range = preprocessing, value_range
        self.least = LEAST * preprocessing.resize  # pixels that the shorter side of a JPEG keeps where it has more

    def make(self, piece: Piece, threads: ThreadPoolExecutor) -> tuple[bytes, np.ndarray, np.ndarray]:
        findings = image_findings(piece, threads, self.value_range)
        return _joined(
            [
                (value.as_py(), finding) if isinstance(finding, bool) else finding
                for value, finding in zip(piece.values, findings, strict=True)
            ]
        )

    def ingredients(self) -> dict[str, Any]:
        return {"samples": "encoded", "value_range": self.value_range, "versions": _versions("pillow")}

    def about(self) -> str:
        return LEAST_AND_GREATEST if self.deep else "encoded images"

    @property
    def expected_bytes(self) -> int:
        return self.source.claimed_bytes

    def picture(self, row: int, least: int) -> Picture:
        """The image, decoded as `least` says. Raises DataError with where it is and why it can't be used."""
        self.require_usable(row)
        try:
            with warnings.catch_warnings(action="ignore"):
                return decode_quietly(self.read(row).tobytes(), least=least, value_range=self.value_range)
        except DataError as error:
            self.reasons[row] = error.message
            raise self.unusable(row) from None

    def require_usable(self, row: int) -> None:
        if row in self.deep:
            self.reasons[row] = self.bad(np.array([row]))[0].reason
        if row in self.reasons:
            raise self.unusable(row)

    def pixels(self, row: int, into: np.ndarray) -> None:
        """What the backbone takes, uint8 (3, S, S). Raises as `picture` does."""
        into[:] = _prepared(self.picture(row, self.least), self.preprocessing)


class Pixels(Images):
    """Images after their preprocessing."""

    decodes = False

    def make(self, piece: Piece, threads: ThreadPoolExecutor) -> tuple[bytes, np.ndarray, np.ndarray]:
        def pixels(value: pa.Scalar) -> _Made:
            try:
                picture = decode_quietly(value.as_py(), least=self.least, value_range=self.value_range)
                return _prepared(picture, self.preprocessing).tobytes(), picture.clipped
            except RangeUnknown as error:
                return error.extremes
            except DataError as error:
                return error.message

        made = each_image(pixels, piece.values, threads)
        return _joined([piece.unread.get(place, one) for place, one in enumerate(made)])

    def ingredients(self) -> dict[str, Any]:
        p = self.preprocessing
        return {
            "samples": "pixels",
            "size": p.image_size,
            "resize": p.resize,
            "interpolation": p.interpolation,
            "least": self.least,
            "crop": p.crop_mode,
            "fill": p.fill,
            "value_range": self.value_range,
            "versions": _versions("pillow"),
        }

    def about(self) -> str:
        return LEAST_AND_GREATEST if self.deep else f"decoded images, {self.preprocessing.image_size} px"

    @property
    def expected_bytes(self) -> int:
        return self.source.num_rows * 3 * self.preprocessing.image_size**2

    def pixels(self, row: int, into: np.ndarray) -> None:
        self.require_usable(row)
        self.read(row, into)


class Texts(Samples):
    """Token ids."""

    at_once = TEXTS_AT_ONCE

    def __init__(self, source: Source, input: str, preprocessing: TextPreprocessing) -> None:
        super().__init__(source, input)
        self.preprocessing = preprocessing
        self.empty = tokenise([[""]], preprocessing.tokenizer, preprocessing.max_length).ids  # int32

    def make(self, piece: Piece, threads: ThreadPoolExecutor) -> tuple[bytes, np.ndarray, np.ndarray]:
        reasons = text_reasons(piece.values)
        tokens = tokenise(_lists(texts(piece.values)), self.preprocessing.tokenizer, self.preprocessing.max_length)
        marks = {"is null": _BAD, "is blank": _BLANK, NOT_UTF8: _BAD | _NOT_UTF8, None: 0}
        flags = np.array([marks[reason] for reason in reasons], np.uint32) | np.where(tokens.cut, _CUT, 0)
        return tokens.ids.tobytes(), tokens.lengths * 4, flags.astype(np.uint32)

    def ingredients(self) -> dict[str, Any]:
        p = self.preprocessing
        what = {"tokenizer": tokenizer_identity(p.tokenizer), "max_length": p.max_length}
        return {"samples": "tokens", **what, "versions": _versions("transformers", "tokenizers")}

    def about(self) -> str:
        kind = type(self.preprocessing.tokenizer).__name__
        return f"token ids, {kind}, {self.preprocessing.max_length} tokens"

    @property
    def expected_bytes(self) -> int:
        return self.source.claimed_bytes  # a token of 4 bytes stands for about 4 letters

    def require_texts(self, rows: np.ndarray) -> None:
        """Raise DataError for the first of some rows whose text is null."""
        null = rows[self.store.flags[rows] & _BAD != 0]
        if len(null):
            raise self.unusable(int(null[0]))

    def ids(self, row: int, blank: AbstractSet[int] = frozenset()) -> np.ndarray:
        """int32; those of no text for rows in `blank`."""
        return self.empty if row in blank else self.read(row).view(np.int32)

    def lengths(self, rows: np.ndarray, blank: AbstractSet[int] = frozenset()) -> np.ndarray:
        """Tokens of each of some rows, as kept (int64)."""
        empty = np.isin(rows, list(blank))
        return np.where(empty, len(self.empty), self.store.lengths[rows] // 4)

    def cut(self, rows: np.ndarray, blank: AbstractSet[int] = frozenset()) -> int:
        """How many of some rows lost tokens to the greatest length."""
        return int(((self.store.flags[rows] & _CUT != 0) & ~np.isin(rows, list(blank))).sum())


def open_samples(
    source: Source,
    input: str,
    preprocessing: ImagePreprocessing | TextPreprocessing,
    *,
    cache: Cache | None = None,
    augmented: bool = False,
    value_range: Range | None = None,
    progress: Progress | None = None,
) -> Images | Texts:
    """Decode or tokenise an input column, or find what an earlier run kept of it.

    With a `cache` what is made is kept there: token ids, and pixels where these take at most half of the cache's
    limit; larger images as they are encoded. `augmented` asks for the images in full. Images of more than 8 bits need
    a `value_range`: without it they are listed in `deep`. What the disk does not take is kept in memory if it fits.
    `progress(done, total)` counts rows. Raises DataError where neither has room.
    """
    if hasattr(preprocessing, "tokenizer"):
        return _filled(Texts(source, input, preprocessing), cache, progress)  # type: ignore[arg-type]
    pixels = Pixels(source, input, preprocessing, value_range)  # type: ignore[arg-type]
    if cache is not None and not augmented:
        with suppress(CacheRefused):
            if pixels.expected_bytes <= PIXELS_SHARE * cache_limit():
                return _stored(pixels, cache, progress)
    samples = Images(source, input, preprocessing, value_range)  # type: ignore[arg-type]
    large = source.claimed_bytes > SMALL or source.named is not None
    return _filled(samples, cache if large else None, progress)


def decoding_workers(samples: Images | Texts) -> int:
    """Processes that decode `RATE` images a second, as a few of the images say; 0 where one process does so anyway,
    and never more than cores to spare."""
    rows = np.unique(np.linspace(0, samples.source.num_rows - 1, 32).astype(int)).tolist()
    usable = [row for row in rows if row not in samples.reasons]
    if not usable or not isinstance(samples, Images):
        return 0
    into = np.empty((3, samples.preprocessing.image_size, samples.preprocessing.image_size), np.uint8)
    started = time.perf_counter()
    for row in usable:
        samples.pixels(row, into)
    needed = RATE * (time.perf_counter() - started) / len(usable)
    return min(0 if needed < 0.5 else math.ceil(needed), MOST_WORKERS, cores() - 1)


def _filled(samples: Images | Texts, cache: Cache | None, progress: Progress | None) -> Images | Texts:
    """On disk, or in memory where there is no cache or it has no room."""
    refused = None
    if cache is not None:
        try:
            return _stored(samples, cache, progress)
        except CacheRefused as error:
            refused = error
    source = samples.source
    most = MEMORY_SHARE * room()
    try:
        _fill(samples, MemoryStore(source.num_rows, most), progress)
    except TooLarge as error:
        because = f", and the cache can't be used, because {refused}" if refused else ""
        raise DataError(
            f"{source.key}: the samples of column {samples.input!r} do not fit in memory: {error}, half of what is "
            f"free{because}",
            hint="Give the cache room: DEEPTUNE_CACHE names its folder, DEEPTUNE_CACHE_LIMIT its size.",
        ) from error
    return samples


def _stored(samples: Images | Texts, cache: Cache, progress: Progress | None) -> Images | Texts:
    """On disk. Raises CacheRefused."""
    source, ingredients = samples.source, samples.ingredients()
    ingredients |= {"data": source.fingerprint(), "input": samples.input}
    what = {
        "what": f"{samples.about()}: {source.name} ({samples.input})",
        "data": source.describe(),
        "ingredients": ingredients,
    }
    store = open_store(cache, key_of(ingredients), source.num_rows, samples.expected_bytes, what)
    found = store.count
    try:
        _fill(samples, store, progress)
    except CacheRefused:
        cache.discard(store)
        raise
    done = "tokenised" if isinstance(samples, Texts) else "decoded" if isinstance(samples, Pixels) else "checked"
    if found == store.rows:
        cache.tell(f"all {found:,} samples were in the cache: none is {done} again ({samples.about()})")
    else:
        before = f" ({found:,} more were in the cache)" if found else ""
        cache.tell(
            f"{store.rows - found:,} samples were {done} once{before} and are kept: {samples.about()}, "
            f"{size_text(store.size)}"
        )
    return samples


def _fill(samples: Samples, store: Store, progress: Progress | None) -> None:
    """Add the rows that are missing. What was added stays when something ends it midway."""
    source, input = samples.source, samples.input
    samples.store = store
    try:
        with fitting(source, input), decoding_threads() as threads:
            for _, piece in stream_input(source, input, threads, start=store.count, rows=samples.at_once):
                store.add(*samples.make(piece, threads), content_hashes(piece.values, threads))
                if progress:
                    progress(store.count, store.rows)
    except BaseException:
        if isinstance(store, DiskStore):
            with suppress(CacheRefused):
                store.flush()
        raise
    store.settle()
    for row in np.flatnonzero(store.flags & (_BAD | _BLANK)).tolist():
        samples.reasons[row] = _reason(samples, row)
    for row in np.flatnonzero(store.flags & _DEEP).tolist():
        low, high = samples.read(row).view(np.float64).tolist()
        samples.deep[row] = low, high
    samples.clipped = np.flatnonzero(store.flags & _CLIPPED).tolist()
    samples.hashes = store.hashes


def _reason(samples: Samples, row: int) -> str:
    if isinstance(samples, Texts):
        flags = samples.store.flags[row]
        return NOT_UTF8 if flags & _NOT_UTF8 else "is null" if flags & _BAD else "is blank"
    return samples.read(row).tobytes().decode()


def _lists(values: pa.Array) -> Iterator[list[str]]:
    """Texts in lists of about LETTERS_AT_ONCE bytes: a tokenizer takes many times their size while it works on them."""
    sizes = pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    numbers = (np.cumsum(sizes) - sizes) // LETTERS_AT_ONCE
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
        yield [text or "" for text in values.slice(start, end - start).to_pylist()]


def _joined(made: Sequence[_Made]) -> tuple[bytes, np.ndarray, np.ndarray]:
    """What is kept of images: their bytes, or in a flagged row the reason why there are none, or the extremes."""
    parts, flags = [], []
    for one in made:
        if isinstance(one, str):
            part, flag = one.encode(), _BAD
        elif isinstance(one[0], float):
            part, flag = np.array(one, np.float64).tobytes(), _DEEP
        else:
            part, flag = one[0], _CLIPPED if one[1] else 0
        parts.append(part)
        flags.append(flag)
    return b"".join(parts), np.array([len(part) for part in parts], np.int64), np.array(flags, np.uint32)


def _prepared(picture: Picture, preprocessing: ImagePreprocessing) -> np.ndarray:
    """uint8 (3, S, S), a view of (S, S, 3)"""
    p = preprocessing
    cropped = resize_crop(
        picture,
        resize=p.resize,
        image_size=p.image_size,
        interpolation=p.interpolation,
        crop_mode=p.crop_mode,
        fill=p.fill,
    )
    return np.asarray(cropped).transpose(2, 0, 1)


def _versions(*packages: str) -> dict[str, str]:
    """Of what decodes and tokenises: another version may do it otherwise."""
    return {"deeptune": __version__} | {name: version(name) for name in packages}

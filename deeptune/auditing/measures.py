"""One pass over the samples: what can't be used, hashes, sizes, and small pictures or texts that the checks compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from PIL import Image

from deeptune.arrow import texts
from deeptune.data.cache.sample_hashes import HASH, sample_hashes
from deeptune.data.images.bit_depth import Range, range_of
from deeptune.data.images.decode import Header, RangeUnknown, decode_quietly, read_header
from deeptune.data.images.decoding_threads import decoding_threads, each_image
from deeptune.data.modalities import MODALITIES, Modality, Piece
from deeptune.data.modalities.checked_samples import fitting, stream_input
from deeptune.data.modalities.text import reason_of, text_flags
from deeptune.data.sources.source import Source
from deeptune.errors import DataError
from deeptune.progress import Progress
from deeptune.spec.modalities import Input

SIDE = 32  # pixels of the small grey picture that near duplicates are found by
COLOURS = 8  # pixels of the small picture in colours
AT_ONCE = 256
_LEAST = 64  # pixels on a side that a JPEG is decoded to, at least


@dataclass(frozen=True)
class ImageFacts:
    """The facts of one image: its header, whether all its pixels are alike, and two small pictures of it.

    `grey` is uint8 (SIDE, SIDE), `colours` uint8 (COLOURS, COLOURS, 3).
    """

    header: Header
    flat: bool
    grey: np.ndarray
    colours: np.ndarray


@dataclass
class Measures:
    """The measures of the samples of all rows, in one order.

    `reasons` say, by place, why a sample can't be used. `data/cache/sample_hashes.py` makes `hashes` (uint64 (N,)).
    `sizes` (int64 (N,)) are the bytes of each sample. `images` and `texts` have an entry for each row, None where there
    is none, for the modality that the data is of; both are empty for others.
    """

    reasons: dict[int, str] = field(default_factory=dict)
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, HASH))
    sizes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    images: list[ImageFacts | None] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)

    @property
    def usable(self) -> np.ndarray:
        """Which rows have a sample (bool (N,))."""
        mask = np.ones(len(self.hashes), bool)
        mask[list(self.reasons)] = False
        return mask


def measure(
    sources: Sequence[Source],
    input: Input,
    modality: str,
    *,
    value_range: Range | None = None,
    progress: Progress | None = None,
) -> Measures:
    """Read and decode each sample once. `progress(done, total)` counts rows. Raises DataError as `Source.stream`."""
    found, total, first = Measures(), sum(source.num_rows for source in sources), 0
    hashes, sizes = np.zeros(total, HASH), np.zeros(total, np.int64)
    kind = MODALITIES[modality]
    look = _LOOKS.get(modality, _only_findings)
    for source in sources:
        with fitting(source, input), decoding_threads() as threads:
            for start, piece in stream_input(source, input, kind, threads, rows=AT_ONCE):
                at = slice(first + start, first + start + len(piece))
                columns = list(piece.columns.values())
                hashes[at] = sample_hashes(columns, threads)
                sizes[at] = sum(_sizes(values) for values in columns)
                look(found, at.start, piece, _Tools(kind, threads, value_range))
                if progress:
                    progress(at.stop, total)
        first += source.num_rows
    hashes[list(found.reasons)] = 0
    found.hashes, found.sizes = hashes, sizes
    return found


@dataclass(frozen=True)
class _Tools:
    """The tools that measuring a piece needs."""

    kind: Modality
    threads: ThreadPoolExecutor
    value_range: Range | None


def _sizes(values: pa.Array) -> np.ndarray:
    """Return the bytes of each value (int64 (N,)), 0 for null."""
    return np.array([0 if (one := value.as_buffer()) is None else one.size for value in values], np.int64)


def _look_at_images(found: Measures, first: int, piece: Piece, means: _Tools) -> None:
    def facts(value: pa.Scalar) -> ImageFacts | str:
        try:
            return image_facts(value.as_py(), means.value_range)
        except DataError as error:
            return error.message

    for at, one in enumerate(each_image(facts, piece.values, means.threads)):
        reason = piece.unread.get(at, one)
        if isinstance(reason, str):
            found.reasons[first + at] = reason
        found.images.append(None if isinstance(reason, str) else reason)


def image_facts(data: bytes | None, value_range: Range | None = None) -> ImageFacts:
    """Decode an image and measure it. Raises DataError with a short reason.

    Without a range, values of more than 8 bits are scaled by the fewest bits that hold them.
    """
    header = read_header(data)
    try:
        picture = decode_quietly(data, least=_LEAST, value_range=value_range).image
    except RangeUnknown as error:
        picture = decode_quietly(data, value_range=range_of([error.extremes])).image
    extremes = picture.getextrema()
    flat = all(high - low <= 1 for low, high in extremes)  # type: ignore[union-attr, misc]
    small = picture.resize(
        (SIDE, SIDE), Image.Resampling.BOX if min(picture.size) >= SIDE else Image.Resampling.BILINEAR
    )
    colours = small.resize((COLOURS, COLOURS), Image.Resampling.BOX)
    return ImageFacts(header, flat, np.asarray(small.convert("L")), np.asarray(colours))


def _look_at_texts(found: Measures, first: int, piece: Piece, _means: _Tools) -> None:
    columns = list(piece.columns.values())
    flags = text_flags(columns).tolist()
    rows = zip(*(texts(values).to_pylist() for values in columns), strict=True)
    names = list(piece.columns)
    for at, (flag, parts) in enumerate(zip(flags, rows, strict=True)):
        reason = reason_of(flag, names)
        if reason is not None:
            found.reasons[first + at] = reason
        found.texts.append(None if reason is not None else "\n".join(parts))


def _only_findings(found: Measures, first: int, piece: Piece, means: _Tools) -> None:
    for at, one in enumerate(means.kind.findings(piece, means.threads, means.value_range)):
        if isinstance(one, str):
            found.reasons[first + at] = one


_LOOKS: dict[str, Callable[[Measures, int, Piece, _Tools], None]] = {
    "image": _look_at_images,
    "text": _look_at_texts,
}

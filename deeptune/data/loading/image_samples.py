"""Images as a backbone takes them.

pixels     images after resizing and cropping, uint8 (3, S, S): nothing is decoded after this passage
encoded    images as they are in the file, where the pixels would take too much room, or training changes each image
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils import data as torch_data

from deeptune.data.cache.entry import Cache, CacheRefused, cache_limit
from deeptune.data.images.bit_depth import Range
from deeptune.data.images.decode import Picture, RangeUnknown, decode_quietly
from deeptune.data.images.decoding_threads import decoding_threads, each_image
from deeptune.data.images.transforms import OVERSAMPLING, Augmentation, blank_image, resize_crop, to_tensor
from deeptune.data.loading.dataset import Inputs, SampleOptions
from deeptune.data.loading.samples import Samples, StoredSamples, filled, stored, versions_of
from deeptune.data.modalities import COLUMN_MODALITIES
from deeptune.data.modalities.base import BAD, CLIPPED, DEEP, Need, Piece
from deeptune.data.sources.source import SMALL, Source
from deeptune.environment import cores
from deeptune.errors import DataError
from deeptune.progress import Progress
from deeptune.spec.modalities import Input

if TYPE_CHECKING:
    from deeptune.data.loading.preprocessing import ImagePreprocessing

ONE_PROCESS = 4000  # images a second from which on one process is enough
MAX_WORKERS = 32  # processes, at most; each decodes some 250 photos a second
PIXELS_SHARE = 0.5  # largest share of the cache's limit for the pixels of one source
LEAST_AND_GREATEST = "least and greatest values"  # what is kept of images of more than 8 bits before a range is known
_Made = str | Range | tuple[bytes, bool]  # the reason why not, the extremes, or what is kept and whether it was clipped


class Images(StoredSamples):
    """Encoded images.

    Values of more than 8 bits are scaled from `value_range`. Without one, such a row holds its least and greatest value
    (float64).
    """

    modality = COLUMN_MODALITIES["image"]
    decodes = True
    done = "checked"

    def __init__(
        self, source: Source, input: Input, preprocessing: ImagePreprocessing, value_range: Range | None = None
    ) -> None:
        super().__init__(source, input)
        self.preprocessing, self.value_range = preprocessing, value_range
        self.least = (
            OVERSAMPLING * preprocessing.resize
        )  # pixels that the shorter side of a JPEG keeps where it has more

    def make(self, piece: Piece, threads: ThreadPoolExecutor) -> tuple[bytes, np.ndarray, np.ndarray]:
        findings = self.modality.findings(piece, threads, self.value_range)
        return _joined(
            [
                finding if isinstance(finding, str | tuple) else (value.as_py(), bool(finding))
                for value, finding in zip(piece.values, findings, strict=True)
            ]
        )

    def ingredients(self) -> dict[str, Any]:
        return {"samples": "encoded", "value_range": self.value_range, "versions": versions_of("pillow")}

    def about(self) -> str:
        return LEAST_AND_GREATEST if self.deep else "encoded images"

    @property
    def expected_bytes(self) -> int:
        return self.source.claimed_bytes

    def reason(self, row: int) -> str:
        return self.read(row).tobytes().decode()

    def picture(self, row: int, least: int) -> Picture:
        """Return the image, decoded as `least` says. Raises DataError with where it is and why it can't be used.

        The caller silences warnings, as threads share what silences them.
        """
        self.require_usable(row)
        try:
            return decode_quietly(self.read(row).tobytes(), least=least, value_range=self.value_range)
        except DataError as error:
            self.reasons[row] = error.message
            raise self.unusable(row) from None

    def inputs(self, options: SampleOptions) -> Inputs:
        return ImageInputs(self, options)

    def require_usable(self, row: int) -> None:
        if row in self.deep:
            self.reasons[row] = self.bad(np.array([row]))[0].reason
        if row in self.reasons:
            raise self.unusable(row)

    def pixels(self, row: int, into: np.ndarray) -> None:
        """Write the pixels that the backbone takes, uint8 (3, S, S), into `into`. Raises as `picture` does."""
        into[:] = _prepared(self.picture(row, self.least), self.preprocessing)


class Pixels(Images):
    """Images after their preprocessing."""

    decodes = False
    done = "decoded"

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
            "versions": versions_of("pillow"),
        }

    def about(self) -> str:
        return LEAST_AND_GREATEST if self.deep else f"decoded images, {self.preprocessing.image_size} px"

    @property
    def expected_bytes(self) -> int:
        return self.source.num_rows * 3 * self.preprocessing.image_size**2

    def pixels(self, row: int, into: np.ndarray) -> None:
        self.require_usable(row)
        self.read(row, into)


class ImageInputs(Inputs):
    """Images: {"images": uint8 (B, 3, S, S)}."""

    def __init__(self, samples: Images, options: SampleOptions) -> None:
        preprocessing = samples.preprocessing
        self.samples, self.blank, self.size = samples, options.blank, preprocessing.image_size
        self.decodes, self.row_bytes = samples.decodes, 3 * self.size**2
        self.augmentation: Augmentation | None = None
        if options.augmentation != "none":
            self.augmentation = Augmentation(
                options.augmentation,
                image_size=self.size,
                interpolation=preprocessing.interpolation,
                flip=options.flip,
                seed=options.seed,
            )

    def batch(self, rows: np.ndarray, epoch: int) -> dict[str, torch.Tensor]:
        images = torch.empty(len(rows), 3, self.size, self.size, dtype=torch.uint8)

        def fill(one: tuple[torch.Tensor, int]) -> None:
            image, row = one
            if row in self.blank:
                image.copy_(blank_image(self.size))
            elif self.augmentation is None:
                self.samples.pixels(row, image.numpy())
            else:
                picture = self.samples.picture(row, self.augmentation.least)
                image.copy_(to_tensor(self.augmentation(picture.image, epoch=epoch, row=row)))

        places = list(zip(images, rows.tolist(), strict=True))
        # What computes waits for this batch, so all cores are free, unless processes make batches beside it. The
        # generator that augmentation draws from is one for all threads.
        if self.decodes and self.augmentation is None and torch_data.get_worker_info() is None:
            with decoding_threads() as threads:
                each_image(fill, places, threads)
        else:
            with warnings.catch_warnings(action="ignore"):
                for one in places:
                    fill(one)
        return {"images": images}


def open_images(
    source: Source,
    input: Input,
    preprocessing: ImagePreprocessing,
    *,
    cache: Cache | None,
    need: Need,
    progress: Progress | None,
) -> Samples:
    """Open pixels where the cache has room for them and training does not change the images, else encoded images."""
    pixels = Pixels(source, input, preprocessing, need.value_range)
    if cache is not None and not need.augmented:
        with suppress(CacheRefused):
            if pixels.expected_bytes <= PIXELS_SHARE * cache_limit():
                return stored(pixels, cache, progress)
    samples = Images(source, input, preprocessing, need.value_range)
    large = source.claimed_bytes > SMALL or source.named is not None
    return filled(samples, cache if large else None, progress)


def decoding_workers(samples: Images) -> int:
    """Return how many processes decode beside a GPU: all cores but the one that feeds it.

    It is 0 for images that one process decodes faster than a GPU takes them, as a few of them say.
    """
    rows = np.unique(np.linspace(0, samples.source.num_rows - 1, 32).astype(int)).tolist()
    usable = [row for row in rows if row not in samples.reasons]
    if not usable:
        return 0
    into = np.empty((3, samples.preprocessing.image_size, samples.preprocessing.image_size), np.uint8)
    with warnings.catch_warnings(action="ignore"):
        started = time.perf_counter()
        for row in usable:
            samples.pixels(row, into)
    fast = time.perf_counter() - started < len(usable) / ONE_PROCESS
    return 0 if fast else min(MAX_WORKERS, cores() - 1)


def _joined(made: Sequence[_Made]) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Return what is kept of images: bytes, or in a flagged row the reason why there are none, or the extremes."""
    parts, flags = [], []
    for one in made:
        if isinstance(one, str):
            part, flag = one.encode(), BAD
        elif isinstance(one[0], float):
            part, flag = np.array(one, np.float64).tobytes(), DEEP
        else:
            part, flag = one[0], CLIPPED if one[1] else 0
        parts.append(part)
        flags.append(flag)
    return b"".join(parts), np.array([len(part) for part in parts], np.int64), np.array(flags, np.uint32)


def _prepared(picture: Picture, preprocessing: ImagePreprocessing) -> np.ndarray:
    """Resize and crop a picture: uint8 (3, S, S), a view of (S, S, 3)."""
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

"""Images of more than 8 bits: their values, the range that a data set has, and what that makes of them.

A model gets 8-bit pixels. One range for a whole data set becomes 0 … 255, so that a grey value means the same in each
image. Most detectors and exports use 10, 12 or 14 of the 16 bits that a file holds: the range of the file's type would
leave a nearly black image with a few grey levels.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from deeptune.errors import DataError

Range = tuple[float, float]  # the values that become 0 and 255

BITS = (8, 10, 12, 14, 16)
FULL: Range = (0.0, 65535.0)  # what a run used that knows of no range
_SWAPPED = {"16B": "16L", "16L": "16B", "16N": "16B" if np.little_endian else "16L"}  # byte orders
_GREY_WITH_OPACITY = "LA;16B"
_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANAR_CONFIGURATION = 258, 262, 284  # tags of TIFF
_WHITE_IS_ZERO = 0  # photometric interpretation of a negative
_COLOUR = re.compile(r"(RGB|RGBA|RGBX|R|G|B|A);(16[BLN])")
_UNREADABLE = re.compile(r"(RGBa|CMYK);16[BLN]")  # of which Pillow keeps the high bytes, multiplied or as ink


@dataclass(frozen=True)
class Deep:
    """The values of an image of more than 8 bits: (H, W) of grey or (H, W, 3) of colours, of any number type.

    `opacity` (H, W) is uint8, where the image has such.
    """

    values: np.ndarray
    opacity: np.ndarray | None = None

    @functools.cached_property
    def extremes(self) -> Range:
        """Return the least and the greatest value. Raises DataError where a value is not a number."""
        low, high = float(self.values.min()), float(self.values.max())
        if not np.isfinite((low, high)).all():
            raise DataError("has values that are NaN or infinite")
        return low, high

    def scaled(self, value_range: Range) -> np.ndarray:
        """Scale the range to 0 … 255, rounded to the nearest, and clip.

        The result is uint8 in the shape of `values`, or (H, W, 2 or 4) with the opacity at the end.
        """
        low, high = value_range
        if self.values.dtype == np.uint16:
            grey = _table(low, high)[self.values]
        else:
            share = (np.clip(self.values.astype(np.float64), low, high) - low) * 255 / (high - low)
            grey = np.rint(share).astype(np.uint8)
        if self.opacity is None:
            return grey
        colours = grey if grey.ndim == 3 else grey[..., None]
        return np.concatenate([colours, self.opacity[..., None]], axis=-1)


@functools.lru_cache(maxsize=4)
def _table(low: float, high: float) -> np.ndarray:
    """Build the lookup table from 16-bit values to 8 bits, uint8 (65536,)."""
    return Deep(np.arange(65536, dtype=np.int64)).scaled((low, high))


def range_of(extremes: Iterable[Range]) -> Range | None:
    """Return the range of images with these least and greatest values; None where there are none.

    It begins at 0 and ends at the greatest value of the fewest bits of BITS that hold all values. Floating point
    between 0 and 1 has that range. Values below 0, as in CT, or above 16 bits have their own: least to greatest.
    """
    found = np.array(list(extremes), np.float64).reshape(-1, 2)
    if not len(found):
        return None
    low, high = float(found[:, 0].min()), float(found[:, 1].max())
    if low < 0 or high > FULL[1]:
        return low, high
    if high <= 1 and not (found % 1 == 0).all():
        return 0.0, 1.0
    return 0.0, float(next(2**bits - 1 for bits in BITS if high <= 2**bits - 1))


def stored_range(stored: list[float] | str) -> Range | None:
    """Return the range of a finished run, as its spec or manifest has it.

    None where it takes no image of more than 8 bits.
    """
    if isinstance(stored, str):
        return FULL if stored == "auto" else None  # "auto": the run is from before ranges were found
    return float(stored[0]), float(stored[1])


def range_text(value_range: Range) -> str:
    """Write a range as text, such as `0 to 4,095 (12 bits)`."""
    low, high = value_range
    bits = next((f" ({bits} bits)" for bits in BITS if low == 0 and high == 2**bits - 1), "")
    return f"{low:,.6g} to {high:,.6g}{bits}"


def has_deep_values(image: Any) -> bool:
    """Check whether an opened image has values of more than 8 bits; nothing but its header is read.

    Raises DataError for colours of 16 bits that can't be read as such.
    """
    modes = _raw_modes(image)
    if unreadable := next(filter(_UNREADABLE.fullmatch, modes), None):
        raise DataError(f"holds colours of 16 bits as {unreadable[:4]}, which are not read: write it as RGB or RGBA")
    colours = bool(modes) and all(_COLOUR.fullmatch(mode) for mode in modes)
    return image.mode.startswith(("I", "F")) or colours or (image.format == "PNG" and modes == [_GREY_WITH_OPACITY])


def deep_values(image: Any) -> Deep | None:
    """Return the values of an image that was opened from memory; None, and nothing is read, where 8 bits hold them.

    Pillow keeps grey of more than 8 bits (modes I;16, I and F), and of each 16-bit colour the high byte alone. Raises
    DataError for what Pillow misreads.
    """
    if image.format == "TIFF" and len(image.getbands()) > 1:
        _require_interleaved(image)
    if not has_deep_values(image):
        return None
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        return Deep(_as_positive(image, values), _opaque_but(image.info.get("transparency"), values))
    data = image.fp.getvalue()
    if _raw_modes(image) == [_GREY_WITH_OPACITY]:
        # Two values of 16 bits take the bytes of four of 8.
        parts = _read_as(data, lambda _mode: "RGBA").astype(np.uint16)
        return _apart(parts[..., ::2] * 256 + parts[..., 1::2])
    # What Pillow takes for the high byte in the other byte order is the low byte.
    low = _read_as(data, lambda mode: mode[:-3] + _SWAPPED[mode[-3:]])
    found = _apart(np.asarray(image).astype(np.uint16) * 256 + low)
    if found.opacity is None:
        return Deep(found.values, _opaque_but(image.info.get("transparency"), found.values))
    return found


def _as_positive(image: Any, values: np.ndarray) -> np.ndarray:
    """Turn the grey of a TIFF whose zero is white, as Pillow does for 8 bits."""
    if image.format != "TIFF" or image.tag_v2.get(_PHOTOMETRIC) != _WHITE_IS_ZERO:
        return values
    if values.dtype.kind == "f" or values.min() < 0:
        raise DataError("is a TIFF of which 0 is white, with values below 0 or decimal ones: write it with 0 as black")
    return (2 ** max(image.tag_v2.get(_BITS_PER_SAMPLE, (16,))) - 1 - values.astype(np.int64)).astype(values.dtype)


def _opaque_but(colour: Any, values: np.ndarray) -> np.ndarray | None:
    """Return the opacity (H, W) of an image of which one colour is transparent, as in a PNG; None without such."""
    if not isinstance(colour, (int, tuple)):
        return None
    inside = values == colour if values.ndim == 2 else (values == np.array(colour)).all(axis=-1)
    return np.where(inside, 0, 255).astype(np.uint8)


def _require_interleaved(image: Any) -> None:
    bits, planes = max(image.tag_v2.get(_BITS_PER_SAMPLE, (8,))), image.tag_v2.get(_PLANAR_CONFIGURATION)
    if bits > 8 and planes == 2:
        raise DataError(
            f"is a TIFF of {bits} bits with each colour in a plane of its own, which Pillow misreads: write it with "
            "interleaved colours, or as PNG"
        )


def _apart(values: np.ndarray) -> Deep:
    """Return grey or colours of 16 bits (H, W, C), and the opacity that may be behind them."""
    if values.shape[-1] in (1, 3):
        return Deep(values)
    opacity = _table(*FULL)[values[..., -1]]
    return Deep(values[..., 0] if values.shape[-1] == 2 else values[..., :-1], opacity)


def _raw_modes(image: Any) -> list[str]:
    return [_raw_mode(tile) for tile in getattr(image, "tile", ())]


def _raw_mode(tile: Any) -> str:
    """Say how Pillow unpacks a tile, such as `RGB;16B`."""
    arguments = tile[3]
    first = arguments if isinstance(arguments, str) else arguments[0] if isinstance(arguments, tuple) else ""
    return first if isinstance(first, str) else ""


def _read_as(data: bytes, mode: Callable[[str], str]) -> np.ndarray:
    """Return the pixels of an image, uint8 (H, W, C), unpacked another way than Pillow's own."""
    with Image.open(io.BytesIO(data)) as image:
        image.tile = [_tile_as(tile, mode(_raw_mode(tile))) for tile in image.tile]
        return np.asarray(image)


def _tile_as(tile: Any, mode: str) -> Any:
    arguments = mode if isinstance(tile[3], str) else (mode, *tile[3][1:])
    return tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)  # Pillow 10: a tuple

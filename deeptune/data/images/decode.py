"""Encoded bytes to an 8-bit RGB picture, or one short reason why not."""

from __future__ import annotations

import ctypes
import functools
import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from PIL import ExifTags, Image, UnidentifiedImageError

from deeptune.data.images.bit_depth import Deep, Range, deep_values, has_deep_values
from deeptune.data.images.column_values import unwrapped
from deeptune.data.images.file_types import kind_of
from deeptune.errors import DataError, first_line

MAX_PIXELS = 64_000_000  # a header may claim anything; 64 megapixels decode to 192 MB
_NAMED_ONLY = ("HDF5", "GRIB", "BUFR", "WMF", "MPEG")  # formats that PIL knows by name and can't decode
_TURNS = {  # by EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS, _FROM_RIGHT, _FROM_BELOW = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)  # orientations


@dataclass(frozen=True)
class Picture:
    """An upright image in mode RGB, of which `image` holds 1/`scale`; `size` (width, height) is that of the whole.

    Where `scale` does not divide the size, the image's last columns and rows are covered in part, so what was turned
    begins at a `corner` other than 0, 0. `clipped` says whether values were outside of the range that was asked for.
    """

    image: Image.Image
    size: tuple[int, int]
    scale: int = 1
    corner: tuple[float, float] = (0.0, 0.0)
    clipped: bool = False

    @classmethod
    def whole(cls, image: Image.Image) -> Picture:
        return cls(image, image.size)

    def box(self, left: int, upper: int, width: int, height: int) -> tuple[float, float, float, float]:
        """Convert a box of the whole image to one in `image`, which holds the pixels of a part."""
        x, y = self.corner[0] + left / self.scale, self.corner[1] + upper / self.scale
        return x, y, x + width / self.scale, y + height / self.scale


@dataclass(frozen=True)
class Header:
    """The header of an encoded image: PIL's names of its format and mode, and its size (width, height) as stored.

    `orientation` is EXIF's, 1 for upright. `animated` says whether it has several frames, of which the first is used.
    """

    format: str
    mode: str
    size: tuple[int, int]
    orientation: int
    opacity: bool
    deep: bool
    animated: bool


class RangeUnknown(DataError):
    """An image has values of more than 8 bits, and no range for them is given.

    `extremes` are its least and greatest value.
    """

    def __init__(self, extremes: Range) -> None:
        super().__init__(deep_reason(extremes))
        self.extremes = extremes


def deep_reason(extremes: Range) -> str:
    """Say why an image of more than 8 bits can't be used where no range is known."""
    low, high = extremes
    return (
        f"has values of more than 8 bits ({low:,.6g} to {high:,.6g}), and neither the training images nor "
        "data.value_range give a range for them"
    )


def decode_image(data: bytes | None, *, value_range: Range | None = None) -> Image.Image:
    """Return the first frame of an encoded image, whole, upright (EXIF) and in mode RGB.

    Transparency is composited on white. Values of more than 8 bits (16 and 32 bits, floating point) are scaled from
    `value_range` to 0 … 255 and clipped there. Raises DataError with a short reason and nothing else, which is a
    RangeUnknown where such values come without a range; PIL's warnings are not shown.
    """
    with warnings.catch_warnings(action="ignore"):
        return decode_quietly(data, value_range=value_range).image


def decode_quietly(data: bytes | None, *, least: int | None = None, value_range: Range | None = None) -> Picture:
    """Call `decode_image` in a thread: the caller silences warnings, as `warnings` is not safe among threads.

    With `least` a JPEG is decoded at 1/2, 1/4 or 1/8 of its size, as long as its shorter side keeps so many pixels:
    the inverse DCT then makes fewer pixels of each block. All of the file is read either way.
    """
    with _opened(data) as image:
        size, scale, clipped = image.size, 1, False
        if least is not None and image.format in ("JPEG", "MPO"):
            drafted = image.draft(None, (least, least))
            scale = round(size[0] / drafted[1][2]) if drafted else 1
        deep = deep_values(image)
        if deep is None:
            image.load()
            rgb = _to_rgb(image)
        else:
            rgb, clipped = _from_deep(deep, value_range)
        if scale == 1:
            size = rgb.size  # Pillow before 11.2 turns a TIFF upright as it loads it
        return _upright(rgb, size, scale, _orientation(image), clipped)


def is_deep(data: bytes) -> bool:
    """Check whether an encoded image has values of more than 8 bits, by its header; False for what can't be opened."""
    with suppress(DataError), warnings.catch_warnings(action="ignore"), _opened(data) as image:
        return has_deep_values(image)
    return False


def unusable_reason(data: bytes) -> str | None:
    """Say why bytes can't be an image, which takes all of them to know; None where they decode.

    A JPEG is decoded at 1/8 of its size, which reads as much of the file. The caller silences warnings.
    """
    try:
        with _opened(data) as image:
            image.draft(None, (1, 1))
            image.load()
            return None
    except DataError as error:
        return error.message


def read_header(data: bytes | None) -> Header:
    """Read the header of an encoded image, without its pixels. Raises DataError with a short reason.

    For threads: the caller silences warnings. A second picture in a phone's JPEG (MPO) is not a second frame.
    """
    with _opened(data) as image:
        return Header(
            image.format or "",
            image.mode,
            image.size,
            _orientation(image),
            image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info,
            has_deep_values(image),
            image.format != "MPO" and bool(getattr(image, "is_animated", False)),
        )


@contextmanager
def _opened(data: bytes | None) -> Iterator[Image.Image]:
    """Yield an image whose header was read. Raises DataError with a short reason, also for what the block runs into."""
    if data is None:
        raise DataError("is null")
    if not data:
        raise DataError("is empty (0 bytes)")
    _keep_off_stderr()
    data = unwrapped(data)
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(
                    f"claims {width:,} × {height:,} pixels; the limit is {MAX_PIXELS // 1_000_000} megapixels"
                )
            if image.format == "EPS":  # PIL would start Ghostscript on it
                raise DataError("is PostScript, which is a program and not a picture")
            if image.format in _NAMED_ONLY:
                raise UnidentifiedImageError
            yield image
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        claim = f"{int(pixels[0]) / 1e6:,.0f} megapixels" if pixels else "too many pixels"
        raise DataError(f"claims {claim}; the limit is {MAX_PIXELS // 1_000_000} megapixels") from None
    except UnidentifiedImageError:
        unknown = "is not an image in a format that PIL opens, or its beginning is damaged"
        raise DataError(kind_of(data) or unknown) from None
    except MemoryError:
        raise DataError("does not fit in memory") from None
    except Exception as error:  # PIL's plugins raise whatever their parsing ran into
        reason = first_line(error)
        cut = "truncated" in reason.lower() or "eof" in reason.lower()
        raise DataError(f"is cut off ({reason})" if cut else f"cannot be decoded ({reason})") from None


@functools.cache
def _keep_off_stderr() -> None:
    """Keep off stderr what PIL logs and libtiff prints below Python: all of it is raised as well."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    with suppress(OSError, AttributeError):  # a PIL that was linked another way stays as it is
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a damaged EXIF block says nothing about the picture
        return 1
    return found if found in _TURNS else 1


def _upright(image: Image.Image, size: tuple[int, int], scale: int, orientation: int, clipped: bool) -> Picture:
    if orientation == 1:
        return Picture(image, size, scale, clipped=clipped)
    spare = [pixels - whole / scale for pixels, whole in zip(image.size, size, strict=True)]
    if orientation in _SIDEWAYS:
        size, spare = size[::-1], spare[::-1]
    corner = spare[0] * (orientation in _FROM_RIGHT), spare[1] * (orientation in _FROM_BELOW)
    return Picture(image.transpose(_TURNS[orientation]), size, scale, corner, clipped)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.copy() if image.mode == "RGB" else image.convert("RGB")  # not the file, which may read itself again


def _from_deep(deep: Deep, value_range: Range | None) -> tuple[Image.Image, bool]:
    """Return an 8-bit image in mode RGB, and whether values were clipped."""
    if value_range is None:
        raise RangeUnknown(deep.extremes)
    low, high = deep.extremes
    return _to_rgb(Image.fromarray(deep.scaled(value_range))), low < value_range[0] or high > value_range[1]

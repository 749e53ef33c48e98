"""Encoded bytes to an 8-bit RGB picture, or one short reason why not."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import re
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from deeptune.errors import DataError

MAX_PIXELS = 64_000_000  # a header may claim anything; 64 megapixels decode to 192 MB
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
    begins at a `corner` other than 0, 0.
    """

    image: Image.Image
    size: tuple[int, int]
    scale: int = 1
    corner: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def whole(cls, image: Image.Image) -> Picture:
        return cls(image, image.size)

    def box(self, left: int, upper: int, width: int, height: int) -> tuple[float, float, float, float]:
        """Where in `image` a part of the whole is, which has its pixels."""
        x, y = self.corner[0] + left / self.scale, self.corner[1] + upper / self.scale
        return x, y, x + width / self.scale, y + height / self.scale


def decode_image(data: bytes | None) -> Image.Image:
    """The first frame of an encoded image, whole, upright (EXIF) and in mode RGB.

    Transparency is composited on white. Grey values of 16 and 32 bits are scaled by 65,535 to 8 bits
    (PIL's own conversion clips them). Raises DataError with a short reason and nothing else; PIL's warnings are not
    shown.
    """
    with warnings.catch_warnings(action="ignore"):
        return decode_quietly(data).image


def decode_quietly(data: bytes | None, *, least: int | None = None) -> Picture:
    """`decode_image` for threads: the caller silences warnings, as `warnings` is not safe among threads.

    With `least` a JPEG is decoded at 1/2, 1/4 or 1/8 of its size, as long as its shorter side keeps so many pixels:
    the inverse DCT then makes fewer pixels of each block. All of the file is read either way.
    """
    if data is None:
        raise DataError("is null")
    if not data:
        raise DataError("is empty (0 bytes)")
    _keep_off_stderr()
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(
                    f"claims {width:,} × {height:,} pixels; the limit is {MAX_PIXELS // 1_000_000} megapixels"
                )
            if image.format == "EPS":  # PIL would start Ghostscript on it
                raise DataError("is PostScript, which is a program and not a picture")
            scale = 1
            if least is not None and image.format in ("JPEG", "MPO"):
                drafted = image.draft(None, (least, least))
                scale = round(width / drafted[1][2]) if drafted else 1
            image.load()
            return _upright(_to_rgb(image), (width, height), scale, _orientation(image))
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        claim = f"{int(pixels[0]) / 1e6:,.0f} megapixels" if pixels else "too many pixels"
        raise DataError(f"claims {claim}; the limit is {MAX_PIXELS // 1_000_000} megapixels") from None
    except UnidentifiedImageError:
        raise DataError("is not an image in a format that PIL opens, or its beginning is damaged") from None
    except MemoryError:
        raise DataError("does not fit in memory") from None
    except Exception as error:  # PIL's plugins raise whatever their parsing ran into
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        cut = "truncated" in reason.lower() or "eof" in reason.lower()
        raise DataError(f"is cut off ({reason})" if cut else f"cannot be decoded ({reason})") from None


@functools.cache
def _keep_off_stderr() -> None:
    """What PIL logs (shown where no log is set up) and libtiff prints, below Python: all of it is raised as well."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    with contextlib.suppress(OSError, AttributeError):  # a PIL that was linked another way stays as it is
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a damaged EXIF block says nothing about the picture
        return 1
    return found if found in _TURNS else 1


def _upright(image: Image.Image, size: tuple[int, int], scale: int, orientation: int) -> Picture:
    if orientation == 1:
        return Picture(image, size, scale)
    spare = [pixels - whole / scale for pixels, whole in zip(image.size, size, strict=True)]
    if orientation in _SIDEWAYS:
        size, spare = size[::-1], spare[::-1]
    corner = spare[0] * (orientation in _FROM_RIGHT), spare[1] * (orientation in _FROM_BELOW)
    return Picture(image.transpose(_TURNS[orientation]), size, scale, corner)


def _to_rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "F":
        raise DataError("has floating-point pixels (mode F), whose range is unknown: convert it to 8 or 16 bits")
    if mode.startswith("I"):
        return _from_deep_grey(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.copy() if mode == "RGB" else image.convert("RGB")  # not the file, which may read itself again


def _from_deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65_535:
        raise DataError(
            f"has 32-bit grey values from {low:,} to {high:,}, whose range is unknown: convert it to 8 or 16 bits"
        )
    grey = ((values * 255 + 32_767) // 65_535).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")

"""Encoded bytes to an 8-bit RGB picture, or one short reason why not."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import re
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from deeptune.errors import DataError

MAX_PIXELS = 64_000_000  # a header may claim anything; 64 megapixels decode to 192 MB


def decode_image(data: bytes | None, *, draft: bool = False) -> Image.Image:
    """The first frame of an encoded image, upright (EXIF) and in mode RGB.

    Transparency is composited on white. Grey values of 16 and 32 bits are scaled by 65,535 to 8 bits
    (PIL's own conversion clips them). `draft` decodes JPEG at an eighth of its size, to check it only.
    Raises DataError with a short reason and nothing else; PIL's warnings are not shown.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return decode_quietly(data, draft=draft)


def decode_quietly(data: bytes | None, *, draft: bool = False) -> Image.Image:
    """`decode_image` for threads: the caller silences warnings, as `warnings` is not safe among threads."""
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
            if draft and image.format == "JPEG":
                image.draft(None, (max(1, width // 8), max(1, height // 8)))
            image.load()
            return _to_rgb(_upright(image))
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


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing about the picture
        return image


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
    return image if mode == "RGB" else image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65_535:
        raise DataError(
            f"has 32-bit grey values from {low:,} to {high:,}, whose range is unknown: convert it to 8 or 16 bits"
        )
    grey = ((values * 255 + 32_767) // 65_535).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")

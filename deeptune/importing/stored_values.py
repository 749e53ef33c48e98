"""Pixel values as encoded images that hold them exactly: PNG of 8 or 16 bits, or TIFF of 32."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from deeptune.data.images.encode import encoded


def whole(values: np.ndarray) -> np.ndarray:
    """Return values as int64 where all of them are integers, and else as float32."""
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    rounded = np.rint(values)
    return rounded.astype(np.int64) if np.array_equal(rounded, values) else values.astype(np.float32)


def stored(values: np.ndarray) -> bytes:
    """Return an encoded image of grey (H, W) or of colours (H, W, 3 or 4), which are uint8.

    uint8 stays 8 bits. Grey integers from 0 to 65,535 are a 16-bit PNG. Others are a TIFF of 32 bits.
    """
    if values.dtype == np.uint8:
        return _as_bytes(values)
    integers = values.dtype.kind in "iu"
    if integers and values.min() >= 0 and values.max() <= 65535:
        return _as_bytes(values.astype(np.uint16))
    out = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(values, np.int32 if integers else np.float32))
    image.save(out, "TIFF", compression="tiff_adobe_deflate")
    return out.getvalue()


def _as_bytes(values: np.ndarray) -> bytes:
    found = encoded(values)
    assert isinstance(found, bytes)
    return found

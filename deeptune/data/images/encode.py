"""Images that a Python program holds, as the encoded bytes or names of files that a column of images has.

Nothing is lost: what is decoded later has the very values, as if it had been read from a file.
"""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from deeptune.errors import DataError
from deeptune.formatting import kind_of

_PNG = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})  # modes that PNG holds without a change
_TIFF = frozenset({"I", "F", "I;16B", "I;16L", "I;16N"})
_OPAQUE = frozenset({"RGBa", "La", "PA"})  # modes with an opacity, of which PNG holds another form
EXPECTED = (
    "an image is a NumPy array of uint8 (H, W), (H, W, 3) or (H, W, 4) or of uint16 (H, W), a PIL image, encoded "
    "bytes, or the name of a file"
)


def encoded(sample: Any) -> bytes | str | dict[str, Any]:
    """Encode a sample in the form that a column of images holds.

    Raises DataError with a short reason that begins with a verb, and what to do as its hint.
    """
    if isinstance(sample, (bytes, bytearray, memoryview)):
        return bytes(sample)
    if isinstance(sample, (str, os.PathLike)):
        return str(os.fspath(sample))
    if isinstance(sample, Image.Image):
        return _from_pil(sample)
    if isinstance(sample, dict):
        return sample
    if hasattr(sample, "__array__"):
        return _from_array(np.asarray(sample))
    raise DataError(f"is {kind_of(sample)}", hint=f"{EXPECTED[0].upper()}{EXPECTED[1:]}.")


def _from_array(values: np.ndarray) -> bytes:
    shape, kind = values.shape, values.dtype
    if values.ndim == 3 and shape[2] == 1:
        values = values[:, :, 0]
    fits = values.ndim == 2 or (values.ndim == 3 and kind == np.uint8 and values.shape[2] in (3, 4))
    if kind not in (np.uint8, np.uint16) or not fits or 0 in shape:
        raise DataError(f"is an array of {kind} {shape}", hint=_advice(values))
    # A byte order of its own would be another mode.
    return _saved(Image.fromarray(np.ascontiguousarray(values, kind.newbyteorder("="))), "PNG", 1)


def _advice(values: np.ndarray) -> str:
    """Say what an image is, and what makes one of these values."""
    kind, shape = values.dtype, values.shape
    advice = f"{EXPECTED[0].upper()}{EXPECTED[1:]}."
    if len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4):
        advice += " Channels come last: x.transpose(1, 2, 0)."
    if kind.kind not in "bfiu" or kind == np.uint8 or not values.size:
        return advice
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):
        return advice
    if kind.kind == "b" or (kind.kind == "f" and high <= 1):
        return f"{advice} Values from 0 to 1 become uint8 by (255 * x).round().astype('uint8')."
    return f"{advice} Values from 0 to 255 become uint8 by x.{'round().' if kind.kind == 'f' else ''}astype('uint8')."


def _from_pil(image: Image.Image) -> bytes:
    """Return the file's own bytes where they are not decoded yet: a JPEG is then read as from its file."""
    if getattr(image, "tile", None) and (stream := getattr(image, "fp", None)) is not None:
        try:
            place = stream.tell()
            stream.seek(0)
            content = stream.read()
            stream.seek(place)
            if image.tell() == 0:
                return content
        except (OSError, ValueError):
            pass  # a stream that can't go back: the pixels are stored
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        if image.mode in _OPAQUE:
            image = image.convert("RGBA")
        elif image.mode not in _PNG | _TIFF:
            image = image.convert("RGB")
        return _saved(image, "TIFF" if image.mode in _TIFF else "PNG", orientation or 1)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {error}") from error


def _saved(image: Image.Image, kind: str, orientation: int) -> bytes:
    out = io.BytesIO()
    options: dict[str, Any] = {"compress_level": 1} if kind == "PNG" else {}
    if orientation != 1:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        options["exif"] = exif
    image.save(out, kind, **options)
    return out.getvalue()

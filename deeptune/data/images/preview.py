"""Images as a viewer gets them: encoded, in 8 bits."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from deeptune.data.images.bit_depth import Range, range_of
from deeptune.data.images.column_values import image_bytes
from deeptune.data.images.decode import RangeUnknown, decode_image, is_deep
from deeptune.errors import DataError


def shown_image(value: Any, folder: Path, value_range: Range | None) -> bytes | None:
    """Return the encoded image that a value of an image column stands for; None for null.

    An image of more than 8 bits is encoded anew, by a run's range.

    Raises DataError with a short reason where there is none. Whether it can be decoded is left to whoever draws it.
    """
    data = image_bytes(value, folder)
    if data is None or not is_deep(data):
        return data
    return png(decode_image(data, value_range=value_range))


def small_image(value: Any, folder: Path, value_range: Range | None, most: int) -> bytes:
    """Return an image with at most `most` pixels on a side, encoded. Raises DataError as `decode_image` does."""
    data = image_bytes(value, folder)
    image = decode_image(data, value_range=value_range)
    if data is not None and max(image.size) <= most and not is_deep(data):
        return data
    image.thumbnail((most, most))
    return png(image)


def range_of_values(values: Iterable[Any], folder: Path) -> Range | None:
    """Return the range of those values of an image column that have more than 8 bits; None where no value has."""
    found = []
    for value in values:
        try:
            data = image_bytes(value, folder)
            if data is not None and is_deep(data):
                decode_image(data)
        except RangeUnknown as error:
            found.append(error.extremes)
        except DataError:
            continue
    return range_of(found)


def png(image: Image.Image) -> bytes:
    """Encode an image as PNG."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()

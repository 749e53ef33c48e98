"""Encoded images, and the reason for which one is not decoded."""

from __future__ import annotations

import io
import warnings

import pytest
from PIL import Image

from deeptune.data.images.decode import decode_image, decode_quietly
from deeptune.errors import DataError


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def reason(data: bytes | None, least: int | None = None) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error" if least is None else "ignore")
        with pytest.raises(DataError) as caught:
            decode_image(data) if least is None else decode_quietly(data, least=least)
    assert "\n" not in caught.value.message
    return caught.value.message

"""Encoded pictures, whole and damaged."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def png(width: int = 8, height: int = 8, colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    """A picture of one colour, encoded."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(stream, "PNG")
    return stream.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims so many pixels."""
    whole = bytearray(png())
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    whole[12:33] = header + struct.pack(">I", zlib.crc32(header))
    return bytes(whole)

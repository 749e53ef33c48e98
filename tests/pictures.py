"""Encoded pictures, whole and damaged."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
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


def sixteen_bit_png(values: np.ndarray, colour_type: int) -> bytes:
    """Values (H, W, C) as a PNG of 16 bits, which Pillow writes of grey alone."""
    height, width = values.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def sixteen_bit_tiff(
    values: np.ndarray, order: str, compression: int = 1, *, planes: bool = False, white_is_zero: bool = False
) -> bytes:
    """Values (H, W, C) as a TIFF of 16 bits in the byte order `<` or `>`; compression 8 is deflate."""
    height, width, channels = values.shape
    parts = [values[..., channel] for channel in range(channels)] if planes else [values]
    strips = [part.astype(f"{order}u2").tobytes() for part in parts]
    strips = [zlib.compress(strip) for strip in strips] if compression == 8 else strips
    sizes = [len(strip) for strip in strips]
    starts = [8 + sum(sizes[:at]) for at in range(len(strips))]
    body = b"".join(strips)
    body += bytes(len(body) % 2)
    tags = [
        (256, "I", [width]), (257, "I", [height]), (258, "H", [16] * channels), (259, "H", [compression]),
        (262, "H", [2 if channels > 2 else int(not white_is_zero)]), (273, "I", starts), (277, "H", [channels]),
        (278, "I", [height]), (279, "I", sizes), (284, "H", [2 if planes else 1]),
        *([(338, "H", [2])] if channels == 4 else []),
    ]  # fmt: skip
    directory, longer = struct.pack(f"{order}H", len(tags)), b""
    after = 8 + len(body) + 2 + 12 * len(tags) + 4
    for tag, kind, numbers in tags:
        content = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        directory += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(numbers))
        directory += content.ljust(4, b"\0") if len(content) <= 4 else struct.pack(f"{order}I", after + len(longer))
        longer += content if len(content) > 4 else b""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", 8 + len(body)) + body + directory + bytes(4) + longer

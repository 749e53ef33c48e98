"""The meaning of a value in an image column: an encoded image, its text in base64, or the name of a file.

bytes                      an encoded image, its base64 or hexadecimal text, or its data URI
string                     the name of a file, base64, hexadecimal digits or a data URI
struct of bytes and path   the bytes; where they are null, the file that `path` names
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from deeptune.data.images.file_types import HEAD, is_image, kind_of
from deeptune.errors import DataError

MAX_FILE = 2**30  # bytes of a file that is read as an image
MAX_NAME = 4096  # characters of a file name
_BASE64 = re.compile(rb"[A-Za-z0-9+/_\r\n-]{64}|[A-Za-z0-9+/_\r\n-]{16,63}={0,2}\s*\Z")  # both alphabets of RFC 4648
_HEX = re.compile(rb"(?:\\x|0x)?(?=[0-9A-Fa-f]{32})")  # with the prefix of PostgreSQL's or MySQL's dumps
_WEB = ("http://", "https://", "s3://", "gs://", "hf://", "ftp://")
IMAGE_SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif",
    ".dcm", ".dicom", ".svg", ".jp2", ".j2k", ".jxl", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".tga", ".nii", ".fits",
    ".psd",
})  # fmt: skip


def unwrapped(data: bytes) -> bytes:
    """Return the encoded image in a data URI or in a text of base64 or hexadecimal digits; other bytes as they are.

    Raises DataError for a damaged URI.
    """
    if data[:5] == b"data:":
        return _from_uri(data)
    try:
        if prefix := _HEX.match(data):
            return binascii.unhexlify(data[prefix.end() :].translate(None, b" \t\r\n"))
        if _BASE64.match(data):
            return _from_base64(data.translate(None, b" \t\r\n"))
    except binascii.Error:
        pass
    return data


def _from_base64(text: bytes) -> bytes:
    """Decode base64 in its usual or its URL-safe alphabet, with or without padding."""
    text = text.translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)


def _from_uri(data: bytes) -> bytes:
    head, comma, body = data.partition(b",")
    if not comma:
        raise DataError("is a data URI without data")
    try:
        if head.endswith(b";base64"):
            return _from_base64(unquote_to_bytes(body))
    except binascii.Error as error:
        raise DataError(f"is a data URI whose base64 is damaged ({error})") from None
    return unquote_to_bytes(body)


def file_named(value: Any, folder: Path) -> Path | None:
    """Return the file that a value names, whether it exists or not; None for an image itself, or nothing.

    A relative name starts at `folder`. The backslashes of a name from Windows separate folders here too.
    """
    name = value
    if isinstance(value, dict):
        name = value.get("path") if value.get("bytes") is None else None
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
        return None
    if name.startswith(("data:", *_WEB)) or "\0" in name:
        return None
    path = folder / (unquote(name.removeprefix("file://")) if name.startswith("file://") else name)
    text = name.strip().encode()
    if len(name) >= 64 and b"." not in text and (_HEX.match(text) or _BASE64.match(text)) and not is_file(path):
        return None
    if "\\" in name and not is_file(path) and is_file(there := folder / name.replace("\\", "/")):
        return there
    return path


def read_named(path: Path, name: str) -> bytes:
    """Return the content of a file that a row names. Raises DataError with a short reason that begins with a verb."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # reading a pipe or a device may never end
            raise DataError(f"names {name}, which is {_what(found.st_mode)} and not a file")
        if found.st_size > MAX_FILE:
            raise DataError(f"names {name}, a file of {found.st_size:,} bytes; the limit is {MAX_FILE:,}")
        return path.read_bytes()
    except FileNotFoundError:
        folder = path.parent if path.is_absolute() and os.path.isabs(name) else str(path).removesuffix(name)
        raise DataError(
            f"names the file {name}, which does not exist in {folder or 'the current folder'} "
            "(data.root, or root in Python, names another folder)"
        ) from None
    except OSError as error:
        raise DataError(f"names the file {name}, which cannot be read: {error.strerror or error}") from None


def image_bytes(value: Any, folder: Path) -> bytes | None:
    """Return the encoded image that a value of an image column stands for; None for null.

    `value` is bytes, a string, or a dictionary with the keys `bytes` and `path`, either of which may be missing. Raises
    DataError with a short reason.
    """
    path = file_named(value, folder)
    if path is not None:
        return read_named(path, value["path"] if isinstance(value, dict) else value)
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if not isinstance(value, str):
        return value
    if value.startswith(_WEB):
        raise DataError(f"is the address {_cut(value)}, and nothing is downloaded: name a file on this machine")
    if not value.strip():
        raise DataError("is an empty text, where the name of a file was expected")
    found = unwrapped(value.strip().encode())
    if found == value.strip().encode():
        raise DataError(f"is neither the name of a file nor an image in base64 or hexadecimal digits: {_cut(value)}")
    return found


def look_like_images(values: Iterable[Any]) -> bool:
    """Check whether all of some strings (there is one at least) are names of image files, or images in base64."""
    found = [_looks_like_image(value) for value in values if isinstance(value, str) and value.strip()]
    return bool(found) and all(found)


def _looks_like_image(text: str) -> bool:
    text = text.strip()
    if text.startswith("data:"):
        return text.startswith("data:image/")
    if len(text) <= MAX_NAME and "\n" not in text and os.path.splitext(text)[1].lower() in IMAGE_SUFFIXES:
        return True
    start = text[:HEAD].encode()
    start = start[: len(start) // 4 * 4]
    return (found := unwrapped(start)) != start and _is_known(found)


def _is_known(data: bytes) -> bool:
    return is_image(data) or (kind_of(data) or "").startswith("is a DICOM")


def is_file(path: Path) -> bool:
    """Check whether a path leads to a file; one that the system can't look up does not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _what(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

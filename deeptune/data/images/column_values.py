"""What a value of an image column means: the encoded image itself, its text in base64, or the name of a file.

bytes                      an encoded image, or its base64 text or data URI
string                     the name of a file, base64 or a data URI
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
MAX_NAME = 4096  # characters
_BASE64 = re.compile(rb"[A-Za-z0-9+/\r\n]{64}|[A-Za-z0-9+/\r\n]{16,63}={0,2}\s*\Z")
_WEB = ("http://", "https://", "s3://", "gs://", "hf://", "ftp://")
_SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif",
    ".dcm", ".dicom", ".svg", ".jp2", ".j2k", ".jxl", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".tga", ".nii", ".fits",
    ".psd",
})  # fmt: skip


def unwrapped(data: bytes) -> bytes:
    """The encoded image in a data URI or a base64 text; other bytes as they are. Raises DataError for a damaged URI."""
    if data[:5] == b"data:":
        return _from_uri(data)
    if _BASE64.match(data) is None:
        return data
    try:
        return base64.b64decode(data.translate(None, b" \t\r\n"), validate=True)
    except binascii.Error:
        return data


def _from_uri(data: bytes) -> bytes:
    head, comma, body = data.partition(b",")
    if not comma:
        raise DataError("is a data URI without data")
    try:
        if head.endswith(b";base64"):
            return base64.b64decode(unquote_to_bytes(body), validate=True)
    except binascii.Error as error:
        raise DataError(f"is a data URI whose base64 is damaged ({error})") from None
    return unquote_to_bytes(body)


def file_named(value: Any, folder: Path) -> Path | None:
    """The file that a value names, whether it exists or not; None for a value that holds the image itself, or nothing.

    A relative name starts at `folder`.
    """
    name = value
    if isinstance(value, dict):
        name = value.get("path") if value.get("bytes") is None else None
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
        return None
    if name.startswith(("data:", *_WEB)) or "\0" in name:
        return None
    path = folder / (unquote(name.removeprefix("file://")) if name.startswith("file://") else name)
    if len(name) >= 64 and _BASE64.match(name.strip().encode()) and not _is_there(path):
        return None
    return path


def read_named(path: Path, name: str) -> bytes:
    """The content of a file that a row names. Raises DataError with a short reason that begins with a verb."""
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
            f"names the file {name}, which does not exist in {folder} (data.root names another folder)"
        ) from None
    except OSError as error:
        raise DataError(f"names the file {name}, which cannot be read: {error.strerror or error}") from None


def image_bytes(value: Any, folder: Path) -> bytes | None:
    """The encoded image that a value of an image column stands for; None for null.

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
        raise DataError(f"is neither the name of a file nor an image in base64: {_cut(value)}")
    return found


def look_like_images(values: Iterable[Any]) -> bool:
    """Whether all of some strings (there is one at least) are names of image files, or images in base64."""
    found = [_looks_like_image(value) for value in values if isinstance(value, str) and value.strip()]
    return bool(found) and all(found)


def _looks_like_image(text: str) -> bool:
    text = text.strip()
    if text.startswith("data:"):
        return text.startswith("data:image/")
    if len(text) <= MAX_NAME and "\n" not in text and os.path.splitext(text)[1].lower() in _SUFFIXES:
        return True
    start = text[:HEAD].encode()
    start = start[: len(start) // 4 * 4]
    return _BASE64.match(start) is not None and _is_known(unwrapped(start))


def _is_known(data: bytes) -> bool:
    return is_image(data) or (kind_of(data) or "").startswith("is a DICOM")


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _what(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

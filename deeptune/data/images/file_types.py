"""Recognises files that Pillow does not open by their first bytes, and says how to make images of them."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from contextlib import suppress

HEAD = 512  # bytes that tell a kind

_PNG = "convert it to PNG"
_SLICES = "write its slices as 16-bit PNG"
_VIDEO = "take single frames from it, as PNG or JPEG"
_RAW = "is a camera's raw file: develop it to 16-bit PNG or JPEG"
_HEIF = "is a HEIC or HEIF image, as phones write it: convert it to JPEG or PNG"
_AVIF = "is an AVIF image, which this Pillow does not open: install Pillow 11.3 or newer, or convert it to PNG"

# (place, bytes there, what it is and what to do); the first that fits.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (128, b"DICM", "is a DICOM file: write its pixels as 16-bit PNG, for example with pydicom"),
    (0, b"%PDF-", "is a PDF document: render its pages as PNG"),
    (0, b"version https://git-lfs", "is a Git LFS pointer and not the image: `git lfs pull` brings the content"),
    (0, b"\x93NUMPY", "is a NumPy array without a format for images: write it as PNG, or as 16-bit PNG"),
    (0, b"\x89HDF\r\n\x1a\n", f"is an HDF5 file: {_PNG}"),
    (0, b"GRIB", "is a GRIB file of weather data: write its fields as 16-bit PNG"),
    (0, b"BUFR", "is a BUFR file of weather data and not an image"),
    (0, b"\xd7\xcd\xc6\x9a", "is a Windows metafile, a drawing: render it as PNG"),
    (40, b" EMF", "is a Windows metafile, a drawing: render it as PNG"),
    (0, b"PAR1", "is not an image but a Parquet file"),
    (344, b"n+1\0", f"is a NIfTI volume: {_SLICES}"),
    (344, b"ni1\0", f"is a NIfTI header: {_SLICES}"),
    (0, b"NRRD", f"is an NRRD volume: {_SLICES}"),
    (0, b"\xff\x0a", f"is a JPEG XL image: {_PNG} or JPEG"),
    (0, b"\0\0\0\x0cJXL \r\n", f"is a JPEG XL image: {_PNG} or JPEG"),
    (0, b"\0\0\0\x0cjP  \r\n", f"is a JPEG 2000 image, which this Pillow does not open: {_PNG}"),
    (0, b"\x76\x2f\x31\x01", f"is an OpenEXR image: {_PNG}"),
    (0, b"FUJIFILMCCD-RAW", _RAW),
    (0, b"IIRO", _RAW),
    (0, b"IIU\0", _RAW),
    (8, b"CR\x02\0", _RAW),
    (4, b"ftypcrx", _RAW),
    (0, b"PK\x03\x04", "is a ZIP archive (as .npz and .docx are): unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive: unpack it"),
    (0, b"Rar!\x1a\x07", "is a RAR archive: unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "is compressed with Zstandard: unpack it"),
    (0, b"BZh", "is compressed with bzip2: unpack it"),
    (0, b"\xfd7zXZ\0", "is compressed with xz: unpack it"),
    (257, b"ustar", "is a tar archive: unpack it"),
    (0, b"\x1a\x45\xdf\xa3", f"is a video (WebM or Matroska): {_VIDEO}"),
    (8, b"AVI ", f"is a video (AVI): {_VIDEO}"),
    (8, b"WAVE", "is not an image but a sound (WAV)"),
    (0, b"\0\0\x01\xba", f"is a video (MPEG): {_VIDEO}"),
    (0, b"\0\0\x01\xb3", f"is a video (MPEG): {_VIDEO}"),
    (0, b"FLV\x01", f"is a video (Flash): {_VIDEO}"),
    (0, b"OggS", f"is an Ogg file, a video or a sound: {_VIDEO}"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", f"is a video (WMV): {_VIDEO}"),
    (0, b"ID3", "is not an image but a sound (MP3)"),
    (0, b"SQLite format 3\0", "is not an image but an SQLite database"),
    (0, b"%!PS", "is PostScript, which is a program and not a picture: render it as PNG"),
    (0, b"8BPS", f"is a Photoshop file of a kind that Pillow does not open: {_PNG}"),
    (0, b"wOFF", "is not an image but a font"),
    (0, b"fLaC", "is not an image but a sound (FLAC)"),
    (4, b"ftypM4A", "is not an image but a sound (M4A)"),
    (0, b"AT&TFORM", "is a DjVu document: render its pages as PNG"),
    (0, b"\x7fELF", "is not an image but a program"),
    (0, b"MZ\x90\0", "is not an image but a program"),
)
# Brands of the ISO container that HEIF, AVIF and videos share.
_BRANDS = {b"heic": _HEIF, b"heix": _HEIF, b"heim": _HEIF, b"heis": _HEIF, b"hevc": _HEIF, b"hevx": _HEIF}
_BRANDS |= {b"mif1": _HEIF, b"msf1": _HEIF, b"avif": _AVIF, b"avis": _AVIF, b"qt  ": f"is a video (MOV): {_VIDEO}"}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")
_KNOWN = {  # of formats that Pillow opens
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF87a": "GIF", b"GIF89a": "GIF",
    **dict.fromkeys(_TIFF, "TIFF"),
}  # fmt: skip


def stand_in(head: bytes) -> tuple[str, str] | None:
    """Say what came in place of a file's content, by its first bytes, and what to do; None where the content came."""
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return (
            "a Git LFS pointer: the content is still on the server",
            "Run `git lfs pull` in the repository that the file came with.",
        )
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGES):
        return (
            "a web page (HTML), which a server sent in its place",
            "Download the file itself: on a hub the link is called raw, resolve or download.",
        )
    return None


def kind_of(data: bytes) -> str | None:
    """Name bytes that Pillow does not open, and the way on, to be read after "row 3"; None for unknown ones.

    `data` is the whole or its first HEAD bytes.
    """
    head = data[:HEAD]
    for place, sign, description in _SIGNATURES:
        if head[place : place + len(sign)] == sign:
            return description
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], f"is a video (MP4): {_VIDEO}")
    if head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") and len(data) > 348:
        return f"is a NIfTI or Analyze volume: {_SLICES}"
    if head.startswith(b"\x1f\x8b"):
        return _unpacked_kind(data) or "is compressed with gzip: unpack it"
    if head.startswith(_TIFF):
        return "is a TIFF of a kind that Pillow does not open: write it again as an uncompressed TIFF of 8 or 16 bits"
    for sign, name in _KNOWN.items():
        if head.startswith(sign):
            return f"is a {name} whose beginning is damaged"
    return _markup(head)


def is_image(data: bytes) -> bool:
    """Check whether bytes begin as one of the formats of images that people most often use do."""
    riff = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return riff or data.startswith((*_KNOWN, b"BM")) or (data[4:8] == b"ftyp" and data[8:12] in _BRANDS)


def _unpacked_kind(data: bytes) -> str | None:
    """Return the kind of a file below its packing: medical volumes are most often packed."""
    with suppress(OSError, EOFError, zlib.error):
        inner = gzip.GzipFile(fileobj=io.BytesIO(data)).read(HEAD)
        if inner[344:348] in (b"n+1\0", b"ni1\0"):
            return f"is a NIfTI volume (packed with gzip): {_SLICES}"
    return None


def _markup(head: bytes) -> str | None:
    if re.match(rb"\x80[\2-\5][\x95\x8acK}\](]", head):
        return "is not an image but a pickle of Python: save the image itself, as PNG"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in text:
        return "is an SVG drawing: render it as PNG"
    if text.startswith(_PAGES):
        return "is a web page (HTML), as servers send it in place of a file: download the image again"
    if text.startswith(b"<?xml"):
        return "is not an image but an XML file"
    if text.startswith((b"http://", b"https://")):
        return "is a web address, and nothing is downloaded: put the image itself into the column"
    if len(text) > 3 and re.fullmatch(rb"[{\[].*", text, re.DOTALL) and b'"' in text and _is_text(head):
        return "is not an image but JSON text"
    return "is not an image but text" if len(text) > 3 and _is_text(head) else None


def _is_text(head: bytes) -> bool:
    """Check for text in UTF-8, or in UTF-16 with its mark. The last character may be cut."""
    encoding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\n\r" for character in text)

"""Encoded bytes to RGB: every mode right, every failure one short reason, nothing on stderr."""

from __future__ import annotations

import base64
import gzip
import io
import pickle
import struct
import sys
import warnings
from urllib.parse import quote_from_bytes

import numpy as np
import pytest
from decoding import encoded, reason
from pictures import png_that_claims
from PIL import Image, features

from deeptune.data.images.decode import MAX_PIXELS, decode_image, decode_quietly
from deeptune.errors import DataError


def photo(width: int = 40, height: int = 24) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 6, y * 10, (x + y) * 3], -1).astype(np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG", "PPM"])
def test_formats(kind):
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    image = decode_image(encoded(photo(), kind, **options))
    assert (image.mode, image.size) == ("RGB", (40, 24))
    error = np.abs(np.asarray(image, int) - np.asarray(photo(), int))
    assert error.max() <= {"GIF": 30, "JPEG": 12}.get(kind, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = np.asarray(decode_image(encoded(photo(), "PNG", exif=exif)))
    pixels = np.asarray(photo())
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: np.rot90(pixels, -1)[:, ::-1][::-1, ::-1][::-1],
        8: np.rot90(pixels, 1),
    }
    upright[7] = pixels[::-1, ::-1].transpose(1, 0, 2)
    assert np.array_equal(seen, upright[orientation])


def test_transparency_is_on_white():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = [200, 100, 0, 255]
    rgba[0, 1] = [200, 100, 0, 51]  # a fifth
    expected = [[[200, 100, 0], [244, 224, 204]], [[255, 255, 255], [255, 255, 255]]]
    image = Image.fromarray(rgba)
    assert np.array_equal(np.asarray(decode_image(encoded(image))), expected)
    grey = decode_image(encoded(Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8), mode="LA")))
    assert np.asarray(grey).tolist() == [[[10, 10, 10], [255, 255, 255]]]


def test_a_transparent_palette_entry_or_colour_is_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    assert np.asarray(decode_image(encoded(palette))).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    for kind in ("PNG", "GIF"):
        seen = np.asarray(decode_image(encoded(palette, kind, transparency=1)))
        assert seen.tolist() == [[[255, 0, 0], [255, 255, 255]]]
    half = decode_image(encoded(palette, transparency=bytes([255, 0])))
    assert np.asarray(half).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    key = Image.fromarray(np.array([[7, 8]], np.uint8))
    assert np.asarray(decode_image(encoded(key, transparency=7))).tolist() == [[[255] * 3, [8] * 3]]


def test_one_bit_grey_and_cmyk():
    bits = Image.fromarray(np.array([[True, False]]))
    assert np.asarray(decode_image(encoded(bits))).tolist() == [[[255] * 3, [0] * 3]]
    cmyk = Image.new("CMYK", (80, 80), (0, 255, 255, 0))
    assert decode_image(encoded(cmyk, "TIFF")).getpixel((4, 4)) == (255, 0, 0)
    for image, expected in ((cmyk, (255, 0, 0)), (Image.new("L", (80, 80), 70), (70, 70, 70))):
        whole, part = (decode_quietly(encoded(image, "JPEG"), least=least).image for least in (None, 20))
        assert (whole.size, part.size, part.mode) == ((80, 80), (20, 20), "RGB")
        assert whole.getpixel((4, 4)) == part.getpixel((4, 4)) == expected


def test_a_claim_of_too_many_pixels_is_refused_before_decoding():
    assert reason(png_that_claims(12_000, 9_000)) == "claims 12,000 × 9,000 pixels; the limit is 64 megapixels"
    assert reason(png_that_claims(8_001, 8_000)) == "claims 8,001 × 8,000 pixels; the limit is 64 megapixels"
    assert reason(png_that_claims(100_000, 100_000)) == "claims 10,000 megapixels; the limit is 64 megapixels"
    assert MAX_PIXELS == 64_000_000
    assert "cut off" in reason(png_that_claims(8_000, 8_000))  # allowed, and then there is little behind it


@pytest.mark.parametrize("least", [None, 1, 30])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"])
def test_cut_off_images_are_refused_in_silence(kind, least, capfd):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8))
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    data = encoded(noise, kind, **options)
    assert reason(data[: len(data) // 2], least)
    assert reason(data[:20], least)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="libtiff is linked into PIL there, and cannot be reached")
@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg"])
def test_damage_inside_a_tiff_is_refused_in_silence(compression, capfd):
    rng = np.random.default_rng(0)
    data = bytearray(
        encoded(Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)), "TIFF", compression=compression)
    )
    data[8:200] = bytes(192)
    data[1000:1200] = b"\xff" * 200
    assert reason(bytes(data)).startswith(("cannot be decoded", "is cut off"))
    assert capfd.readouterr() == ("", "")


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (box(b"ftyp", b"heic\0\0\0\0mif1heic") + bytes(99), "is a HEIC or HEIF image, as phones write it: convert"),
        (bytes(128) + b"DICM" + bytes(99), "is a DICOM file: write its pixels as 16-bit PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing: render it as PNG"),
        (b'<?xml version="1.0"?>\n<!-- a drawing -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing"),
        (b"%PDF-1.7\n" + bytes(99), "is a PDF document: render its pages"),
        (box(b"ftyp", b"isom\0\0\0\0isommp41") + bytes(99), "is a video (MP4): take single frames"),
        (box(b"ftyp", b"qt  \0\0\0\0") + bytes(99), "is a video (MOV)"),
        (b"\x1a\x45\xdf\xa3" + bytes(99), "is a video (WebM or Matroska)"),
        (b"RIFF\x10\0\0\0AVI LIST" + bytes(99), "is a video (AVI)"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "is a web page (HTML), as servers send it"),
        (b"\xef\xbb\xbf\n<html>", "is a web page (HTML)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "is a Git LFS pointer and not the image"),
        (b"PK\x03\x04" + bytes(99), "is a ZIP archive"),
        (b"\0\0\x01\xb3" + bytes(99), "is a video (MPEG)"),
        (b"\x93NUMPY\x01\0" + bytes(99), "is a NumPy array"),
        (b"\x5c\x01\0\0" + bytes(340) + b"n+1\0" + bytes(99), "is a NIfTI volume"),
        (gzip.compress(b"\x5c\x01\0\0" + bytes(340) + b"n+1\0" + bytes(99), mtime=0), "is a NIfTI volume (packed with"),
        (gzip.compress(b"anything", mtime=0), "is compressed with gzip: unpack it"),
        (gzip.compress(b"anything", mtime=0)[:14], "is compressed with gzip: unpack it"),
        (b"\xff\x0a" + bytes(99), "is a JPEG XL image"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(99), "is a camera's raw file"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(99), "is a camera's raw file"),
        (b"II*\0" + bytes(99), "is a TIFF of a kind that Pillow does not open"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "is a PNG whose beginning is damaged"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "is an HDF5 file"),
        (b'{"image": "a.png"}', "is not an image but JSON text"),
        ("Größe: 5 cm, 左肺上葉".encode(), "is not an image but text"),
        ("左肺上葉".encode() * 90, "is not an image but text"),  # of which the first bytes end within a character
        ("mass in the left lobe".encode("utf-16"), "is not an image but text"),
        (pickle.dumps({"image": [1, 2, 3]}), "is not an image but a pickle of Python"),
        (pickle.dumps([1.5] * 4), "is not an image but a pickle of Python"),
        (b"\x7fELF\x02\x01\x01" + bytes(60), "is not an image but a program"),
        (b"fLaC" + bytes(60), "is not an image but a sound (FLAC)"),
        (b"\0\0\0 ftypM4A " + bytes(60), "is not an image but a sound (M4A)"),
        (b"AT&TFORM\0\0\1\0DJVU" + bytes(60), "is a DjVu document"),
        (b"https://example.org/a.png", "is a web address, and nothing is downloaded"),
        (b"hello", "is not an image but text"),
        (bytes(range(1, 200)), "is not an image in a format that PIL opens, or its beginning is damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "is PostScript"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_named(data, said):
    assert reason(data).startswith(said)


def test_what_is_not_there_or_cut_off():
    assert reason(None) == "is null"
    assert reason(b"") == "is empty (0 bytes)"
    assert "cut off" in reason(encoded(photo(), "JPEG")[:-200])


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_decoded():
    assert decode_image(encoded(photo(), "AVIF")).size == (40, 24)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_base64_and_data_uris_are_decoded(kind):
    data = encoded(photo(), kind)
    expected = np.asarray(decode_image(data))
    text = base64.b64encode(data)
    lines = base64.encodebytes(data)
    for wrapped in (
        text,
        lines,
        data.hex().encode(),
        b"data:image/png;base64," + text,
        b"data:image/png," + quote_from_bytes(data).encode(),
    ):
        assert np.array_equal(np.asarray(decode_image(wrapped)), expected)
    assert reason(b"data:image/png;base64,A").startswith("is a data URI whose base64 is damaged")
    assert reason(b"data:image/png") == "is a data URI without data"


def test_warnings_of_pil_are_not_shown(capfd):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photo(), "JPEG", exif=exif)
    damaged = data.replace(b"MM\x00*", b"MM\x00*\xff\xff\xff\xff"[:4]).replace(
        exif.tobytes()[6:20], b"MM\x00*" + b"\xff" * 10
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(damaged).size == (40, 24)
        # 8,000 × 8,000 is less than what PIL warns of; a palette with transparency in bytes is what it warns of, too
        palette = Image.new("P", (2, 1))
        assert decode_image(encoded(palette, transparency=b"\x00\xff")).mode == "RGB"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("size", "least", "scale", "decoded"),
    [
        ((400, 240), 1, 8, (50, 30)),
        ((400, 240), 30, 8, (50, 30)),
        ((400, 240), 31, 4, (100, 60)),
        ((240, 400), 61, 2, (120, 200)),
        ((400, 240), 121, 1, (400, 240)),
        ((400, 240), 500, 1, (400, 240)),
        ((401, 243), 30, 8, (51, 31)),
        ((3, 3), 1, 2, (2, 2)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_a_jpeg_keeps_the_pixels_that_are_asked_for_and_other_formats_all(kind, size, least, scale, decoded):
    options = {"save_all": True, "append_images": [photo(*size)]} if kind == "MPO" else {}  # as many phones write it
    data = encoded(photo(*size), kind, **options)
    assert Image.open(io.BytesIO(data)).format == kind
    picture = decode_quietly(data, least=least)
    assert (picture.image.size, picture.size, picture.scale) == (decoded, size, scale)
    assert scale == 1 or min(picture.image.size) >= least
    assert decode_quietly(encoded(photo(*size), "PNG"), least=least).image.size == size


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}])
def test_a_damaged_jpeg_is_refused_at_any_scale_or_at_none(options):
    rng = np.random.default_rng(0)
    pixels = np.clip(np.asarray(photo(200, 160), int) + rng.integers(-20, 20, (160, 200, 3)), 0, 255)
    data = encoded(Image.fromarray(pixels.astype(np.uint8)), "JPEG", **options)
    for case in range(60):
        if case < 30:
            damaged = data[: -1 - (case if case < 20 else int(rng.integers(20, len(data))))]
        else:
            changed = bytearray(data)
            for place in rng.integers(2, len(data), 1 if case < 45 else 20):
                changed[place] = rng.integers(256)
            damaged = bytes(changed)
        refused = set()
        for least in (None, 1, 40, 80):
            try:
                decode_quietly(damaged, least=least)
                refused.add(False)
            except DataError:
                refused.add(True)
        assert len(refused) == 1
        assert case >= 30 or refused == {True}

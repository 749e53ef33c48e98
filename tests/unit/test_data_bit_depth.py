"""Images of more than 8 bits: scaled by a range, no bit lost, and refused where the range is unknown."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from decoding import encoded, reason
from pictures import sixteen_bit_png, sixteen_bit_tiff
from PIL import Image

from deeptune.data.images.bit_depth import FULL, range_of
from deeptune.data.images.decode import RangeUnknown, decode_image, decode_quietly

DEEP = np.array([[0, 128, 257, 1000, 32768, 65535]], np.uint16)
SCALED = [0, 0, 1, 4, 128, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(kind):
    seen = np.asarray(decode_image(encoded(Image.fromarray(DEEP), kind), value_range=FULL))
    assert seen[0, :, 0].tolist() == SCALED == np.rint(DEEP[0] / 257).tolist()
    assert np.array_equal(seen[..., 0], seen[..., 2])


def test_thirty_two_bit_grey_in_the_range_of_sixteen_is_scaled():
    seen = np.asarray(decode_image(encoded(Image.fromarray(DEEP.astype(np.int32)), "TIFF"), value_range=FULL))
    assert seen[0, :, 0].tolist() == SCALED
    big_endian = io.BytesIO()
    Image.fromarray(DEEP).save(big_endian, "PPM")  # PGM of 16 bits is big-endian
    assert np.asarray(decode_image(big_endian.getvalue(), value_range=FULL))[0, :, 0].tolist() == SCALED


def twelve_bits(channels: int) -> np.ndarray:
    """Values of a 12-bit detector, (17, 23, channels)."""
    return np.random.default_rng(channels).integers(0, 4096, (17, 23, channels)).astype(np.uint16)


@pytest.mark.parametrize("high", [1023, 4095, 16383, 65535, 3000])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_a_range_becomes_the_256_grey_levels(kind, high):
    values = twelve_bits(1)[..., 0]
    picture = decode_quietly(encoded(Image.fromarray(values), kind), value_range=(0, high))
    expected = np.rint(np.minimum(values, high).astype(float) * 255 / high)
    assert np.array_equal(np.asarray(picture.image)[..., 1], expected)
    assert picture.clipped == (high < values.max())


def test_a_range_that_does_not_begin_at_0_is_a_window():
    values = np.array([[-1024, -160, -159, 40, 240, 3071]], np.int32)
    picture = decode_quietly(encoded(Image.fromarray(values), "TIFF"), value_range=(-160, 240))
    assert np.asarray(picture.image)[0, :, 0].tolist() == [0, 0, 1, 128, 255, 255]
    assert picture.clipped


def test_floating_point_is_scaled_by_its_range():
    values = np.random.default_rng(0).random((9, 8)).astype(np.float32)
    seen = np.asarray(decode_image(encoded(Image.fromarray(values), "TIFF"), value_range=(0, 1)))
    assert np.array_equal(seen[..., 0], np.rint(values.astype(np.float64) * 255))
    holes = values.copy()
    holes[3, 3] = np.nan
    assert reason(encoded(Image.fromarray(holes), "TIFF")) == "has values that are NaN or infinite"


@pytest.mark.parametrize(("channels", "colour_type"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_no_bit_of_a_png_of_16_bits_is_lost(channels, colour_type):
    values = twelve_bits(channels)
    if channels in (2, 4):
        values[..., -1] = 65535  # opaque
    data = sixteen_bit_png(values, colour_type)
    with pytest.raises(RangeUnknown) as caught:
        decode_image(data)
    colours = values[..., : channels - (channels in (2, 4))]
    assert caught.value.extremes == (colours.min(), colours.max())
    seen = np.asarray(decode_image(data, value_range=(0, 4095)))
    assert np.array_equal(seen, np.broadcast_to(np.rint(colours.astype(float) * 255 / 4095), seen.shape))


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_no_bit_of_a_tiff_of_16_bits_is_lost(channels, order, compression):
    values = twelve_bits(channels)
    if channels == 4:
        values[..., -1] = 65535
    seen = np.asarray(decode_image(sixteen_bit_tiff(values, order, compression), value_range=(0, 4095)))
    colours = values[..., :3]
    assert np.array_equal(seen, np.broadcast_to(np.rint(colours.astype(float) * 255 / 4095), seen.shape))


@pytest.mark.parametrize("compression", [1, 8])
def test_a_tiff_of_planes_that_pillow_misreads_is_refused(compression):
    data = sixteen_bit_tiff(twelve_bits(3), "<", compression, planes=True)
    assert reason(data).startswith("is a TIFF of 16 bits with each colour in a plane of its own")


def test_a_tiff_of_which_0_is_white_is_read_as_a_positive():
    values = np.array([[0, 50 * 257, 65535]], np.uint16)[..., None]
    seen = np.asarray(decode_image(sixteen_bit_tiff(values, "<", white_is_zero=True), value_range=FULL))
    assert seen[0, :, 0].tolist() == [255, 205, 0]


def test_the_transparent_colour_of_a_png_of_16_bits_is_white():
    grey = np.array([[0, 20_000, 40_000]], np.uint16)[..., None]
    colours = np.array([[[1, 2, 3], [20_000, 0, 0], [20_000, 0, 1]]], np.uint16)
    for values, kind, transparent in ((grey, 0, (20_000,)), (colours, 2, (20_000, 0, 0))):
        data = sixteen_bit_png(values, kind)
        chunk = b"tRNS" + np.array(transparent, ">u2").tobytes()
        chunk = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        seen = np.asarray(decode_image(data[:33] + chunk + data[33:], value_range=FULL))
        assert seen[0, 1].tolist() == [255, 255, 255]
        assert seen[0, 0, 0] == 0
        assert seen[0, 2, 0] == round(float(values[0, 2, 0]) / 257)


def test_opacity_of_16_bits_is_composited():
    values = np.array([[[4095, 0, 0, 65535], [4095, 0, 0, 0], [0, 0, 0, 32768]]], np.uint16)
    seen = np.asarray(decode_image(sixteen_bit_png(values, 6), value_range=(0, 4095)))
    assert seen.tolist() == [[[255, 0, 0], [255, 255, 255], [127, 127, 127]]]


def test_grey_whose_range_is_unknown_is_refused():
    deep = Image.fromarray(np.array([[0, 70_000]], np.int32))
    assert reason(encoded(deep, "TIFF")).startswith(
        "has values of more than 8 bits (0 to 70,000), and neither the training images"
    )
    real = Image.fromarray(np.array([[0.0, 0.5]], np.float32))
    assert reason(encoded(real, "TIFF")).startswith("has values of more than 8 bits (0 to 0.5)")


@pytest.mark.parametrize(
    ("extremes", "expected"),
    [
        ([], None),
        ([(0, 200)], (0, 255)),
        ([(0, 255)], (0, 255)),
        ([(5, 256)], (0, 1023)),
        ([(5, 90), (0, 4095)], (0, 4095)),
        ([(0, 4096)], (0, 16383)),
        ([(0, 16384)], (0, 65535)),
        ([(0, 65535)], (0, 65535)),
        ([(-1024, 3071), (0, 100)], (-1024, 3071)),
        ([(0, 70_000)], (0, 70_000)),
        ([(0.25, 0.75)], (0, 1)),
        ([(0, 1)], (0, 255)),
        ([(0.5, 300.25)], (0, 1023)),
    ],
)
def test_the_range_is_the_fewest_bits_that_hold_all_values(extremes, expected):
    assert range_of(extremes) == expected

"""Pictures as cells, against PIL's own pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import png, png_that_claims
from PIL import Image

from deeptune.errors import DataError
from deeptune.show.picture import RAMP, PictureGlyphs, draw, pixels

PLAIN = PictureGlyphs()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels_of(rows, *, odd: bool = False) -> np.ndarray:
    """The pixels that half blocks show, (H, W, 3)."""
    lines = []
    for row in rows:
        upper, lower = [], []
        for text, ink, ground in row:
            upper += [ink if text[0] == "▀" else ground] * len(text)
            lower += [ground] * len(text)
        lines += [upper, lower]
    return np.array(lines[:-1] if odd else lines, np.uint8)


@pytest.mark.parametrize("size", [(90, 60), (31, 77), (200, 20)])
def test_half_blocks_show_the_pixels_of_an_antialiased_resize(size):
    image = noise(*size)
    columns, lines = pixels(size, 24, 10)
    shown = pixels_of(draw(encoded(image), 24, 10, PLAIN), odd=lines % 2 == 1)
    np.testing.assert_array_equal(shown, np.asarray(image.resize((columns, lines), Image.Resampling.LANCZOS)))


def test_an_image_that_grows_keeps_its_pixels_sharp():
    image = noise(4, 4)
    shown = pixels_of(draw(encoded(image), 16, 8, PLAIN))
    np.testing.assert_array_equal(shown, np.asarray(image).repeat(4, axis=0).repeat(4, axis=1))


def test_a_cell_of_one_colour_is_blank_and_a_last_odd_line_leaves_the_ground_below_it():
    rows = draw(png(8, 3, (1, 2, 3)), 8, 10, PLAIN)
    assert rows == [[(" " * 8, None, (1, 2, 3))], [("▀" * 8, (1, 2, 3), None)]]


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 200), st.integers(1, 60))
def test_a_picture_fits_its_room_and_keeps_its_shape(width, height, columns, rows):
    across, down = pixels((width, height), columns, rows)
    assert 1 <= across <= columns
    assert 1 <= down <= 2 * rows
    assert across == columns or down == 2 * rows
    if min(across, down) > 1:  # within the rounding of either side
        assert (across - 0.5) / (down + 0.5) <= width / height <= (across + 0.5) / (down - 0.5)


def test_ascii_has_ink_for_light_on_a_dark_ground_and_for_dark_on_a_light_one():
    step = Image.fromarray(np.repeat(np.linspace(0, 255, 10).astype(np.uint8)[None], 10, axis=0))
    (dark,) = {row[0] for row in draw(encoded(step), 10, 5, PictureGlyphs(ascii=True))}
    (light,) = {row[0] for row in draw(encoded(step), 10, 5, PictureGlyphs(ascii=True, dark=False))}
    assert dark == (RAMP, None, None)
    assert light == (RAMP[::-1], None, None)


def test_a_photograph_is_upright_and_transparency_is_white():
    image = Image.new("RGB", (8, 4), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 4, 4))  # its left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the left of what is stored is the top of what was seen
    shown = pixels_of(draw(encoded(image, exif=exif), 4, 4, PLAIN))
    assert shown.shape == (8, 4, 3)
    assert (shown[:4] == 255).all()
    assert (shown[4:] == 0).all()
    clear = pixels_of(draw(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0))), 4, 2, PLAIN))
    assert (clear == 255).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "is null"),
        (b"", "is empty"),
        (b"no image", "is not an image"),
        (png(64, 64)[:60], "cut off"),
        (png_that_claims(90_000, 90_000), "megapixels"),
    ],
)
def test_what_is_no_image_has_a_reason(data, reason):
    with pytest.raises(DataError, match=reason):
        draw(data, 10, 5, PLAIN)

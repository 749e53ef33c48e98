"""Images in a terminal: two pixels a cell by half blocks, or a cell for its brightness in ASCII.

A picture is drawn as plain rows of pieces, which Rich, Textual or anything else can colour. A cell is taken
to be twice as high as it is wide, so that the two pixels of a half block are square.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

Colour = tuple[int, int, int]  # red, green, blue, 0 to 255
Piece = tuple[str, Colour | None, Colour | None]  # text, its colour, the ground's; None is the terminal's own

UPPER = "▀"
RAMP = " .:-=+*#%@"  # from the least ink to the most


@dataclass(frozen=True)
class PictureGlyphs:
    """The characters of pictures: the ink of ASCII where there are no colours; `dark` is the ground they are on."""

    ascii: bool = False
    dark: bool = True


def draw(data: bytes | None, width: int, height: int, glyphs: PictureGlyphs) -> list[list[Piece]]:
    """Return an encoded image in at most `height` rows of `width` cells, each as wide as the image then is.

    It is upright and decoded by the rules of training. Raises DataError with a short reason, such as `is empty (0
    bytes)`. For a thread: a large image takes seconds.
    """
    from deeptune.data.images.decode import decode_quietly

    return drawn(decode_quietly(data).image, width, height, glyphs)


def drawn(image: Image, width: int, height: int, glyphs: PictureGlyphs) -> list[list[Piece]]:
    """Return a decoded image (mode RGB) in the same way."""
    columns, lines = pixels(image.size, width, height)
    if glyphs.ascii:
        return _ramp(resized(image.convert("L"), columns, (lines + 1) // 2), glyphs)
    return _half_blocks(resized(image, columns, lines))


def pixels(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Return width and height, in pixels of half blocks, of the largest picture of this shape in so many cells."""
    scale = min(width / size[0], 2 * height / size[1])
    return tuple(max(1, round(scale * side)) for side in size)  # type: ignore[return-value]


def resized(image: Image, width: int, height: int) -> Image:
    """Resize a picture: antialiased where it shrinks; pixels stay pixels where it grows."""
    from PIL.Image import Resampling

    grows = width >= image.width and height >= image.height
    return image.resize((width, height), Resampling.NEAREST if grows else Resampling.LANCZOS)


def _half_blocks(image: Image) -> list[list[Piece]]:
    """Draw two pixels in each cell; one of one colour is blank, which takes fewer bytes on the line."""
    width, data = image.width, image.tobytes()
    lines = [_colours(data[start : start + 3 * width]) for start in range(0, len(data), 3 * width)]
    lines += [[None] * width] * (len(lines) % 2)
    return [
        _joined([(" ", None, a) if a == b else (UPPER, a, b) for a, b in zip(upper, lower, strict=True)])
        for upper, lower in zip(lines[::2], lines[1::2], strict=True)
    ]


def _colours(line: bytes) -> list[Colour | None]:
    return list(zip(line[::3], line[1::3], line[2::3], strict=True))


def _ramp(image: Image, glyphs: PictureGlyphs) -> list[list[Piece]]:
    """Choose the ink: light on a dark ground, and dark on a light one."""
    ramp = RAMP if glyphs.dark else RAMP[::-1]
    text = "".join(ramp[value * len(ramp) // 256] for value in image.tobytes())
    return [[(text[start : start + image.width], None, None)] for start in range(0, len(text), image.width)]


def _joined(row: list[Piece]) -> list[Piece]:
    return [("".join(text for text, *_ in run), *ink) for ink, run in groupby(row, key=lambda piece: piece[1:])]

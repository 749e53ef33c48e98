"""Rows that one of two runs has right and the other wrong, drawn for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deeptune.data.run_samples import RunSamples
from deeptune.errors import DeepTuneError
from deeptune.formatting import visible
from deeptune.show.picture import PictureGlyphs, Piece, draw

if TYPE_CHECKING:
    from rich.text import Text

WIDTH, HEIGHT = 24, 12  # cells of a picture
MAX_TEXT = 160  # characters of a text


def sample(samples: RunSamples, row: int, glyphs: PictureGlyphs) -> list[Text]:
    """Draw the input of a test row: an image in half blocks or characters, a text cut to a line, or both."""
    from rich.text import Text

    found = samples.read("test", row)
    lines: list[Text] = []
    try:
        if isinstance(found, DeepTuneError):
            raise found
        if found.image is not None:
            lines += [_line(pieces) for pieces in draw(found.image, WIDTH, HEIGHT, glyphs)]
        if found.text is not None:
            text = visible(" ".join(found.text.split()))
            lines.append(Text(text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"))
    except DeepTuneError as error:
        lines.append(Text(visible(error.message), style="dim"))
    return lines


def _line(pieces: list[Piece]) -> Text:
    from rich.style import Style
    from rich.text import Text

    line = Text()
    for text, ink, ground in pieces:
        line.append(text, Style(color=_colour(ink), bgcolor=_colour(ground)))
    return line


def _colour(colour: tuple[int, int, int] | None) -> str | None:
    return None if colour is None else "#{:02x}{:02x}{:02x}".format(*colour)

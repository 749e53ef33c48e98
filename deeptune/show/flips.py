"""Rows that one of two runs has right and the other wrong, drawn for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deeptune.errors import DeepTuneError
from deeptune.report.tables import visible
from deeptune.show.picture import Look, Piece, draw
from deeptune.show.samples import Samples

if TYPE_CHECKING:
    from rich.text import Text

WIDTH, HEIGHT = 24, 12  # cells of a picture
MAX_TEXT = 160  # characters


def sample(samples: Samples, row: int, look: Look) -> list[Text]:
    """Draw the input of a test row: an image in half blocks or characters, a text cut to a line."""
    from rich.text import Text

    found = samples.read("test", row)
    try:
        if isinstance(found, bytes):
            return [_line(pieces) for pieces in draw(found, WIDTH, HEIGHT, look)]
    except DeepTuneError as error:
        found = error
    if isinstance(found, DeepTuneError):
        return [Text(visible(found.message), style="dim")]
    assert isinstance(found, str)
    text = visible(" ".join(found.split()))
    return [Text(text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…")]


def _line(pieces: list[Piece]) -> Text:
    from rich.style import Style
    from rich.text import Text

    line = Text()
    for text, ink, ground in pieces:
        line.append(text, Style(color=_colour(ink), bgcolor=_colour(ground)))
    return line


def _colour(colour: tuple[int, int, int] | None) -> str | None:
    return None if colour is None else "#{:02x}{:02x}{:02x}".format(*colour)

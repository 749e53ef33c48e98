"""Drawing without any colour (https://no-color.org)."""

from __future__ import annotations

from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

NEAR = 0.17  # difference of brightness, 0 to 1, below which grounds are those of panels and not of a cursor


class Colourless(LineFilter):
    """Removes the colours of each line.

    Text whose background stands out from the theme's is reversed, so that a cursor, a focused button or a selection
    stays visible.
    """

    def __init__(self, ground: Color) -> None:
        super().__init__()
        self._ground = ground.brightness

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            Segment(text, style and _without_colour(style, self._ground), control) for text, style, control in segments
        ]


@lru_cache(8)
def colourless(ground: str) -> Colourless:
    """Return the filter for a theme with this background, always the same object, as lines are cached by filter."""
    return Colourless(Color.parse(ground))


@lru_cache(4096)
def _without_colour(style: Style, ground: float) -> Style:
    plain = style.without_color
    return plain + Style(reverse=not style.reverse) if _stands_out(style.bgcolor, ground) else plain


def _stands_out(colour: RichColor | None, ground: float) -> bool:
    if colour is None or colour.is_default:
        return False
    return abs(Color.from_rich_color(colour).brightness - ground) > NEAR

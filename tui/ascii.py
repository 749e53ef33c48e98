"""What is drawn, in ASCII only: the last filter before the terminal."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from deeptune.show.ascii import to_ascii


class AsciiFilter(LineFilter):
    """Translates each line as it goes to the terminal."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(to_ascii(segment.text), segment.style, segment.control) for segment in segments]

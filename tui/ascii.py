"""The last filter before the terminal: it draws everything in characters that the terminal has."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from deeptune.ascii import to_ascii

_CONSOLE_TWINS = {
    "●": "■", "○": "o", "✓": "√", "✔": "√", "▁": "▄", "▂": "▄", "▃": "▄", "▅": "▄", "▆": "█", "▇": "█",
    "▏": "▌", "▎": "▌", "▍": "▌", "▊": "█", "▉": "█", "▕": "▐", "★": "*",
}  # fmt: skip


@lru_cache(4096)
def to_console(text: str) -> str:
    """Write `text`, in as many columns, in the characters of the Linux console: code page 437, without braille."""
    return text if text.isascii() else "".join(map(_console_twin, text))


@lru_cache(4096)
def _console_twin(character: str) -> str:
    if _on_console(character):
        return character
    if character in _CONSOLE_TWINS:
        return _CONSOLE_TWINS[character]
    if 0x2500 <= ord(character) <= 0x257F:  # heavy and round lines are drawn as light and square ones
        name = unicodedata.name(character).replace("HEAVY", "LIGHT").replace(" ARC", "")
        with suppress(KeyError):
            if _on_console(light := unicodedata.lookup(name)):
                return light
    return to_ascii(character)


def _on_console(character: str) -> bool:
    try:
        character.encode("cp437")
    except UnicodeEncodeError:
        return False
    return True


class Characters(LineFilter):
    """Translates each line as it goes to the terminal, by `to_ascii` or `to_console`."""

    def __init__(self, translate: Callable[[str], str]) -> None:
        super().__init__()
        self._translate = translate

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(self._translate(segment.text), segment.style, segment.control) for segment in segments]

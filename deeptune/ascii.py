"""Text in ASCII only, for terminals that take nothing else."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from rich.cells import cell_len

_TWINS = {
    "│": "|", "┃": "|", "║": "|", "▏": "|", "▎": "|", "▍": "|", "▌": "|", "▐": "|", "▕": "|", "▊": "|", "▉": "|",
    "─": "-", "━": "-", "═": "=", "╸": "-", "╺": "-", "╌": "-", "┄": "-", "–": "-", "—": "-", "−": "-", "▁": "_",
    "▔": "-", "▀": "#", "▄": "#", "█": "#", "▇": "#", "▆": "#", "▅": "=", "▃": "-", "▂": "_", "░": ".", "▒": ":",
    "▓": "#", "●": "*", "○": "o", "◐": "~", "◌": ".", "◆": "*", "◇": "o", "✓": "+", "✔": "+", "✗": "x", "✘": "x",
    "■": "#", "□": "o", "•": "*", "·": ".", "…": ".", "▲": "^", "△": "^", "▼": "v", "▽": "v", "▾": "v", "▴": "^",
    "►": ">", "▶": ">", "▸": ">", "◀": "<", "◂": "<", "←": "<", "→": ">", "↑": "^", "↓": "v", "⏎": "<", "↵": "<",
    "×": "x", "÷": "/", "±": "+", "≤": "<", "≥": ">", "≈": "~", "°": "o", "²": "2", "³": "3", "µ": "u",
    "‘": "'", "’": "'", "“": '"', "”": '"', "⭘": "o", "⏺": "*", "⌫": "<", "⇥": ">", "␣": "_",
}  # fmt: skip


@lru_cache(4096)
def to_ascii(text: str) -> str:
    """Return `text` in as many columns, each character as its nearest in ASCII.

    These are lines, marks and letters without accents.
    """
    return text if text.isascii() else "".join(map(_twin, text))


@lru_cache(4096)
def _twin(character: str) -> str:
    width = cell_len(character)
    if character.isascii() or width == 0:
        return character if character.isascii() else ""
    if character in _TWINS:
        return _TWINS[character]
    if 0x2500 <= ord(character) <= 0x257F:  # corners and crossings of lines
        return "+"
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain if plain and len(plain) == width else "?" * width

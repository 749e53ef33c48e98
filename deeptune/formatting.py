"""Numbers and texts as people read them. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Sequence


def size_text(size: float) -> str:
    """Format bytes in powers of a thousand: `3.4 MB`."""
    units = ("B", "kB", "MB", "GB", "TB")
    power = 0
    while size >= 999.5 and power < len(units) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.0f} {units[power]}" if power == 0 or size >= 99.5 else f"{size:.1f} {units[power]}"


def duration(seconds: float) -> str:
    """Format a duration as a clock does: `1:02:03`, or `2:03` below an hour."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def seconds_of(text: str) -> float | None:
    """Read a duration such as `90 s`, `5min` or `1.5 h` in seconds; None where it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h)", text.strip())
    return float(match[1]) * {"s": 1, "min": 60, "h": 3600}[match[2]] if match else None


def ago(seconds: float) -> str:
    """Format an age in its largest unit: `12 s`, `5 min`, `3 h`, `2 d`."""
    seconds = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def counted(count: int, one: str, many: str | None = None) -> str:
    """Format a count with its noun, and a verb where they have one: `1 row is`, `2,000 rows are`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def count_text(count: int) -> str:
    """Format a large count in short: `950`, `12,810`, `3.4 M`, `1.2 B`."""
    if count < 1_000_000:
        return f"{count:,}"
    return f"{count / 1e6:.1f} M" if count < 999_950_000 else f"{count / 1e9:.1f} B"


def kind_of(value: object) -> str:
    """Name the type of a value with its article: `an int`, `a list`, `None`."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def joined(names: Sequence[str]) -> str:
    """Join names as a sentence lists them: `MAE, RMSE and R²`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def visible(text: object) -> str:
    """Escape every character that cannot be printed.

    A name then can't move a cursor, change the reading direction or break a line.
    """
    return "".join(
        character if character.isprintable() or character in "\u200c\u200d" else _escape(character)
        for character in str(text)
    )


def safe(text: object) -> str:
    """Escape control and formatting characters, so that no terminal acts on them."""
    return "\n".join(visible(line) for line in str(text).split("\n"))


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

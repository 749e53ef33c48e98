"""Numbers and texts as people read them. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


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


def cut_apart(names: Sequence[str], width: int, *, end: int | None = None) -> list[str]:
    """Cut each name to this many columns, in its middle; different names stay different.

    `end` is how many columns of its end a name keeps, half of them by default. Names that would become the same text
    show the part from which on they differ.
    """
    end = (width - 1) // 2 if end is None else end
    cut = {name: name if _columns(name) <= width else _without_middle(name, width, end) for name in names}
    _part(list(cut), cut, width)
    return [cut[name] for name in names]


def _part(names: list[str], cut: dict[str, str], width: int) -> None:
    """Cut names again that were cut to one text."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(cut[name], []).append(name)
    for group in alike.values():
        if len(group) == 1:
            continue
        differ = next(at for at in range(max(map(len, group))) if len({name[at : at + 1] for name in group}) > 1)
        word = group[0].rfind(" ", 0, differ) + 1
        for name in group:
            cut[name] = _from(name, width, word if differ - word <= width // 4 else differ)
        if len({cut[name] for name in group}) > 1:  # else there is no room for what differs
            _part(group, cut, width)


def _without_middle(name: str, width: int, end: int) -> str:
    kept = next((name[at:] for at in range(len(name)) if _columns(name[at:]) <= end), "")
    return f"{_beginning(name, width - 1 - _columns(kept))}…{kept}"


def _from(name: str, width: int, place: int) -> str:
    """Keep the beginning of a name and what is at a place of it."""
    start = _beginning(name[:place], (width - 1) // 3)
    rest, room = name[place:], width - 1 - _columns(start)
    return f"{start}…{rest}" if _columns(rest) <= room else f"{start}…{_beginning(rest, room - 1)}…"


def _beginning(text: str, width: int) -> str:
    from rich.cells import set_cell_size

    return set_cell_size(text, max(width, 0)).rstrip()


def _columns(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def joined(names: Sequence[str]) -> str:
    """Join names as a sentence lists them: `MAE, RMSE and R²`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def mean_text(best: Mapping[str, Any]) -> str:
    """Name the mean of epochs that a run's model is, `the mean of epochs 3, 4 and 6`; empty where it is of one epoch.

    `best` is that of result.json, which may be damaged.
    """
    mean = best.get("mean")
    if not isinstance(mean, (list, tuple)) or not mean or not all(type(one) is int for one in mean):
        return ""
    return f"the mean of epochs {joined([str(one) for one in mean])}"


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

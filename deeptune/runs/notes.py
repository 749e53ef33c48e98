"""What a person wrote about a run: a name of its own, a note, tags. The run itself never reads it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from deeptune.errors import CheckpointError, SpecError
from deeptune.runs.directory import RunDirectory
from deeptune.runs.files import read_json, write_json

MAX_NAME = 100  # characters
MAX_NOTE = 10_000
MAX_TAGS = 50


@dataclass(frozen=True)
class Notes:
    """`name` is shown in place of the run's id, which stays the name of its folder."""

    name: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.name or self.note or self.tags)


def read_notes(run: RunDirectory) -> Notes:
    """The notes of a run; empty ones where there are none, and for what is damaged in them."""
    try:
        found = read_json(run.notes)
    except CheckpointError:
        return Notes()
    if not isinstance(found, dict):
        return Notes()
    tags = found.get("tags")
    return Notes(_text(found.get("name")), _text(found.get("note")), _tags(tags if isinstance(tags, list) else ()))


def write_notes(run: RunDirectory, notes: Notes) -> None:
    """Replace the notes of a run. Raises SpecError for what is too long, and CheckpointError."""
    for what, text, most in (("name", notes.name, MAX_NAME), ("note", notes.note, MAX_NOTE)):
        if len(text) > most:
            raise SpecError(f"the {what} has {len(text):,} characters, and at most {most:,} are kept")
    if len(notes.tags) > MAX_TAGS:
        raise SpecError(f"there are {len(notes.tags):,} tags, and at most {MAX_TAGS} are kept")
    write_json(run.notes, {"name": notes.name.strip(), "note": notes.note.strip(), "tags": list(notes.tags)})


def tags_from(text: str) -> tuple[str, ...]:
    """Tags that were typed, apart from one another by blanks or commas; a `#` before one is left out."""
    return _tags(word.lstrip("#") for word in text.replace(",", " ").split())


def _tags(words: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in words if isinstance(word, str) and word))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""

"""A person's notes about a run: a name, a note, tags. The run itself never reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from deeptune.errors import CheckpointError, SpecError
from deeptune.runs.directory import RunDirectory
from deeptune.runs.files import read_json, write_json

MAX_NAME = 100  # characters of a name
MAX_NOTE = 10_000
MAX_TAGS = 50


@dataclass(frozen=True)
class Notes:
    """The notes of a run. Viewers show `name` in place of the run's id, which stays the name of its folder."""

    name: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.name or self.note or self.tags)


def read_notes(run: RunDirectory) -> Notes:
    """Read the notes of a run. Missing or damaged parts are empty."""
    try:
        found = read_json(run.notes)
    except CheckpointError:
        return Notes()
    if not isinstance(found, dict):
        return Notes()
    tags = found.get("tags")
    return Notes(_text(found.get("name")), _text(found.get("note")), _tags(tags if isinstance(tags, list) else ()))


def write_notes(run: RunDirectory, notes: Notes) -> None:
    """Replace the notes of a run. Raises SpecError if they are too long, and CheckpointError if writing fails."""
    for what, text, limit in (("name", notes.name, MAX_NAME), ("note", notes.note, MAX_NOTE)):
        if len(text) > limit:
            raise SpecError(f"the {what} has {len(text):,} characters, and at most {limit:,} are kept")
    if len(notes.tags) > MAX_TAGS:
        raise SpecError(f"there are {len(notes.tags):,} tags, and at most {MAX_TAGS} are kept")
    write_json(run.notes, {"name": notes.name.strip(), "note": notes.note.strip(), "tags": list(notes.tags)})


def tags_from(text: str) -> tuple[str, ...]:
    """Split typed tags at blanks or commas, and remove a leading `#`."""
    return _tags(word.lstrip("#") for word in text.replace(",", " ").split())


def _tags(words: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in words if isinstance(word, str) and word))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""

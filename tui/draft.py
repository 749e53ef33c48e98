"""A run spec while it is being made: what was typed, what was guessed, and what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deeptune.errors import CheckpointError
from deeptune.runs.directory import DEFAULT_ROOT, RunDirectory
from deeptune.runs.files import read_json, write_text
from deeptune.spec import RunSpec, load_spec
from deeptune.spec.fields import SpecField, quoted, spec_fields
from deeptune.spec.toml import problems_in, validate
from tui.options import state_folder

_BARE_WORD = re.compile(r"[A-Za-z][\w./:-]*", re.ASCII)
_TOML_WORDS = ("true", "false", "inf", "nan")
_KEYED = re.compile(r"([a-z_]+(?:\.[a-z_]+)*)(?:, ([a-z_]+\.[a-z_]+))?: ")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a key, in the words of the command line, and what to do about it."""

    key: str
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, message: str, hint: str | None, *, key: str) -> Problem:
        """A problem whose message may begin with the key that it is about; `key` is for one that doesn't."""
        if match := _KEYED.match(message):
            return cls(match[2] or match[1], message[match.end() :], hint)
        return cls(key, message, hint)


@dataclass
class Draft:
    """`given` and `guessed` are texts by dotted key, as `SpecField.show` writes them.

    A key that was not given has the guess of whoever looked at the data, or else the spec's default. A text that does
    not parse is kept as it was typed.
    """

    given: dict[str, str] = field(default_factory=dict)
    guessed: dict[str, str] = field(default_factory=dict)
    step: str = ""
    fields: dict[str, SpecField] = field(default_factory=lambda: {field.key: field for field in spec_fields()})

    @classmethod
    def from_spec(cls, spec: RunSpec) -> Draft:
        """A draft of what differs from the defaults."""
        draft = cls()
        for key, one in draft.fields.items():
            value: Any = spec
            for part in key.split("."):
                value = getattr(value, part)
            if value != one.default or one.required:
                draft.set(key, one.show(value))
        return draft

    @classmethod
    def from_file(cls, file: Path) -> Draft:
        """A draft of a spec file, such as a preset or that of a run. Raises SpecError.

        The file of a run has a value for all that was left to the run to choose; a new run chooses anew.
        """
        draft = cls.from_spec(load_spec(file))
        run = RunDirectory(file.parent)
        if file == run.spec and (asked := _asked(run)) is not None:
            for key, one in draft.fields.items():
                value: Any = asked
                for part in key.split("."):
                    value = value.get(part) if isinstance(value, dict) else None
                if value == one.default and not one.required:
                    draft.given.pop(key, None)
        return draft

    def set(self, key: str, text: str) -> None:
        """What was typed for a key; an empty text takes it back."""
        if text.strip():
            self.given[key] = text
        else:
            self.given.pop(key, None)

    def said(self) -> dict[str, str]:
        """What was given and differs from what stands without it."""
        return {key: text for key, text in self.given.items() if text.strip() != self.standing(key)}

    def standing(self, key: str) -> str:
        """What stands for a key that was not given: guessed, or the default's text."""
        return self.guessed.get(key) or self.fields[key].show(self.fields[key].default)

    def text(self, key: str) -> str:
        """What stands for a key: given, guessed, or the default's text."""
        return self.given.get(key) or self.standing(key)

    def value(self, key: str) -> Any:
        return self.fields[key].parse(self.given.get(key) or self.guessed.get(key) or "")

    def changes(self) -> dict[str, Any]:
        """Values by dotted key, of the keys that differ from their default."""
        keys = [key for key in self.fields if key in self.given or key in self.guessed]
        values = {key: self.value(key) for key in keys}
        return {key: value for key, value in values.items() if value != self.fields[key].default}

    def values(self) -> dict[str, Any]:
        """The changes as the nested tables of a TOML file."""
        tables: dict[str, Any] = {}
        for key, value in self.changes().items():
            *sections, last = key.split(".")
            place = tables
            for section in sections:
                place = place.setdefault(section, {})
            place[last] = value
        return tables

    def spec(self) -> RunSpec:
        """Raises SpecError."""
        return validate(self.values())

    def problems(self) -> list[Problem]:
        """What the spec's own checks say, by the key of a field."""
        values = self.values()
        values.setdefault("data", {})
        values.setdefault("backbone", {})
        return [Problem(self.field_of(path), message) for path, message in problems_in(values)]

    def field_of(self, path: str) -> str:
        """The key of a field for a path of the spec, such as a table or one class of `train.class_weights`."""
        if path in self.fields:
            return path
        below = [key for key in self.fields if key.startswith(f"{path}.")]
        above = [key for key in self.fields if path.startswith(f"{key}.")]
        return (below or above or ["name"])[0]

    def command(self, root: Path = DEFAULT_ROOT) -> list[str]:
        """The `deeptune run` that makes the same run, with no more than what differs from the defaults."""
        parts = ["deeptune", "run"]
        for key, value in self.changes().items():
            if key == "data.path" and isinstance(value, str):
                parts += ["--data", value]
            else:
                parts += ["--set", f"{key}={_toml(self.fields[key], value)}"]
        return parts + (["--output", str(root)] if root != DEFAULT_ROOT else [])

    def shell_command(self, root: Path = DEFAULT_ROOT) -> str:
        return shlex.join(self.command(root))

    # On the disk.

    def save(self, file: Path | None = None) -> None:
        """Replace the saved draft. Raises CheckpointError."""
        told = {"version": 1, "step": self.step, "given": self.given, "guessed": self.guessed}
        write_text(file or draft_file(), json.dumps(told, indent=1), durable=False)

    @classmethod
    def load(cls, file: Path | None = None) -> Draft | None:
        """The saved draft; None when there is none, or one that can't be used."""
        try:
            told = json.loads((file or draft_file()).read_text(encoding="utf-8"))
            draft = cls(step=str(told["step"]))
            for texts, into in ((told["given"], draft.given), (told["guessed"], draft.guessed)):
                into.update({key: text for key, text in texts.items() if key in draft.fields and isinstance(text, str)})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return draft if draft.said() else None


def draft_file(folder: Path | None = None) -> Path:
    """Where the draft that was begun in a folder is kept; without one that of the current folder."""
    begun_in = os.fsencode(folder.resolve() if folder is not None else Path.cwd())
    return state_folder() / "drafts" / f"{hashlib.sha256(begun_in).hexdigest()[:16]}.json"


def _asked(run: RunDirectory) -> dict[str, Any] | None:
    """The spec that a run was started with, before anything was chosen for it; None where that is not known."""
    try:
        asked = read_json(run.run).get("asked")
    except (CheckpointError, AttributeError):
        return None
    return asked if isinstance(asked, dict) else None


def _toml(one: SpecField, value: Any) -> str:
    """A value behind `--set key=`: TOML, or a bare word where that is read as the same."""
    if isinstance(value, str):
        plain = _BARE_WORD.fullmatch(value) and value not in _TOML_WORDS
        return value if plain else quoted(value)
    if isinstance(value, list):
        return quoted(value)
    return f"{{{one.show(value)}}}" if isinstance(value, dict) and value else one.show(value)

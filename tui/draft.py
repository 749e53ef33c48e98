"""A run spec while it is edited: typed values, guessed values, and problems."""

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
from deeptune.show.run_text import backbone_text
from deeptune.spec import RunSpec, load_spec
from deeptune.spec.fields import SpecField, quoted, spec_fields
from deeptune.spec.toml import problems_in, validate
from tui.options import state_folder

_BARE_WORD = re.compile(r"[A-Za-z][\w./:-]*", re.ASCII)
_TOML_WORDS = ("true", "false", "inf", "nan")
_KEYED = re.compile(r"([a-z_]+(?:\.[a-z_]+)*)(?:, ([a-z_]+\.[a-z_]+))?: ")


@dataclass(frozen=True)
class Problem:
    """A problem with a key, in the words of the command line, and what to do about it."""

    key: str
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, message: str, hint: str | None, *, key: str) -> Problem:
        """Make a problem of a message that may begin with its key; `key` is for one that doesn't."""
        if match := _KEYED.match(message):
            return cls(match[2] or match[1], message[match.end() :], hint)
        return cls(key, message, hint)


@dataclass
class Draft:
    """A spec as texts. `given` and `guessed` are by dotted key, as `SpecField.show` writes them.

    A key that was not given has the value guessed from the data, or else the spec's default. A text that does not parse
    stays as it was typed.
    """

    given: dict[str, str] = field(default_factory=dict)
    guessed: dict[str, str] = field(default_factory=dict)
    step: str = ""
    fields: dict[str, SpecField] = field(default_factory=lambda: {field.key: field for field in spec_fields()})

    @classmethod
    def from_spec(cls, spec: RunSpec) -> Draft:
        """Make a draft of the values that differ from the defaults."""
        draft = cls()
        for key, one in draft.fields.items():
            value: Any = spec
            for part in key.split("."):
                value = getattr(value, part, one.default)  # of a section that is left out
            if value != one.default or one.required:
                draft.set(key, one.show(value))
        return draft

    @classmethod
    def from_file(cls, file: Path) -> Draft:
        """Make a draft of a spec file, such as a preset or a run's spec. Raises SpecError.

        A run's spec has its `"auto"` values resolved. The draft has them as `"auto"` again.
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
        """Set the text of a key; an empty text removes it."""
        if text.strip():
            self.given[key] = text
        else:
            self.given.pop(key, None)

    def overrides(self) -> dict[str, str]:
        """Return the given texts that differ from the guess or the default."""
        return {key: text for key, text in self.given.items() if text.strip() != self.standing(key)}

    def standing(self, key: str) -> str:
        """Return the text of a key that was not given: the guess, or the default."""
        return self.guessed.get(key) or self.fields[key].show(self.fields[key].default)

    def text(self, key: str) -> str:
        """Return the text of a key: given, guessed, or the default."""
        return self.given.get(key) or self.standing(key)

    @property
    def words(self) -> str:
        """What data and which backbone it is about."""
        backbone = backbone_text(self.text("backbone.name"))
        return f"{self.text('data.path') or 'no data yet'} · {backbone or 'no backbone yet'}"

    def value(self, key: str) -> Any:
        return self.fields[key].parse(self.given.get(key) or self.guessed.get(key) or "")

    def changes(self) -> dict[str, Any]:
        """Return the values that differ from their default, by dotted key."""
        keys = [key for key in self.fields if key in self.given or key in self.guessed]
        values = {key: self.value(key) for key in keys}
        return {key: value for key, value in values.items() if value != self.fields[key].default}

    def values(self) -> dict[str, Any]:
        """Return the changes as the nested tables of a TOML file."""
        tables: dict[str, Any] = {}
        for key, value in self.changes().items():
            *sections, last = key.split(".")
            place = tables
            for section in sections:
                place = place.setdefault(section, {})
            place[last] = value
        return tables

    def spec(self) -> RunSpec:
        """Build the spec. Raises SpecError."""
        return validate(self.values())

    def problems(self) -> list[Problem]:
        """List the problems that the spec's own checks find, by the key of a field."""
        values = self.values()
        values.setdefault("data", {})
        values.setdefault("backbone", {})
        return [Problem(self.field_of(path), message) for path, message in problems_in(values)]

    def field_of(self, path: str) -> str:
        """Find the field of a path in the spec, such as a table or one class of `train.class_weights`."""
        if path in self.fields:
            return path
        below = [key for key in self.fields if key.startswith(f"{path}.")]
        above = [key for key in self.fields if path.startswith(f"{key}.")]
        return (below or above or ["name"])[0]

    def command(self, root: Path = DEFAULT_ROOT) -> list[str]:
        """Return the `deeptune run` command for this run, with only the values that differ from the defaults."""
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
        stored = {"version": 1, "step": self.step, "given": self.given, "guessed": self.guessed}
        write_text(file or draft_file(), json.dumps(stored, indent=1), durable=False)

    @classmethod
    def load(cls, file: Path | None = None) -> Draft | None:
        """Load the saved draft; None if there is none that can be used."""
        try:
            stored = json.loads((file or draft_file()).read_text(encoding="utf-8"))
            draft = cls(step=str(stored["step"]))
            for texts, into in ((stored["given"], draft.given), (stored["guessed"], draft.guessed)):
                into.update({key: text for key, text in texts.items() if key in draft.fields and isinstance(text, str)})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return draft if draft.overrides() else None


def draft_file(folder: Path | None = None) -> Path:
    """Return the file that keeps the draft of a folder, by default the current one."""
    begun_in = os.fsencode(folder.resolve() if folder is not None else Path.cwd())
    return state_folder() / "drafts" / f"{hashlib.sha256(begun_in).hexdigest()[:16]}.json"


def _asked(run: RunDirectory) -> dict[str, Any] | None:
    """Read the spec that a run was started with, before its `"auto"` values were resolved; None if unknown."""
    try:
        asked = read_json(run.run).get("asked")
    except (CheckpointError, AttributeError):
        return None
    return asked if isinstance(asked, dict) else None


def _toml(one: SpecField, value: Any) -> str:
    """Write a value for `--set key=`: as TOML, or as a bare word where that reads the same."""
    if isinstance(value, str):
        plain = _BARE_WORD.fullmatch(value) and value not in _TOML_WORDS
        return value if plain else quoted(value)
    if isinstance(value, list):
        return quoted(value)
    return f"{{{one.show(value)}}}" if isinstance(value, dict) and value else one.show(value)

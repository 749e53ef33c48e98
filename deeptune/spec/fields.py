"""The keys of a run spec, read from its models, for forms, help and the reference.

A form shows each value as a line of text. `SpecField.show` and `SpecField.parse` are inverse to each other. Text that
is not of the field's type stays as it was typed, so that `validate` says what it expected.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from deeptune.spec.modalities import COLUMNS
from deeptune.spec.run_spec import RunSpec
from deeptune.spec.toml import describe, expected, model_of, parse_toml

Kind = Literal["choice", "integer", "number", "text", "paths", "columns", "several", "list", "numbers", "table"]

_UNSHOWN = r"\x00-\x1f\x7f-\x9f\u2028\u2029"  # what moves a cursor, or ends a line
_BARE = re.compile(rf"[^\s\"'\[{{{_UNSHOWN}](?:[^{_UNSHOWN}]*[^\s{_UNSHOWN}])?")
_ITEM = re.compile(r"[\w.*/-]+", re.ASCII)


def quoted(value: str | list[str]) -> str:
    """Write a string or a list of strings as TOML on one line. JSON's escapes are also TOML's."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(rf"[{_UNSHOWN}]", lambda match: f"\\u{ord(match[0]):04x}", text)


@dataclass(frozen=True)
class SpecField:
    """One key of a spec.

    `default` is what the spec holds when the key is left out (None for a required key), `words` are the values that are
    chosen by name: all there are for a `choice` or `several`, and those besides a number, list or table for the others.
    """

    key: str
    kind: Kind
    default: Any
    required: bool
    optional: bool
    words: tuple[Any, ...]
    help: str
    accepts: str

    @property
    def section(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]

    def show(self, value: Any) -> str:
        """Write a value as the text that `parse` reads; a missing value is an empty text."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float):
            return repr(value).removesuffix(".0")
        if isinstance(value, str):
            several = self.kind == "columns" and "," in value
            return value if _BARE.fullmatch(value) and not several else quoted(value)
        if isinstance(value, list) and self.kind == "numbers":
            return f"[{', '.join(repr(item).removesuffix('.0') for item in value)}]"
        if isinstance(value, list):
            if self._as_words(value):
                return ", ".join(value)
            return quoted(value)
        if isinstance(value, dict):
            pairs = (
                f"{k if _ITEM.fullmatch(k) and k.isidentifier() else quoted(k)} = {self.show(v)}"
                for k, v in value.items()
            )
            return ", ".join(pairs) or "{}"
        return str(value)

    def _as_words(self, value: list[str]) -> bool:
        """Check whether a list can stand without brackets: one that would read as a word, or one name, can't."""
        plain = {
            "several": True,
            "list": value[:1] not in [[word] for word in self.words],
            "columns": len(value) > 1,
        }.get(self.kind, False)
        return bool(value) and plain and all(_ITEM.fullmatch(item) for item in value)

    def parse(self, text: str) -> Any:
        """Read the value that a text stands for; an empty text is the default."""
        text = text.strip()
        if not text:
            return self.default
        for word in self.words:
            if text == self.show(word) and self.kind != "several":
                return word
        try:
            return self._parsed(text)
        except ValueError:
            return text

    def _parsed(self, text: str) -> Any:
        if self.kind == "integer":
            return int(text)
        if self.kind == "number":
            return float(text)
        if self.kind == "numbers":
            return [float(part) for part in text.removeprefix("[").removesuffix("]").split(",")]
        if self.kind == "table":
            return parse_toml(f"value = {text if text.startswith('{') else '{' + text + '}'}")["value"]
        if text[0] in ("\"'" if self.kind == "text" else "\"'["):
            return parse_toml(f"value = {text}")["value"]
        if self.kind in ("list", "several") or (self.kind == "columns" and "," in text):
            return [item for part in text.split(",") if (item := part.strip())]
        return text


def spec_fields(model: type[BaseModel] = RunSpec, prefix: str = "", *, optional: bool = False) -> list[SpecField]:
    """List the keys of a spec, in the order of its models; with `optional`, of a section that may be left out."""
    found: list[SpecField] = []
    for name, field in model.model_fields.items():
        below = field.annotation
        if (section := model_of(below)) is not None:
            found += spec_fields(section, f"{prefix}{name}.", optional=optional or section is not below)
            continue
        default = field.get_default(call_default_factory=True)
        required = default is PydanticUndefined
        kind, words = _kind(below)
        if kind == "paths" and _names_columns(below, field.metadata):
            kind = "columns"
        members = _members(below)
        found.append(
            SpecField(
                key=prefix + name,
                kind=kind,
                default=None if required else default,
                required=required and not optional,
                optional=type(None) in members or (required and optional),
                words=words,
                help=describe(field),
                accepts=expected(field),
            )
        )
    return found


def field_rows() -> list[tuple[str, str, str]]:
    """List each key of a run spec as (dotted key, default as TOML, accepted values and meaning)."""
    return [
        (
            field.key,
            "(required)" if field.required else "" if field.default is None else json.dumps(field.default),
            f"{field.help} Accepts {field.accepts}.",
        )
        for field in spec_fields()
    ]


def _members(annotation: Any) -> list[Any]:
    """List the alternatives of an annotation: `Literal`s, `list[...]`s, `dict[...]`s and plain types."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Literal, list, dict) or isinstance(annotation, type):
        return [annotation]
    return [member for argument in get_args(annotation) for member in _members(argument)]


def _names_columns(annotation: Any, metadata: list[Any]) -> bool:
    marked = [COLUMNS in one.__metadata__ for one in get_args(annotation) if get_origin(one) is Annotated]
    return COLUMNS in metadata or any(marked)


def _kind(annotation: Any) -> tuple[Kind, tuple[Any, ...]]:
    members = [member for member in _members(annotation) if member is not type(None)]
    words = tuple(word for member in members if get_origin(member) is Literal for word in get_args(member))
    others = [member for member in members if get_origin(member) is not Literal]
    if not others:
        return "choice", words
    if others == [bool]:
        return "choice", (True, False)
    if str in others:
        return ("paths" if any(get_origin(other) is list for other in others) else "text"), words
    first = others[0]
    if get_origin(first) is dict:
        return "table", words
    if get_origin(first) is list:
        item = get_args(first)[0]
        if item is float:
            return "numbers", words
        return ("several", get_args(item)) if get_origin(item) is Literal else ("list", words)
    return ("number" if first is float else "integer"), words

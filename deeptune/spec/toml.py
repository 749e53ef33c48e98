"""Specs as TOML: read a spec and report all its errors together, apply overrides, write it."""

from __future__ import annotations

import datetime
import math
import re
import reprlib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ValidationError

from deeptune.errors import SpecError, did_you_mean, listed
from deeptune.spec.aliases import nearest_keys
from deeptune.spec.run_spec import RunSpec

MAX_BYTES = 4_000_000  # bytes of a spec file: room for forty thousand paths
MAX_PROBLEMS = 50  # problems in one message
MAX_SHOWN = 200  # characters of a key or a value in a message


def load_spec(
    path: Path | None,
    overrides: Iterable[str] = (),
    *,
    data: str | None = None,
    changes: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> RunSpec:
    """Read a spec file (or start from nothing), apply `section.key=value` overrides, and validate.

    `data` is a Parquet path that replaces the data that the file names. `changes` are values by dotted key, and so are
    `defaults`, for keys that nothing else sets.

    Raises SpecError with all problems together, each with its dotted path and, for a value of the file, its line.
    """
    values: dict[str, Any] = {}
    text = ""
    if path is not None:
        try:
            text = _read_text(path)
        except OSError as error:
            raise SpecError(f"cannot read {path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise SpecError(f"{path} is not a text file: {error.reason} at byte {error.start}") from error
        try:
            values = parse_toml(text)
        except ValueError as error:
            raise SpecError(f"{path} is not valid TOML: {error}") from error
    overrides = list(overrides)
    for given in (*overrides, data or ""):
        if any("\ud800" <= character <= "\udfff" for character in given):  # how Python holds bytes that are not text
            raise SpecError(
                f"{shown(given)} is not valid UTF-8", hint="Rename the file: a spec is stored as UTF-8 text."
            )
    overridden: dict[str, str] = {}  # what set a key, in words, where it is not the file
    if data is not None:
        section = values.setdefault("data", {})
        if isinstance(section, dict):
            for key in ("train", "val", "test"):
                section.pop(key, None)
            section["path"] = data
            overridden["data.path"] = "--set"
    for override in overrides:
        overridden[apply_override(values, override)] = "--set"
    for key, value in (changes or {}).items():
        set_key(values, key, value)
        overridden[key] = "changes"
    set_missing(values, defaults or {})
    lines = {key: number for key, number in key_lines(text).items() if key not in overridden}
    return validate(values, source=str(path) if path else None, lines=lines, overridden=overridden)


def validate(
    values: dict[str, Any],
    *,
    source: str | None = None,
    lines: dict[str, int] | None = None,
    overridden: Mapping[str, str] | None = None,
) -> RunSpec:
    """Build a RunSpec from plain values. Raises SpecError that lists every problem, one a line."""
    try:
        return RunSpec.model_validate(values)
    except ValidationError as error:
        problems_by_line = []
        for path, message in _problems(error):
            line, place = _place(path, source, lines or {}, overridden or {})
            problems_by_line.append((line, f"{place}{path}: {message}"))
        problems = [problem for _, problem in sorted(problems_by_line, key=lambda entry: entry[0])]
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        if error.error_count() > MAX_PROBLEMS:
            count = f"more than {count}"
        raise SpecError(
            f"{count} in the run spec{f' {source}' if source else ''}:\n" + "\n".join(f"  {p}" for p in problems),
            hint="`deeptune spec fields` explains every key.",
        ) from None  # pydantic's own words would stand above these


def problems_in(values: dict[str, Any]) -> list[tuple[str, str]]:
    """List the problems that `validate` would raise, as (dotted key, message); empty for a valid spec."""
    try:
        RunSpec.model_validate(values)
    except ValidationError as error:
        return _problems(error)
    return []


def apply_override(values: dict[str, Any], override: str) -> str:
    """Set `section.key=value` in `values`; the value is TOML, or a bare word for a string. Returns the dotted key."""
    key, equals, text = override.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not re.fullmatch(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*", key):
        raise SpecError(
            f"--set {shown(override)} is not of the form section.key=value", hint="For example: --set train.epochs=5"
        )
    try:
        parsed = parse_toml(f"value = {text}")
        if len(parsed) > 1:
            raise ValueError("it goes on after the value")
        value = parsed["value"]
    except ValueError as error:
        if not text or text[0] in "\"'[{":
            raise SpecError(f"--set {_cut(key)}: {shown(text)} is not a TOML value: {error}") from error
        value = text
    set_key(values, key, value, place="--set ")
    return key


def set_key(values: dict[str, Any], key: str, value: Any, *, place: str = "") -> None:
    """Set a dotted key in nested sections. Raises SpecError, which begins with `place`, where a section is a value."""
    *sections, last = key.split(".")
    inner = values
    for section in sections:
        below = inner.setdefault(section, {})
        if not isinstance(below, dict):
            raise SpecError(f"{place}{_cut(key)}: {shown(section)} is a value, not a section")
        inner = below
    inner[last] = value


def set_missing(values: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Set dotted keys that nested sections do not have."""
    for key, value in defaults.items():
        if key not in flat(values):
            set_key(values, key, value)


def _read_text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise SpecError(f"{path} is not a regular file", hint="A spec is a TOML file.")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SpecError(f"{path} is larger than {MAX_BYTES:,} bytes: it is not a run spec")
    return content.decode("utf-8-sig")


# What the limits below must not look into: strings (also those that never end) and comments.
_QUOTED = re.compile(
    r"""\"{3}(?s:[^"\\]++|\\.|"(?!""))*+(?:"{3})?|'{3}(?:[^']++|'(?!''))*+(?:'{3})?|#[^\n]*+|"(?:\\.|[^"\\\n])*+"?|'[^'\n]*+'?"""
)
_DEEP_KEY = re.compile(r"(?<![\w.-])(?:[\w-]++\.){16}")
_LONG_NUMBER = re.compile(r"(?<![\w-])\d\w{1000}")


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML into plain values. Raises ValueError for text that is not TOML or takes Python too long.

    `tomllib` takes time quadratic in the parts of a key, and the interpreter refuses to print a number of thousands of
    digits.
    """
    bare = _QUOTED.sub(lambda match: "" if match[0].startswith("#") else "s", text)
    bare = re.sub(r"(?<![ \t])[ \t]*+\.[ \t]*+", ".", bare)
    if match := _DEEP_KEY.search(bare):
        raise ValueError(f"a key has more than 16 parts ({shown(match[0])})")
    if match := _LONG_NUMBER.search(bare):
        raise ValueError(f"a number has more than 1,000 digits ({shown(match[0])})")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("its lists or tables are nested too deep") from None


def shown(value: Any) -> str:
    """Write a value as messages show it: as Python does, cut where it is long or deep."""
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if not isinstance(value, (str, int, float, list, tuple, dict, type(None))):  # from Python, such as a table
        return f"a value of type {type(value).__name__}"
    short = reprlib.Repr()
    short.maxstring = short.maxlong = short.maxother = MAX_SHOWN
    short.maxdict = short.maxlist = 8
    return short.repr(value)


def dump_spec(spec: RunSpec, *, comment: str = "", only_set: bool = False) -> str:
    """Write the spec as TOML, without keys that have no value; `only_set` leaves out defaults."""
    body = tomli_w.dumps(_without_none(spec.model_dump(mode="python", exclude_unset=only_set)))
    return "".join(f"# {line}\n" for line in comment.splitlines()) + body


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


_HEADER = re.compile(r"^\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_.\"'-]+)\s*=")


def key_lines(text: str) -> dict[str, int]:
    """Find the line number (from 1) of each dotted key of a TOML text, as far as possible.

    Keys inside an inline table have no line of their own; `_place` falls back to the nearest parent.
    """
    lines: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            section = re.sub(r"[\s\"']", "", header.group(1))
            lines.setdefault(section, number)
        elif key := _KEY.match(line):
            name = re.sub(r"[\s\"']", "", key.group(1))
            lines.setdefault(f"{section}.{name}" if section else name, number)
    return lines


def _place(path: str, source: str | None, lines: dict[str, int], overridden: Mapping[str, str]) -> tuple[float, str]:
    """Return the line to sort a problem by, and its place in words: a line, what set the key instead, or the file."""
    for key, place in overridden.items():
        if path == key or path.startswith(key + "."):
            return math.inf, f"{place}: "
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        if (line := lines.get(".".join(parts[:length]))) is not None:
            return line, f"line {line}: "
    for key, place in overridden.items():
        if key.startswith(path + "."):
            return math.inf, f"{place}: "
    return 0, f"{Path(source).name}: " if source else ""


def _problems(error: ValidationError) -> list[tuple[str, str]]:
    """List the problems as (dotted path, message). The alternatives of a union give one problem."""
    found: dict[str, str] = {}
    for item in error.errors(include_url=False)[:MAX_PROBLEMS]:
        path, model, field = _resolve(item["loc"])
        path, kind = _cut(path) or ('""' if item["loc"] else ""), item["type"]
        section = RunSpec.model_fields.get(path)  # a section is not a field, but has a help
        if kind == "extra_forbidden":
            near = nearest_keys(path, model.model_fields, spec_keys())
            hint = near or "Known keys: " + ", ".join(model.model_fields) + "."
            found[path] = f"unknown key. {hint}"
        elif kind == "missing":
            found[path] = f"is missing. {describe(field or section)}".rstrip()
        elif kind == "value_error":
            found[path] = _cut(str(item["ctx"]["error"]), 10 * MAX_SHOWN)
        elif field is None:
            keys = describe(section) or f"Its keys: {listed(model.model_fields)}."
            found[path] = f"expected a table of keys, got {shown(item['input'])}. {keys}"
        else:
            value = item["input"]
            options = [option for option in _literals(field.annotation) if isinstance(option, str)]
            near = did_you_mean(value, options) if isinstance(value, str) else ""
            found.setdefault(path, f"expected {expected(field)}, got {shown(value)}. {near}".rstrip())
    problems: list[tuple[str, str]] = []
    for path, message in found.items():
        # A validator of the whole spec names the keys itself, one a line.
        problems += [(path, message)] if path else [tuple(line.split(": ", 1)) for line in message.splitlines()]  # type: ignore[misc]
    return problems


def _cut(text: str, limit: int = MAX_SHOWN) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


def _resolve(loc: tuple[int | str, ...]) -> tuple[str, type[BaseModel], Any]:
    """Resolve a pydantic location to its dotted path without union branches, its model, and its field.

    For a section the model is that of the section, and the field None.
    """
    model: type[BaseModel] = RunSpec
    parts: list[str] = []
    field = None
    for step in loc:
        if field is not None and (below := model_of(field.annotation)) is not None:
            model, field = below, None
        if field is not None:
            break  # deeper steps are union branches or items of this field
        parts.append(str(step))
        field = model.model_fields.get(str(step))
        if field is None:
            return ".".join(parts), model, None
    if field is not None and (below := model_of(field.annotation)) is not None and len(parts) == len(loc):
        return ".".join(parts), below, None
    return ".".join(parts), model, field


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section that an annotation means, which may be left out; None for a value."""
    members = [member for member in get_args(annotation) or (annotation,) if member is not type(None)]
    only = members[0] if len(members) == 1 else None
    return only if isinstance(only, type) and issubclass(only, BaseModel) else None


def spec_keys(model: type[BaseModel] = RunSpec, prefix: str = "") -> list[str]:
    """List the dotted keys of the spec, or of one of its sections."""
    keys = []
    for name, field in model.model_fields.items():
        below = model_of(field.annotation)
        keys += [f"{prefix}{name}"] if below is None else spec_keys(below, f"{prefix}{name}.")
    return keys


def _literals(annotation: Any) -> list[Any]:
    found: list[Any] = []
    for argument in get_args(annotation):
        if get_origin(annotation) is Literal:
            found.append(argument)
        else:
            found += _literals(argument)
    return found


def describe(field: Any) -> str:
    """Return the field's help as one sentence, or an empty string."""
    return (getattr(field, "description", None) or "").strip()


def expected(field: Any) -> str:
    """Describe the values that a field accepts: `an integer of at least 1, or 'auto'`."""
    return _words(field.annotation, list(field.metadata))


_NAMES = {int: "an integer", float: "a number", str: "text", bool: "true or false", dict: "a table", list: "a list"}


def _words(annotation: Any, metadata: list[Any]) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _NAMES:
        bounds = []
        for constraint in metadata:
            for part in [constraint, *getattr(constraint, "metadata", [])]:
                bounds += [
                    f"{word} {getattr(part, name):,}"
                    for name, word in (("ge", "of at least"), ("gt", "above"), ("le", "of at most"), ("lt", "below"))
                    if getattr(part, name, None) is not None
                ]
                if pattern := getattr(part, "pattern", None):
                    bounds.append(f"matching {pattern}")
        return " ".join([_NAMES[annotation], " and ".join(dict.fromkeys(bounds))]).strip()
    if origin is Literal:
        *first, last = map(repr, arguments)
        return f"{', '.join(first)} or {last}" if first else last
    if origin is Annotated:
        return _words(arguments[0], [*arguments[1:], *metadata])
    if origin is list:
        return f"a list of {_words(arguments[0], []).removeprefix('a ').removeprefix('an ')}"
    if origin is dict:
        return f"a table of {_words(arguments[1], []).removeprefix('a ').replace('number', 'numbers', 1)}"
    if arguments:
        return " or ".join(_words(argument, metadata) for argument in arguments if argument is not type(None))
    return "a table of keys"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one table with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found

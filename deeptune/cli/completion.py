"""Shell completion: presets, backbones, runs, and the keys and values of a spec."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable
from contextlib import suppress

_VARIABLE = "_DEEPTUNE_COMPLETE"  # which shell asks, as Typer names it
BACKBONE_KEYS = ("backbone.name", "backbone.text.name")


def join_words() -> None:
    """Join `key`, `=` and `value` in the words that bash hands over: it splits them at each `=`."""
    if os.environ.get(_VARIABLE) != "complete_bash":
        return
    with suppress(KeyError, ValueError):
        place = int(os.environ["COMP_CWORD"])
        words = os.environ["COMP_WORDS"].split("\n")[: place + 1]
        joined: list[str] = []
        for at, word in enumerate(words):
            if joined and at > 1 and (word == "=" or words[at - 1] == "="):
                joined[-1] += word
            else:
                joined.append(word)
        if len(joined) < len(words):
            os.environ["COMP_WORDS"] = "\n".join(shlex.quote(word) if word else "" for word in joined)
            os.environ["COMP_CWORD"] = str(len(joined) - 1)


def presets(_context: object, _parameter: object, incomplete: str) -> list[str]:
    """Complete presets by the beginning of their names; the shell adds files."""
    from deeptune.spec.presets import preset_files

    return _beginning(preset_files(), incomplete)


def backbones(_context: object, _parameter: object, incomplete: str) -> list[str]:
    """Complete backbones by the beginning of their names."""
    from deeptune.catalog import CATALOG

    return _beginning(CATALOG, incomplete)


def runs(_context: object, _parameter: object, incomplete: str) -> list[str]:
    """Return the ids of the runs in `runs/`, the newest first, and `latest`."""
    from deeptune.runs.directory import runs_in

    with suppress(OSError):
        return _beginning(["latest", *(run.id for run in runs_in())], incomplete)
    return []


def keys(_context: object, _parameter: object, incomplete: str) -> list[str]:
    """Complete keys and sections of a spec by their beginning."""
    from deeptune.spec.fields import field_rows

    names = [row[0] for row in field_rows()]
    sections = dict.fromkeys(name.rpartition(".")[0] for name in names)
    return _beginning([*filter(None, sections), *names], incomplete)


def words_of(key: str) -> Callable[[object, object, str], list[str]]:
    """Complete the words that a key of a spec takes."""

    def words(_context: object, _parameter: object, incomplete: str) -> list[str]:
        from deeptune.spec.fields import spec_fields

        return _beginning((word for field in spec_fields() if field.key == key for word in field.words), incomplete)

    return words


def settings(_context: object, _parameter: object, incomplete: str) -> list[str]:
    """Complete the keys of a spec as `key=`, and `key=value` once a word names one key.

    A shell types what all offers begin with. The offers of one key are therefore two at least, as a shell ends a single
    offer with a space.
    """
    from deeptune.spec.fields import spec_fields

    key, equals, begun = incomplete.partition("=")
    fields = spec_fields()
    found = [field for field in fields if (field.key == key if equals else field.key.startswith(key))]
    if len(found) != 1:
        return [f"{field.key}=" for field in found]
    field = found[0]
    values = [field.show(word) for word in field.words]
    if field.key in BACKBONE_KEYS:
        values = backbones(_context, _parameter, begun if equals else "")
    elif not field.required and field.default is not None:
        values = list(dict.fromkeys([*values, field.show(field.default)]))
    if not equals:
        return [f"{field.key}=", *(f"{field.key}={value}" for value in values)]
    # Bash replaces only what stands after the `=`.
    before = "" if os.environ.get(_VARIABLE) == "complete_bash" else f"{field.key}="
    return [before + value for value in values if value.startswith(begun)]


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]

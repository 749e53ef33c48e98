"""The user's own keys: a TOML file of binding ids and keys."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

from textual.binding import Binding
from textual.keys import _character_to_key

from deeptune.errors import SpecError, did_you_mean
from tui.options import config_folder


def keymap_file() -> Path:
    """Return the path of the user's own keys."""
    return config_folder() / "keys.toml"


def load_keymap(path: Path | None = None) -> dict[str, str]:
    """Read the keys by binding id, such as `"runs.stop" = "x"`; empty if there is no such file.

    Raises SpecError that names every unknown id and every value that is not a key.
    """
    path = path or keymap_file()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read {path}: {error}") from error
    import tomllib

    try:
        values = tomllib.loads(text)
    except ValueError as error:
        raise SpecError(f"{path} is not valid TOML: {error}") from error
    known = {binding.id for _, binding in all_bindings()}
    problems = []
    for name, key in values.items():
        if name not in known:
            near = did_you_mean(name, sorted(id for id in known if id))
            problems.append(f"there is no binding {name!r}. {near}".rstrip())
        elif not isinstance(key, str) or not key.strip():
            problems.append(f"{name}: expected a key such as 'x' or 'ctrl+x', got {key!r}")
    if problems:
        raise SpecError(
            f"{path}: " + "\n".join(problems),
            hint='Each line is an id and its keys, such as "runs.stop" = "x". The help screen (F1) shows the ids.',
        )
    return values


SPARE = tuple(f"f{number}" for number in range(5, 13))  # for a binding whose only key was taken


def without_clashes(keymap: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Give other keys to the bindings whose key the keymap takes. Returns the keymap and a sentence about each of them.

    Two bindings clash if both work in the same place, or one of them works everywhere.
    """
    found = {str(binding.id): (place, binding) for place, binding in all_bindings()}
    keys = {name: _keys(binding.key) for name, (_, binding) in found.items()}
    keys |= {name: _keys(text) for name, text in keymap.items()}
    changed, notices = dict(keymap), []
    for taker in keymap:
        place = found[taker][0]
        near = [name for name in keys if name != taker and (place == "app" or found[name][0] in (place, "app"))]
        for loser in near:
            taken = [key for key in keys[loser] if key in keys[taker]]
            if not taken:
                continue
            kept = [key for key in keys[loser] if key not in taken]
            if not kept:
                used = {key for name in near for key in keys[name]} | set(keys[taker])
                freed = _keys(found[taker][1].key) if found[loser][0] == place else []
                kept = [next(key for key in (*freed, *SPARE) if key not in used)]
            keys[loser] = kept
            changed[loser] = ",".join(kept)
            notices.append(
                f"{', '.join(taken)} is now {taker} ({keymap_file().name}), so {loser} is on {', '.join(kept)}"
            )
    return changed, notices


def _keys(text: str) -> list[str]:
    """List the keys of a binding by their long names, as Textual compares them: `slash` for `/`."""
    parts = [part.strip() for part in text.split(",")]
    return [_character_to_key(part) if len(part) == 1 else part for part in parts if part]


def all_bindings() -> Iterator[tuple[str, Binding]]:
    """List every binding with an id as (place, binding). Imports every screen and widget."""
    import tui

    seen: set[str] = set()
    for module in pkgutil.walk_packages(tui.__path__, "tui."):
        if module.name.endswith("__main__"):
            continue
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if found.__module__.startswith("tui."):
                for binding in found.__dict__.get("BINDINGS", ()):
                    if isinstance(binding, Binding) and binding.id and binding.id not in seen:
                        seen.add(binding.id)
                        yield binding.id.partition(".")[0], binding

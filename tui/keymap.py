"""Keys of the user's own: a TOML file of binding ids and keys."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

from textual.binding import Binding

from deeptune.errors import SpecError, did_you_mean
from tui.options import config_folder


def keymap_file() -> Path:
    return config_folder() / "keys.toml"


def load_keymap(path: Path | None = None) -> dict[str, str]:
    """Keys by binding id, such as `"runs.stop" = "x"`; empty when there is no such file.

    Raises SpecError that names every id which does not exist and every value that is no key.
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


def all_bindings() -> Iterator[tuple[str, Binding]]:
    """(where it works, binding) of every binding with an id; imports every screen and widget."""
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

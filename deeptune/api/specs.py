"""Specs from what a Python program has at hand: a file, a preset's name, a dictionary."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from deeptune.errors import SpecError
from deeptune.formatting import kind_of
from deeptune.spec import toml
from deeptune.spec.presets import find_spec_file
from deeptune.spec.run_spec import RunSpec

SpecLike = RunSpec | str | os.PathLike[str] | Mapping[str, Any]


def load_spec(
    spec: SpecLike, changes: Mapping[str, Any] | None = None, *, defaults: Mapping[str, Any] | None = None
) -> RunSpec:
    """Read and validate a run spec.

    `spec` is a TOML file's path, a preset's name (`deeptune presets`), a dictionary, or a RunSpec. A dictionary has
    sections, `{"data": {"path": "a.parquet"}}`, or dotted keys, `{"data.path": "a.parquet"}`; so has `changes`, whose
    values take the place of those in `spec`, and `defaults`, for keys that neither has. `RunSpec` documents every key.

    Raises SpecError with every problem at once, each with its key, and the line where it came from a file.
    """
    for argument, given in (("changes", changes), ("defaults", defaults)):
        if not isinstance(given, Mapping | None):
            raise SpecError(f"{argument}: expected a dictionary of keys, got {kind_of(given)}")
    if isinstance(spec, RunSpec):
        return toml.validate(_changed(spec.model_dump(exclude_unset=True), changes)) if changes else spec
    if isinstance(spec, Mapping):
        values = _changed(_changed({}, spec), changes or {})
        toml.set_missing(values, defaults or {})
        return toml.validate(values)
    if not isinstance(spec, (str, os.PathLike)):
        raise SpecError(f"spec: expected a RunSpec, a path, a preset's name or a dictionary, got {kind_of(spec)}")
    return toml.load_spec(find_spec_file(os.fspath(spec)), changes=_flat(changes or {}), defaults=defaults)


def _changed(values: dict[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    for key, value in _flat(changes or {}).items():
        toml.set_key(values, key, value)
    return values


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted key; paths become text."""
    return dict(_items(values, ""))


def _items(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _items(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{key}", [_plain(item) for item in value]
        else:
            yield f"{prefix}{key}", _plain(value)


def _plain(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value

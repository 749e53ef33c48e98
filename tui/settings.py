"""Settings that the interface keeps between starts."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from deeptune.errors import DeepTuneError
from tui.options import config_folder


def settings_file() -> Path:
    """Return the path of the settings that the interface remembers."""
    return config_folder() / "settings.toml"


def load_settings() -> dict[str, Any]:
    """Read the settings by name, such as `theme`; empty if the file is missing or unreadable."""
    import tomllib

    with suppress(OSError, ValueError):
        return tomllib.loads(settings_file().read_text(encoding="utf-8"))
    return {}


def save_setting(name: str, value: str | bool | int) -> None:
    """Save one setting beside the others. A folder that can't be written is ignored."""
    from deeptune.runs.files import write_text

    settings = load_settings() | {name: value}
    # What JSON writes of a text, a truth value or an integer is TOML as well.
    lines = [f"{key} = {json.dumps(one)}" for key, one in settings.items() if isinstance(one, str | bool | int)]
    with suppress(DeepTuneError, OSError):
        settings_file().parent.mkdir(parents=True, exist_ok=True)
        write_text(settings_file(), "\n".join(lines) + "\n", durable=False)

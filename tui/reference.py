"""Generate the reference of options and keys: `python -m tui.reference docs/tui-keys.md`."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

SCREENS = {
    "app": "Everywhere",
    "screen": "Every screen",
    "ask": "Questions",
    "copied": "What was copied",
    "jump": "Jump mode",
}


def reference() -> str:
    """Generate the text of `docs/tui-keys.md`."""
    import typer

    from deeptune.cli.reference import command_parts, table_text
    from tui.keymap import all_bindings
    from tui.main import app

    parts = [
        "# The terminal interface: options and keys",
        "<!-- Made by `python -m tui.reference docs/tui-keys.md`: change the bindings, then make it again. -->",
        *command_parts("deeptune-tui", typer.main.get_command(app)),
        "## Keys",
        "On any screen F1 shows those that work there. Others are set in `~/.config/deeptune/keys.toml`, a line for "
        'each: an id and its keys, such as `"runs.stop" = "x"` or `"runs.leave" = "escape,f10"`.',
    ]
    for place, found in groupby(sorted(all_bindings(), key=lambda one: one[0]), key=lambda one: one[0]):
        rows = [(f"`{binding.key}`", binding.tooltip, f"`{binding.id}`") for _, binding in found]
        parts += [f"### {SCREENS.get(place, place.capitalize())}", table_text(("key", "what", "id"), rows)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tui.reference FILE")
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")

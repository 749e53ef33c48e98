"""The command palette: every action that a key has, the presets, the themes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.app import SystemCommand
from textual.screen import Screen

from tui.screens.help import active

if TYPE_CHECKING:
    from tui.app import DeepTuneApp


def commands(app: DeepTuneApp, screen: Screen[Any]) -> Iterator[SystemCommand]:
    """List the commands of the palette: the screen's bindings, then a new run from each preset."""
    for binding in active(screen):
        title = binding.description or str(binding.id).partition(".")[2].replace("_", " ").capitalize()
        keys = app.get_key_display(binding)
        help = f"{binding.tooltip or title} ({keys})"
        yield SystemCommand(title, help, partial(app.run_action, binding.action, screen))
    if not app.options.read_only:
        from deeptune.spec.presets import preset_files

        for name, file in preset_files().items():
            yield SystemCommand(
                f"New run from {name}", "Open this preset in the wizard", partial(app.open_wizard, file)
            )
    for theme in app.available_themes:
        yield SystemCommand(f"Theme {theme}", "Change the colours", partial(setattr, app, "theme", theme))

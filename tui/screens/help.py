"""The keys of a screen, from its bindings."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from tui.keymap import keymap_file


def active(screen: Screen[Any]) -> list[Binding]:
    """List the bindings with an id that work on a screen now, each once."""
    found: dict[str, Binding] = {}
    for one in screen.active_bindings.values():
        binding = one.binding
        if binding.id and binding.id not in found:
            found[binding.id] = binding
    return list(found.values())


class HelpScreen(ModalScreen[None]):
    """Shows the keys of the screen below, with their actions and the ids to remap them by."""

    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,f1", "dismiss", "Close", id="help.close", tooltip="Back to where you were"),
    ]

    def __init__(self, of: Screen[Any]) -> None:
        super().__init__()
        self._of = of
        self._bindings_shown = active(of)

    def compose(self) -> ComposeResult:
        with Vertical(id="help"):
            yield Static(
                f"Keys · {getattr(self._of, 'where', '') or type(self._of).__name__}", id="help-title", markup=False
            )
            with VerticalScroll():
                yield Static(self._table(), markup=False)
                yield Static(f'\nKeys of your own: lines such as  "runs.stop" = "x"  in {keymap_file()}', markup=False)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0), expand=True)
        table.add_column(no_wrap=True, style="bold")
        table.add_column(ratio=1)
        table.add_column(style="dim", no_wrap=True)
        for binding in self._bindings_shown:
            keys = self._keys(binding)
            what = binding.tooltip or binding.description
            table.add_row(Text(keys), Text(what), Text(str(binding.id)))
        return table

    def _keys(self, binding: Binding) -> str:
        same = [one.binding for one in self._of.active_bindings.values() if one.binding.id == binding.id]
        return " ".join(dict.fromkeys(self.app.get_key_display(one) for one in same))

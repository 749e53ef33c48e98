"""The base of windows above a screen."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

Answer = TypeVar("Answer")


class Window(ModalScreen[Answer]):
    """A window, which hides the keys of the app. The app's key of the help works in it too; `where` is its title."""

    where = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "app.help", show=False, id="app.help", tooltip="What every key does here"),
    ]

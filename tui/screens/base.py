"""The base of every full screen: a title line, the keys, and timers that pause while the screen is covered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Footer, Static
from textual.widgets._footer import FooterKey

from deeptune.formatting import safe

if TYPE_CHECKING:
    from tui.app import DeepTuneApp


class TitleBar(Static):
    """The title line: the program, the place, and what is special about this session."""

    DEFAULT_CSS = "TitleBar { dock: top; height: 1; background: $panel; padding: 0 1; text-wrap: nowrap; }"

    def say(self, where: str, note: str = "") -> None:
        self.update(
            Content.assemble(
                ("DeepTune", "bold $primary"),
                "  ",
                (f"{note}  " if note else "", "$warning"),
                (safe(where), "$foreground"),
            )
        )


class Keys(Footer):
    """Shows the keys of a screen in the order of its bindings, as many as fit. Help, which lists all, always stays.

    Where not all fit, they get the short words that the screen has for them, and those in `DISPENSABLE` go first, in
    their order.
    """

    def compose(self) -> ComposeResult:
        keys = [key for key in super().compose() if isinstance(key, FooterKey)]
        screen, short, last = self.screen, dict[str, str](), tuple[str, ...]()
        if isinstance(screen, DeepTuneScreen):
            short, last = screen.SHORT, screen.DISPENSABLE
            keys = [key for key in keys if screen.useful(key.action)]
        room, kept = screen.size.width + 1, set()
        if sum(map(_width, keys)) > room:
            for key in keys:
                key.description = short.get(key.action, key.description)
        order = {"help": -1} | {action: len(last) - place for place, action in enumerate(last)}
        for key in sorted(keys, key=lambda key: order.get(key.action, 0)):
            width = _width(key)
            if width <= room:
                room -= width
                kept.add(key)
        yield from (key for key in keys if key in kept)

    def on_resize(self) -> None:
        self.refresh(recompose=True)


def _width(key: FooterKey) -> int:
    return cell_len(f"{key.key_display} {key.description} ")


class DeepTuneScreen(Screen[None]):
    """A screen with `where` in its title, `body()` below it, and the keys at the foot."""

    where = ""
    CHANGES: ClassVar[frozenset[str]] = frozenset({"stop", "resume", "delete", "new", "again", "use", "notes"})
    SHORT: ClassVar[dict[str, str]] = {}  # by action: what the foot says where there is little room
    DISPENSABLE: ClassVar[tuple[str, ...]] = ()  # actions that the foot leaves out first, in this order
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "back", "Back", id="screen.back", tooltip="To the screen before this one"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._resting: list[Timer] = []
        self.visible_now = False

    @property
    def deeptune(self) -> DeepTuneApp:
        return cast("DeepTuneApp", self.app)

    def compose(self) -> ComposeResult:
        yield TitleBar(markup=False)
        yield from self.body()
        yield Keys(show_command_palette=False, compact=True)

    def body(self) -> Iterable[Widget]:
        return ()

    def retitle(self, where: str) -> None:
        self.where = where
        options = self.deeptune.options
        self.query_one(TitleBar).say(where, "read-only" if options.read_only else "")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable actions that change or start a run in a read-only session."""
        return not (self.deeptune.options.read_only and action in self.CHANGES)

    def useful(self, action: str) -> bool:
        """Return whether the foot shows the action now. The key of another one says why it does nothing."""
        return True

    def every(self, seconds: float, callback: Callable[[], Any]) -> Timer:
        """Call back at this interval while the screen is visible, and each time it becomes visible."""
        timer = self.set_interval(seconds, callback, pause=not self.visible_now)
        self._resting.append(timer)
        return timer

    def on_mount(self) -> None:
        self.retitle(self.where)

    def on_screen_suspend(self) -> None:
        self.visible_now = False
        for timer in self._resting:
            timer.pause()

    def on_screen_resume(self) -> None:
        self.visible_now = True
        for timer in self._resting:
            timer.resume()
        self.look()

    def look(self) -> None:
        """Read the shown data again. Called when the screen becomes visible."""

    def action_back(self) -> None:
        if len(self.app.screen_stack) > 2:  # Textual's own empty screen is the lowest
            self.dismiss()

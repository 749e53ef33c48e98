"""Keys that were typed ahead. Each is delivered once the one before it has taken effect.

Textual delivers a key to the widget that has the focus now. That widget handles it a moment later, and a key that
moves the focus takes effect later still. Keys that arrive together with Tab would go to the field before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from textual.dom import DOMNode
from textual.events import Event, Key, Paste
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Input

if TYPE_CHECKING:
    from textual.app import App

ROUNDS = 3  # a key may post a message, whose handler posts another
LOOK = 0.05  # seconds between two looks at a screen that is not ready
PATIENCE = 200  # looks, after which a key is handed on all the same


class Followed(Message):
    """Follows a key through the same queues. When it reaches the app, the key has been handled."""

    def __init__(self, turn: int) -> None:
        super().__init__()
        self.turn = turn


class TypeAhead:
    """Delivers keys in order to `handle`. It waits for a screen or a focused widget whose `ready` is False."""

    def __init__(self, app: App[Any], handle: Callable[[Event], Awaitable[None]]) -> None:
        self._app, self._handle = app, handle
        self._waiting: deque[Event] = deque()
        self._target: DOMNode | None = None  # where the key went that has not yet been dealt with
        self._turn = self._rounds = self._looks = 0
        self._text = False  # whether what went there is text for an entry
        self._given_up: Screen[Any] | None = None  # which was not ready for too long
        self._watch: Timer | None = None

    def holds(self, event: Event) -> bool:
        """Return whether a key has to wait. It is kept then."""
        if not self._waiting and self._may_go(event):
            return False
        self._waiting.append(event)
        if self._watch is None:
            self._looks = 0
            self._watch = self._app.set_interval(LOOK, self._look)
        return True

    def sent(self, event: Event, target: DOMNode) -> None:
        """Record that a key is on its way to `target`."""
        self._text = isinstance(target, Input) and _is_text(event)
        self._turn += 1
        self._rounds, self._looks = ROUNDS, 0
        self._follow(target)

    def _follow(self, target: DOMNode) -> None:
        self._target = target if target.post_message(Followed(self._turn)) else None

    async def back(self, followed: Followed) -> None:
        """Record that the message behind a key has reached the app."""
        if followed.turn != self._turn or self._target is None:
            return
        self._rounds -= 1
        if self._rounds and self._target.is_attached:
            self._follow(self._target)
        else:
            self._target = None
            await self._go_on()

    async def _go_on(self) -> None:
        while self._waiting and self._may_go(self._waiting[0]):
            await self._handle(self._waiting.popleft())

    def _may_go(self, event: Event) -> bool:
        """Check whether a key may be delivered now.

        Text that follows text for the same entry moves no focus, so it does not wait for one.
        """
        flows = self._text and self._target is self._app.focused and _is_text(event)
        return (self._target is None or flows) and self._ready()

    async def _look(self) -> None:
        """Deliver the next key where no message comes back: the widget is gone, or a screen was not ready."""
        self._looks += 1
        if self._looks > PATIENCE:
            self._given_up = self._app.screen
        if self._target is not None and (not self._target.is_attached or self._looks > PATIENCE):
            self._target = None
        await self._go_on()
        if not self._waiting and self._watch is not None:
            self._watch.stop()
            self._watch = None

    def _ready(self) -> bool:
        screen = self._app.screen
        ready = screen.is_mounted and getattr(screen, "ready", True) and getattr(screen.focused, "ready", True)
        return bool(ready) or screen is self._given_up


def _is_text(event: Event) -> bool:
    return isinstance(event, Paste) or (isinstance(event, Key) and event.is_printable)

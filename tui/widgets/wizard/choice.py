"""A choice of one or several named values, all on one line."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from deeptune.formatting import safe


class Choice(Widget, can_focus=True):
    """Chooses one of some words. The chosen one has a mark, which is visible without colour too."""

    DEFAULT_CSS = "Choice { height: 1; width: 1fr; text-wrap: nowrap; text-overflow: ellipsis; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", show=False, id="choice.previous", tooltip="The value before"),
        Binding("right,space", "move(1)", show=False, id="choice.next", tooltip="The next value"),
        Binding("enter", "app.focus_next", show=False, id="choice.done", tooltip="On to the next field"),
    ]

    class Changed(Message):
        def __init__(self, choice: Choice, text: str) -> None:
            super().__init__()
            self.choice, self.text = choice, text

        @property
        def control(self) -> Choice:
            return self.choice

    def __init__(self, words: list[str], text: str) -> None:
        super().__init__()
        self._words = words
        self._at = words.index(text) if text in words else 0

    @property
    def text(self) -> str:
        return self._words[self._at]

    @text.setter
    def text(self, text: str) -> None:
        if text in self._words and text != self.text:
            self._at = self._words.index(text)
            self.refresh()

    def action_move(self, by: int) -> None:
        self._take((self._at + by) % len(self._words))

    def _take(self, index: int) -> None:
        self._at = index
        self.refresh()
        self.post_message(self.Changed(self, self.text))

    def on_key(self, event: events.Key) -> None:
        """Take the next word that begins with the typed letter."""
        if event.character is None or not event.character.isalpha():
            return
        places = [*range(self._at + 1, len(self._words)), *range(self._at + 1)]
        found = next((at for at in places if self._words[at].startswith(event.character.lower())), None)
        if found is not None:
            event.stop()
            self._take(found)

    def on_click(self, event: events.Click) -> None:
        x = -self._shift()
        for index, word in enumerate(self._words):
            x += len(word) + 4
            if event.x < x:
                self._take(index)
                return

    def _marks(self) -> list[tuple[str, bool]]:
        """List each word's mark and whether it is chosen."""
        return [("●" if index == self._at else "○", index == self._at) for index in range(len(self._words))]

    def _shift(self) -> int:
        """Return how many cells are hidden on the left, so that the current word is visible."""
        end = sum(len(word) + 4 for word in self._words[: self._at + 1])
        return max(0, end - self.size.width)

    def render(self) -> Content:
        parts: list[tuple[str, str]] = []
        for index, (word, (mark, taken)) in enumerate(zip(self._words, self._marks(), strict=True)):
            style = "bold $primary" if taken else ""
            if self.has_focus and index == self._at:
                style = "bold reverse" if taken else "reverse"
            parts += [(f"{mark} {safe(word)}", style), ("  ", "")]
        return Content.assemble(*parts)[self._shift() :]


class Several(Choice):
    """Chooses any of some words, as a list. Left and right go from one to another, Space toggles one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "go(-1)", show=False, id="several.previous", tooltip="The value before"),
        Binding("right", "go(1)", show=False, id="several.next", tooltip="The next value"),
        Binding("space", "turn", show=False, id="several.toggle", tooltip="Take or leave the value"),
    ]

    def __init__(self, words: list[str], text: str) -> None:
        super().__init__(words, words[0])
        self._taken: set[str] = set()
        self.text = text

    @property
    def text(self) -> str:
        return ", ".join(word for word in self._words if word in self._taken) or "[]"

    @text.setter
    def text(self, text: str) -> None:
        taken = {word for part in text.strip("[]").split(",") if (word := part.strip()) in self._words}
        if taken != self._taken:
            self._taken = taken
            self.refresh()

    def action_go(self, by: int) -> None:
        self._at = (self._at + by) % len(self._words)
        self.refresh()

    def action_turn(self) -> None:
        self._take(self._at)

    def _take(self, index: int) -> None:
        self._at = index
        self._taken ^= {self._words[index]}
        self.refresh()
        self.post_message(self.Changed(self, self.text))

    def _marks(self) -> list[tuple[str, bool]]:
        return [("✓" if word in self._taken else "·", word in self._taken) for word in self._words]

"""A terminal driver that never waits for the terminal."""

from __future__ import annotations

import os
from dataclasses import dataclass
from string import ascii_lowercase, digits
from typing import Any, cast

from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Key
from textual.message import Message

from deeptune.show.announce import FORMER_TITLE, KEEP_TITLE, announcement

LOOK = 0.25  # seconds until a look at what is still to be sent
ESCAPE = "\x1b"


@dataclass(frozen=True)
class AltKey:
    """A key in Textual's table of sequences, which takes members of its own Keys, and reads their `value`."""

    value: str


# Textual takes Escape and a digit, which is Alt and a digit, for the character that a Mac has there. Without an entry
# of its own the parser waits for more, and types `^2` if an escape sequence follows at once.
_KEYS = cast("dict[str, object]", ANSI_SEQUENCES_KEYS)
for sequence, key in list(_KEYS.items()):
    if len(sequence) == 2 and sequence[0] == ESCAPE and isinstance(key, str):
        del _KEYS[sequence]
for character in digits + ascii_lowercase:
    _KEYS.setdefault(ESCAPE + character, (AltKey(f"alt+{character}"),))


class PatientDriver(LinuxDriver):
    """Textual's driver, without waiting for a terminal that does not read.

    Output that would have to wait is dropped. The screen is drawn again once the terminal reads.
    """

    behind = False
    titled = False

    def process_message(self, message: Message) -> None:
        if isinstance(message, Key) and message.key.startswith("alt+"):
            message = Key(message.key, None)  # with Alt it is not text, though Textual says which it would be without
        super().process_message(message)

    def write(self, data: str) -> None:
        writer = self._writer_thread
        if writer is None:
            return
        if self.behind or writer._queue.full():
            if not self.behind:
                self.behind = True
                self._app.call_later(self._wait)
            return
        writer.write(data)

    def announce(self, text: str) -> None:
        """Ring the bell, notify, and show `text` as the terminal's title until the interface ends."""
        if sequence := announcement(text, os.environ.get("TERM", "")):
            self.write(sequence if self.titled else KEEP_TITLE + sequence)
            self.titled = True

    def stop_application_mode(self) -> None:
        if self.titled:
            self.write(FORMER_TITLE)
            self.titled = False
        super().stop_application_mode()

    def _wait(self) -> None:
        self._app.set_timer(LOOK, self._catch_up)

    def _catch_up(self) -> None:
        if self._writer_thread is None:
            return
        if not self._writer_thread._queue.empty():
            self._wait()
            return
        self.behind = False
        screen: Any = self._app.screen
        screen.refresh(layout=True)
        for widget in screen.walk_children():
            widget.refresh()

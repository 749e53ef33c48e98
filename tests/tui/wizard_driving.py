"""Steps that tests of the wizard share."""

from __future__ import annotations

from driving import until
from textual import events

from tui.screens.wizard import WizardScreen

NAMED = {
    " ": "space", "/": "slash", ".": "full_stop", "_": "underscore", ":": "colon", "-": "minus",
    "[": "left_square_bracket", "]": "right_square_bracket",
}  # fmt: skip


async def type_in(pilot, text: str) -> None:
    await pilot.press(*(NAMED.get(character, character) for character in text))


async def paste(pilot, text: str) -> None:
    pilot.app.screen.focused.post_message(events.Paste(text))
    await pilot.pause()


async def open_wizard(pilot) -> WizardScreen:
    pilot.app.open_wizard()
    await until(pilot, lambda: isinstance(pilot.app.screen, WizardScreen) and pilot.app.screen.focused is not None)
    return pilot.app.screen


async def read(pilot, path: object) -> WizardScreen:
    """The wizard with the data of `path`, looked at."""
    screen = await open_wizard(pilot)
    await paste(pilot, str(path))
    await pilot.press("enter")
    await until(pilot, lambda: screen.reader.data.survey or screen.reader.data.problem)
    await pilot.pause()
    return screen

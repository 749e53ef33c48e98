"""A line about a command that works in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from deeptune.formatting import safe
from tui.command_process import Application, Progress, deeptune_command
from tui.screens.ask import AskScreen, Choice
from tui.widgets.changing_text import Line

if TYPE_CHECKING:
    from tui.app import DeepTuneApp

MAX_OUTPUT_LINES = 12  # lines of the output of a process that failed


class ProcessLine(Line):
    """Runs a command, and says how far it is. Nothing is shown while there is nothing to say.

    The process ends with this widget.
    """

    DEFAULT_CSS = "ProcessLine { height: auto; display: none; color: $primary; }"

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._application: Application | None = None
        self._lines: list[str] = []

    def on_unmount(self) -> None:
        if self._application is not None:
            self._application.kill()

    async def _ask_to_cancel(self, what: str, consequence: str) -> None:
        """Ask whether to cancel the process in progress, and do so."""
        choices = [Choice("on", "Keep it going"), Choice("cancel", "Cancel it", dangerous=True)]
        answer = await cast("DeepTuneApp", self.app).ask(f"Cancel {what}?", consequence, choices)
        if answer == "cancel" and self._application is not None:
            self._tell(f"cancelling {what} …")
            await self._application.cancel()

    async def _command(self, *arguments: str) -> tuple[int, str, bool]:
        """Run `deeptune` with these arguments. Returns its exit code, its output and whether it was cancelled."""
        application = self._application = Application(self._go_on, self._lines.append)
        self._lines.clear()
        try:
            code, printed = await application.run(deeptune_command(*arguments))
        except OSError as error:
            code, printed, self._lines = 1, "", [f"it could not be started: {error}"]
        finally:
            self._application = None
        return code, printed, application.cancelled

    def _go_on(self, progress: Progress) -> None:
        raise NotImplementedError

    def _tell(self, text: str) -> None:
        self.display = bool(text)
        self.say(text)

    def _tell_failure(self, title: str) -> None:
        text = "\n".join(self._lines[-MAX_OUTPUT_LINES:])
        self.app.push_screen(AskScreen(title, safe(text), [Choice("close", "Close")]))

"""Explain test rows by `deeptune explain`, in a process of its own, and draw the scores of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual import work
from textual.content import Content

from deeptune.formatting import counted, safe
from deeptune.runs import RunDirectory
from deeptune.show.explanations import STRONG, WEAK, StoredExplanation
from tui.command_process import Application, Progress, deeptune_command
from tui.screens.ask import AskScreen, Choice
from tui.widgets.changing_text import Line

if TYPE_CHECKING:
    from tui.app import DeepTuneApp

MAX_OUTPUT_LINES = 12  # of a process that failed


class Explainer(Line):
    """Starts the process, and says how far it is. The run's files have the result, which the follower sees."""

    DEFAULT_CSS = "Explainer { height: auto; display: none; color: $primary; }"

    def __init__(self, run: RunDirectory) -> None:
        super().__init__(id="explaining")
        self._run = run
        self._application: Application | None = None
        self._lines: list[str] = []

    def on_unmount(self) -> None:
        if self._application is not None:
            self._application.kill()

    @work(group="explain")
    async def start(self, rows: list[int]) -> None:
        """Explain rows, or ask whether to cancel what is in progress."""
        app = cast("DeepTuneApp", self.app)
        if self._application is not None:
            choices = [Choice("on", "Keep it going"), Choice("cancel", "Cancel it", dangerous=True)]
            answer = await app.ask("Cancel the explanations?", "Those of before stay as they are.", choices)
            if answer == "cancel" and self._application is not None:
                self._tell("cancelling the explanations …")
                await self._application.cancel()
            return
        if not rows or app.refused("explain rows"):
            return
        application = self._application = Application(self._go_on, self._lines.append)
        self._lines.clear()
        self._tell(f"explaining {counted(len(rows), 'row')}: loading PyTorch and the model … (x cancels)")
        words = ["explain", str(self._run.path), "--rows", ",".join(map(str, rows)), "--json-progress"]
        try:
            code, _ = await application.run(deeptune_command(*words))
        except OSError as error:
            code, self._lines = 1, [f"it could not be started: {error}"]
        finally:
            self._application = None
        if self.is_mounted:
            self._tell("")
            if code and not application.cancelled:
                text = "\n".join(self._lines[-MAX_OUTPUT_LINES:])
                app.push_screen(AskScreen("There are no explanations", safe(text), [Choice("close", "Close")]))

    def _go_on(self, progress: Progress) -> None:
        if self._application is None or self._application.cancelled:
            return
        self._tell(f"explaining: {progress.done} of {counted(progress.total, 'row')} (x cancels)")

    def _tell(self, text: str) -> None:
        self.display = bool(text)
        self.say(text)


def tokens_content(explained: StoredExplanation, *, color: bool = True) -> Content:
    """Draw tokens, and below them what their looks mean; without colours all that speak for it are bold."""
    legend = "bold" if not color else "blue"
    return Content.assemble(
        *(
            (safe(token), _style(score, color))
            for token, score in zip(explained.tokens, explained.scores, strict=False)
        ),
        (f"\n\n{legend}: for this prediction; underlined: against it", "$text-muted"),
    )


def _style(score: float, color: bool) -> str:
    if abs(score) < WEAK:
        return ""
    if score < 0:
        return f"{'bold ' if color and score < -STRONG else ''}underline $error"
    return f"{'bold ' if not color or score > STRONG else ''}$primary"

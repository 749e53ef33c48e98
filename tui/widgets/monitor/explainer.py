"""Explain test rows by `deeptune explain`, in a process of its own, and draw the scores of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual import work
from textual.content import Content

from deeptune.formatting import counted, safe
from deeptune.runs import RunDirectory
from deeptune.show.explanations import STRONG, WEAK, StoredExplanation
from tui.command_process import Progress
from tui.widgets.process_line import ProcessLine

if TYPE_CHECKING:
    from tui.app import DeepTuneApp


class Explainer(ProcessLine):
    """Starts the process, and says how far it is. The run's files have the result, which the follower sees."""

    def __init__(self, run: RunDirectory) -> None:
        super().__init__(id="explaining")
        self._directory = run

    @work(group="explain")
    async def start(self, rows: list[int]) -> None:
        """Explain rows, or ask whether to cancel what is in progress."""
        if self._application is not None:
            await self._ask_to_cancel("the explanations", "Those of before stay as they are.")
            return
        if not rows or cast("DeepTuneApp", self.app).refused("explain rows"):
            return
        self._tell(f"explaining {counted(len(rows), 'row')}: loading PyTorch and the model … (x cancels)")
        words = ["explain", str(self._directory.path), "--rows", ",".join(map(str, rows)), "--json-progress"]
        code, _, cancelled = await self._command(*words)
        if self.is_mounted:
            self._tell("")
            if code and not cancelled:
                self._tell_failure("There are no explanations")

    def _go_on(self, progress: Progress) -> None:
        if self._application is None or self._application.cancelled:
            return
        self._tell(f"explaining: {progress.done} of {counted(progress.total, 'row')} (x cancels)")


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

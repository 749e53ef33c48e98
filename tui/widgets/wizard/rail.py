"""The steps on one line, each with a mark: done, current, or with a problem."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

STEPS = ("Data", "Backbone", "Head", "Tuning", "Training", "Review")


class Rail(Widget):
    """Shows the steps in one line."""

    DEFAULT_CSS = "Rail { height: 1; padding: 0 1; }"

    class Chosen(Message):
        def __init__(self, step: str) -> None:
            super().__init__()
            self.step = step

    def __init__(self) -> None:
        super().__init__()
        self._here, self._marks = STEPS[0], dict.fromkeys(STEPS, " ")

    def show(self, here: str, marks: dict[str, str]) -> None:
        if (here, marks) != (self._here, self._marks):
            self._here, self._marks = here, dict(marks)
            self.refresh()

    def _parts(self) -> list[tuple[str, str, str]]:
        """List the steps as (step, text, style)."""
        roomy = self.size.width >= 78
        parts = []
        for number, step in enumerate(STEPS, start=1):
            mark = self._marks[step]
            named = f"{mark} {number} {step}" if roomy or step == self._here else f"{mark} {number}"
            colour = {"!": "$error", "✓": "$success", "●": "$primary"}.get(mark, "dim")
            parts.append((step, named, f"bold underline {colour}" if step == self._here else colour))
        return parts

    def render(self) -> Content:
        gap = "   " if self.size.width >= 78 else "  "
        return Content.assemble(*(piece for _, text, style in self._parts() for piece in ((text, style), (gap, ""))))

    def on_click(self, event: events.Click) -> None:
        gap, x = (3 if self.size.width >= 78 else 2), self.gutter.left
        for step, text, _ in self._parts():
            x += len(text) + gap
            if event.x < x:
                self.post_message(self.Chosen(step))
                return

"""The facts about the run under the cursor, below the list where there is room."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from deeptune.formatting import duration, safe
from deeptune.report.tables import TITLES, value_text
from deeptune.runs.state import SYMBOLS
from deeptune.show.run_text import best_text, is_number
from tui.widgets.run_row import Row

MAX_METRICS = 6


class RunFacts(Static):
    """Shows state, model, best epoch, test metrics and path, one a line. Draws them again only when one has changed."""

    _said: tuple[tuple[str, str], ...] | None = None

    def show(self, row: Row | None) -> None:
        facts = tuple(facts_of(row)) if row is not None else ()
        if facts != self._said:
            self._said = facts
            lines = [Content.assemble((f"{name:10}", "$text-muted"), safe(text)) for name, text in facts]
            self.update(Content("\n").join(lines))


def facts_of(row: Row) -> list[tuple[str, str]]:
    """List the facts of a run's status and result as (name, text)."""
    state = row.state
    result, status = state.result, state.status
    model = " · ".join(text for text in (row.backbone, row.method, str(status.get("task") or "")) if text)
    facts = [
        ("run", f"{row.title}  {row.tags}".rstrip()),
        ("state", f"{SYMBOLS[state.word]} {state.word}" + (f": {state.detail}" if state.detail else "")),
    ]
    if row.notes.name:
        facts.append(("folder", row.run.id))
    if row.notes.note:
        facts.append(("note", row.notes.note))
    if model:
        facts.append(("model", model))
    if best := best_text(state):
        facts.append(("best", best))
    test = result.get("test")
    if isinstance(test, dict):
        named = [(name, value) for name, value in test.items() if name in TITLES and is_number(value)]
        facts.append(
            ("test", "  ".join(f"{TITLES[name]} {value_text(name, value)}" for name, value in named[:MAX_METRICS]))
        )
    seconds = result.get("seconds")
    if isinstance(seconds, (int, float)):
        facts.append(("took", duration(seconds)))
    facts.append(("shell", f"deeptune attach {row.run.reference}"))
    return facts

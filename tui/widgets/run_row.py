"""A run in the list of runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from deeptune.runs import RunDirectory, RunState
from deeptune.runs.notes import Notes
from deeptune.show.filters import Described, describe
from deeptune.show.run_text import backbone_text, best_text
from deeptune.spec.metrics import lower_is_better

ON_A_RUN = ("select_cursor", "stop", "resume", "delete", "mark", "compare", "notes", "pin", "again", "embeddings")


@dataclass(frozen=True)
class Row:
    """A run as it was when it was last read."""

    run: RunDirectory
    state: RunState
    made: float
    notes: Notes = field(default_factory=Notes)

    @property
    def title(self) -> str:
        """The name that a person gave the run, or its id."""
        return self.notes.name or self.run.id

    @property
    def tags(self) -> str:
        return " ".join(f"#{tag}" for tag in self.notes.tags)

    @property
    def backbone(self) -> str:
        return backbone_text(str(self.state.status.get("backbone") or self.state.result.get("backbone") or ""))

    @property
    def method(self) -> str:
        return str(self.state.status.get("method") or "")

    @cached_property
    def described(self) -> Described:
        return describe(self.run, self.state, self.notes)

    def matches(self, condition: Callable[[Described], bool]) -> bool:
        return condition(self.described)


def useful_actions(row: Row | None, *, marked: int = 0) -> dict[str, bool]:
    """Return whether each action on runs makes sense for the run under the cursor; `marked` runs are marked."""
    if row is None:
        return dict.fromkeys(ON_A_RUN, False)
    done, over = row.state.word == "done", row.state.over
    some = {"stop": not over, "resume": row.state.resumable, "delete": over, "compare": marked > 1, "embeddings": done}
    return dict.fromkeys(ON_A_RUN, True) | some


def short_best(state: RunState) -> str:
    """Write the best value as `loss 0.331`, without the epoch."""
    return best_text(state).partition(" (")[0].removeprefix("val/")


def rank(best: dict[str, Any] | None) -> tuple[Any, ...]:
    """Sort runs with the same metric together, the better first; runs without one come last."""
    if best is None:
        return (1, "", 0.0)
    name = best["metric"].removeprefix("val/")
    return (0, name, best["value"] if lower_is_better(name) else -best["value"])

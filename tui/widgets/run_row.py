"""A run in the list of runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from deeptune.runs import RunDirectory, RunState
from deeptune.runs.notes import Notes
from deeptune.show.filters import Described, describe
from deeptune.show.run_text import backbone_text


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

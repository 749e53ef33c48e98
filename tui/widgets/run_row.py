"""A run in the list of runs."""

from __future__ import annotations

from dataclasses import dataclass

from deeptune.runs import RunDirectory, RunState


@dataclass(frozen=True)
class Row:
    """A run as it was at the last look."""

    run: RunDirectory
    state: RunState
    made: float

    @property
    def backbone(self) -> str:
        return str(self.state.status.get("backbone") or self.state.result.get("backbone") or "")

    @property
    def method(self) -> str:
        return str(self.state.status.get("method") or "")

    def matches(self, text: str) -> bool:
        words = f"{self.run.id} {self.state.word} {self.backbone} {self.method}".lower()
        return all(part in words for part in text.lower().split())

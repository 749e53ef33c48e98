"""The results of a run: its metrics, the confusion matrix, and what to do next, ready to copy."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from deeptune.environment import short_path
from deeptune.errors import CheckpointError
from deeptune.formatting import safe
from deeptune.report.commands import next_commands
from deeptune.runs import RunDirectory, RunState
from deeptune.runs.files import read_json
from deeptune.show.agreement import Agreement, read_agreement
from tui.widgets.agreement import AgreementPlot
from tui.widgets.monitor.matrix import Matrix
from tui.widgets.scores import Scores

Verb = Literal["predict", "evaluate", "embed"]
USES: dict[Verb, str] = {
    "predict": "predict the rows of a file", "evaluate": "score it on a labelled file",
    "embed": "write embeddings of a file",
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The results in the files of a run. Missing or damaged parts are empty."""

    metrics: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)  # as paths to copy
    points: Agreement | None = None  # of a regression run


def read_outcome(run: RunDirectory) -> Outcome:
    """Read the results. A matrix of a thousand classes takes a while, so a thread calls this."""
    try:
        metrics = read_json(run.metrics)
    except CheckpointError:
        metrics = {}
    metrics = metrics if isinstance(metrics, dict) else {}
    kept = [run.report, run.best, run.metrics, run.predictions, run.splits, run.console]
    kept += [run.embeddings(split) for split in ("train", "val", "test")]
    scored = {split: each for split, each in metrics.items() if isinstance(each, dict)}
    return Outcome(scored, [str(path) for path in kept if path.exists()], read_agreement(run))


class Results(Vertical):
    """Shows metrics beside the matrix or the plot, and below them the actions of Enter: use the model, or copy."""

    class Chosen(Message):
        """Posted with a text to copy."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Use(Message):
        """Posted when the model is to be used on a file."""

        def __init__(self, verb: Verb) -> None:
            super().__init__()
            self.verb = verb

    def __init__(self, run: RunDirectory, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run = run
        self._offered: list[tuple[str, str]] = []
        self._usable = False
        self._shown: tuple[Outcome, str] | None = None

    def compose(self) -> ComposeResult:
        with Horizontal(id="outcome"):
            with VerticalScroll(id="scores"):
                yield Scores()
            yield Matrix(id="matrix")
            yield AgreementPlot(id="agreement")
        yield OptionList(id="next", markup=False, compact=True)

    def tell(self, outcome: Outcome, state: RunState, *, usable: bool) -> None:
        """Show the results of a run. A `usable` one offers its model for other files."""
        if self._shown == (outcome, state.word):
            return
        self._shown = outcome, state.word
        splits: dict[str, Any] = {
            split: outcome.metrics[split] for split in ("test", "val") if split in outcome.metrics
        }
        self.query_one(Scores).tell(splits, _nothing(state))
        self.query_one(AgreementPlot).plot(outcome.points)
        self._usable = usable and state.word == "done"
        matrix = self.query_one(Matrix)
        matrix.fill(outcome.metrics.get("test") or outcome.metrics.get("val") or {})
        matrix.display = matrix.filled
        self._offered = self._offers(outcome, state)
        offers = self.query_one(OptionList)
        at = offers.highlighted
        offers.clear_options()
        offers.add_options(
            Option(Text.assemble((f"{name:<7} ", "dim"), safe(_near(text)), no_wrap=True, overflow="ellipsis"))
            for name, text in self._offered
        )
        offers.highlighted = at if at is not None and at < len(self._offered) else 0

    def _offers(self, outcome: Outcome, state: RunState) -> list[tuple[str, str]]:
        """List the actions of Enter as (action, text)."""
        reference = self._run.reference
        if state.word == "done":
            commands = [command for _, command in next_commands(self._run.path)]
            commands.append(f"deeptune report {reference} --serve")
        elif state.word == "deleted":
            commands = []
        elif state.over:
            commands = [f"deeptune resume {reference}", f"deeptune logs {reference}"]
        else:
            commands = [f"deeptune attach {reference}", f"deeptune stop {reference}", f"deeptune logs {reference}"]
        uses = [("do", text) for text in USES.values()] if self._usable else []
        return uses + [("copy", text) for text in (*commands, *outcome.files)]

    @on(OptionList.OptionSelected)
    def choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        what, text = self._offered[event.option_index]
        verb = next((verb for verb, words in USES.items() if what == "do" and words == text), None)
        self.post_message(self.Chosen(text) if verb is None else self.Use(verb))


def _near(text: str) -> str:
    """Shorten a path relative to the current folder, if that is shorter. A command stays as it is."""
    return short_path(text) if os.path.isabs(text) else text


def _nothing(state: RunState) -> str:
    if not state.over:
        return "metrics come when the run has scored its test split"
    return "there is no metrics.json" if state.word == "done" else "no results: it ended before it was scored"

"""What a run ended with: its metrics, the confusion matrix, and what to do next, ready to be copied."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from deeptune.environment import short_path
from deeptune.errors import CheckpointError
from deeptune.report.commands import next_commands
from deeptune.report.tables import class_title, metric_rows, safe, value_text, worst_classes
from deeptune.runs import RunDirectory, RunState
from deeptune.runs.files import read_json
from deeptune.show.chart import Row
from tui.widgets.lines import Lines
from tui.widgets.monitor.matrix import Matrix

WORST = 8  # classes
TITLE = 20  # cells


@dataclass(frozen=True)
class Outcome:
    """What the files of a run say of its end; what is not there, or is damaged, is empty."""

    metrics: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)  # as paths to copy


def read_outcome(run: RunDirectory) -> Outcome:
    """Read it from the disk; for a thread, as a matrix of a thousand classes takes a while."""
    try:
        metrics = read_json(run.metrics)
    except CheckpointError:
        metrics = {}
    metrics = metrics if isinstance(metrics, dict) else {}
    kept = [run.report, run.best, run.metrics, run.predictions, run.splits, run.console]
    kept += [run.embeddings(split) for split in ("train", "val", "test")]
    scored = {split: each for split, each in metrics.items() if isinstance(each, dict)}
    return Outcome(scored, [str(path) for path in kept if path.exists()])


class Results(Vertical):
    """Metrics beside the matrix, and below them commands and paths: Enter copies one."""

    class Chosen(Message):
        """Something is to be copied."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, run: RunDirectory, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run = run
        self._offered: list[tuple[str, str]] = []
        self._shown: tuple[Outcome, str] | None = None

    def compose(self) -> ComposeResult:
        with Horizontal(id="outcome"):
            with VerticalScroll(id="scores"):
                yield Lines(id="score-lines")
            yield Matrix(id="matrix")
        yield OptionList(id="next", markup=False, compact=True)

    def tell(self, outcome: Outcome, state: RunState) -> None:
        if self._shown == (outcome, state.word):
            return
        self._shown = outcome, state.word
        self.query_one(Lines).show(score_rows(outcome.metrics) or [[(_nothing(state), "label")]])
        matrix = self.query_one(Matrix)
        matrix.fill(outcome.metrics.get("test") or outcome.metrics.get("val") or {})
        matrix.display = matrix.wanted.height > 1
        self._offered = self._offers(outcome, state)
        offers = self.query_one(OptionList)
        at = offers.highlighted
        offers.clear_options()
        offers.add_options(
            Option(Text.assemble((f"{name:<9} ", "dim"), safe(_near(text)), no_wrap=True, overflow="ellipsis"))
            for name, text in self._offered
        )
        offers.highlighted = at if at is not None and at < len(self._offered) else 0

    def _offers(self, outcome: Outcome, state: RunState) -> list[tuple[str, str]]:
        """(what it is, text to copy)."""
        reference = self._run.reference
        if state.word == "done":
            commands = [command for _, command in next_commands(self._run.path)]
        elif state.over:
            commands = [f"deeptune resume {reference}", f"deeptune logs {reference}"]
        else:
            commands = [f"deeptune attach {reference}", f"deeptune stop {reference}", f"deeptune logs {reference}"]
        return [("command", text) for text in commands] + [("file", path) for path in outcome.files]

    @on(OptionList.OptionSelected)
    def choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(self.Chosen(self._offered[event.option_index][1]))


def score_rows(metrics: dict[str, dict[str, Any]]) -> list[Row]:
    """The metrics of test and val beside one another, then the classes with the lowest F1."""
    splits = [split for split in ("test", "val") if split in metrics]
    tables = {split: dict(metric_rows(metrics[split])) for split in splits}
    titles = list(dict.fromkeys(title for table in tables.values() for title in table))
    if not titles:
        return []
    width = TITLE + 1
    rows: list[Row] = [[(" " * width, ""), *((f"{split:>8}", "label") for split in splits)]]
    rows += [
        [(f"{_short(title):<{width}}", "label"), *((f"{tables[split].get(title, ''):>8}", "value") for split in splits)]
        for title in titles
    ]
    rows.append(
        [(f"{'rows':<{width}}", "label"), *((f"{metrics[split].get('n', 0):>8,}", "label") for split in splits)]
    )
    first = metrics[splits[0]]
    worst = worst_classes(first, WORST)
    if len(worst) > 1:
        rows += [[], [(f"{'lowest F1':<{width}}", "title"), (f"{'F1':>8}{'rows':>8}", "label")]]
        for row in worst:
            name = _short(class_title(row))
            rows.append(
                [
                    (f"{name:<{width}}", "label"),
                    (f"{value_text('f1', row['f1']):>8}", "value"),
                    (f"{row['support']:>8,}", "label"),
                ]
            )
    notes = [str(note) for note in first.get("notes") or []]
    return rows + [[(safe(note), "label")] for note in notes]


def _near(text: str) -> str:
    """A path as seen from here, where that is shorter; a command as it is."""
    return short_path(text) if os.path.isabs(text) else text


def _short(title: str) -> str:
    return title if len(title) <= TITLE else f"{title[: TITLE - 1]}…"


def _nothing(state: RunState) -> str:
    return "there is no metrics.json" if state.over else "metrics come when the run has scored its test split"

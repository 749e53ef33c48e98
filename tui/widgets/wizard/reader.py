"""Read the files of a draft, and report the answers to the screen."""

from __future__ import annotations

import base64
from typing import Any

from textual import on, work
from textual.message import Message
from textual.widget import Widget

from deeptune.errors import DataError
from deeptune.spec.modalities import MODALITIES, columns_of
from tui.draft import Draft, Problem
from tui.file_inspector import Dropped, Inspector
from tui.widgets.wizard.facts import Data
from tui.widgets.wizard.summary import bar

OPENING = "opening the files…"
BAR_WIDTH = 20
READING = "reading the labels…"
AUDITING = "auditing the samples…"


class Reader(Widget):
    """An invisible widget. `data` has the answers so far; a newer question replaces an older one."""

    DEFAULT_CSS = "Reader { display: none; }"

    class Opened(Message):
        """Posted when the files are open: columns are guessed, and the labels can be read."""

    class Changed(Message):
        """Posted when `data` has changed."""

    class Previewed(Message):
        def __init__(self, question: dict[str, Any], samples: list[dict[str, Any]]) -> None:
            super().__init__()
            self.question, self.samples = question, samples

    class Answered(Message):
        """Posted with the answer, or the problem, of the question with this number."""

        def __init__(self, number: int, ask: str, answer: dict[str, Any] | None, problem: Problem | None) -> None:
            super().__init__()
            self.number, self.ask, self.answer, self.problem = number, ask, answer, problem

    class Imported(Message):
        """Posted while the question with this number imports data: `done` of `total` files or rows."""

        def __init__(self, number: int, done: int, total: int) -> None:
            super().__init__()
            self.number, self.done, self.total = number, done, total

    class Audited(Message):
        """Posted with how far the audit is, with its report, or with why there is none."""

        def __init__(self, number: int, report: dict[str, Any] | None, said: str) -> None:
            super().__init__()
            self.number, self.report, self.said = number, report, said

    def __init__(self) -> None:
        super().__init__()
        self.data = Data()
        self.samples: list[dict[str, Any]] = []  # rows of the preview, their images decoded from base64
        self._paths: Any = None
        self._number = 0
        self._inspector, self._previewer = Inspector(), Inspector()
        self._auditor = Inspector("deeptune.auditing.serve")

    def on_unmount(self) -> None:
        self._inspector.close()
        self._previewer.close()
        self._auditor.close()

    def read(self, draft: Draft, *, again: bool = False) -> None:
        """Read the draft's files if they are others (or `again`), and then its labels."""
        key = "data.path" if draft.value("data.path") else "data.train"
        paths = draft.value(key)
        if paths == self._paths and self.data.overview is not None and not again:
            self.survey(draft)
            return
        self._paths, self.samples = paths, []
        self._next_question()
        if not paths:
            self.data = Data()
        else:
            self.data = Data(reading=OPENING)
            # A path that is still being typed may be that of a large folder: only Enter imports.
            self._ask(self._number, "overview", {"paths": paths, "key": key, "imports": again}, key)
        self.post_message(self.Changed())

    def survey(self, draft: Draft) -> None:
        """Read labels and splits, unless the spec's checks find a problem that concerns them."""
        self._next_question()
        self.data.survey, self.data.problem, self.data.reading = None, None, ""
        bad = [problem for problem in draft.problems() if problem.key == "task" or problem.key.startswith("data.")]
        if not bad:
            self.data.reading = READING
            self._ask(self._number, "survey", {"spec": _spec_of(draft)}, "data.label")
        self.post_message(self.Changed())

    def _next_question(self) -> None:
        self._number += 1
        self._inspector.drop()
        self._auditor.drop()
        self.data.audit, self.data.auditing = None, ""

    @work(thread=True, exclusive=True, group="ask")
    def _ask(self, number: int, ask: str, question: dict[str, Any], key: str) -> None:
        def progress(done: int, total: int) -> None:
            self.post_message(self.Imported(number, done, total))

        try:
            answer = self._inspector.ask(ask=ask, progress=progress, **question)
            self.post_message(self.Answered(number, ask, answer, None))
        except DataError as error:
            self.post_message(self.Answered(number, ask, None, Problem.of(error.message, error.hint, key=key)))
        except Dropped:
            pass

    @on(Imported)
    def _imported(self, message: Imported) -> None:
        message.stop()
        if message.number == self._number:
            share = min(1.0, message.done / max(1, message.total))
            self.data.reading = f"importing {bar(share, BAR_WIDTH, '─')} {message.done:,} of {message.total:,}"
            self.post_message(self.Changed())

    @on(Answered)
    def _answered(self, message: Answered) -> None:
        message.stop()
        if message.number != self._number:
            return
        self.data.reading, self.data.problem = "", message.problem
        if message.ask == "survey":
            self.data.survey = message.answer
        else:
            self.data.overview = message.answer
            if message.answer is not None:
                self.post_message(self.Opened())
        self.post_message(self.Changed())

    # The audit.

    def audit(self, draft: Draft) -> None:
        """Audit the data of a draft, once its labels are read. The answer comes later, and typing goes on."""
        if self.data.survey is None:
            return
        self._auditor.drop()
        self.data.audit, self.data.auditing = None, AUDITING
        self._audit(self._number, _spec_of(draft))
        self.post_message(self.Changed())

    @work(thread=True, exclusive=True, group="audit")
    def _audit(self, number: int, spec: dict[str, Any]) -> None:
        def progress(done: int, total: int) -> None:
            self.post_message(self.Audited(number, None, f"{AUDITING} {done:,} of {total:,}"))

        try:
            self.post_message(self.Audited(number, self._auditor.ask(spec=spec, progress=progress), ""))
        except DataError as error:
            self.post_message(self.Audited(number, None, error.message))
        except Dropped:
            pass

    @on(Audited)
    def _audited(self, message: Audited) -> None:
        message.stop()
        if message.number == self._number:
            self.data.audit, self.data.auditing = message.report, message.said
            self.post_message(self.Changed())

    # Rows.

    def input_columns(self, draft: Draft) -> list[str]:
        """Return the columns that a preview shows, also before the labels are in order."""
        if self.data.overview is None:
            return []
        names = [column["name"] for column in self.data.overview["columns"]]
        usual = [columns_of(kind.input) for kind in MODALITIES.values()]
        given, modality = draft.value("data.input"), MODALITIES.get(draft.text("data.modality"))
        named = columns_of(given) if isinstance(given, str | list) else columns_of(modality.input) if modality else []
        tried = [named, *usual]
        return next((columns for columns in tried if columns and set(columns) <= set(names)), [])

    def preview(self, draft: Draft, start: int, count: int) -> None:
        if (input := self.input_columns(draft)) and self._paths:
            self._previewer.drop()
            label = draft.value("data.label")
            question = {"paths": self._paths, "input": input, "label": label, "start": start, "count": count}
            for key in ("modality", "root", "value_range"):  # what else decides how a sample looks
                question[key] = draft.value(f"data.{key}")
            self._preview(question)

    @work(thread=True, exclusive=True, group="preview")
    def _preview(self, question: dict[str, Any]) -> None:
        try:
            samples = self._previewer.ask(ask="preview", **question)
        except (DataError, Dropped):
            return  # the survey tells what is wrong with the file
        for sample in samples:
            sample["image"] = sample["image"] and base64.b64decode(sample["image"])
        self.post_message(self.Previewed(question, samples))

    @on(Previewed)
    def _previewed(self, message: Previewed) -> None:
        message.stop()
        if message.question["paths"] == self._paths:
            self.samples = message.samples
            self.post_message(self.Changed())


def _spec_of(draft: Draft) -> dict[str, Any]:
    """Give the part of a draft that decides about its data, as a whole spec."""
    values = draft.values()
    spec: dict[str, Any] = {key: values[key] for key in ("task", "data") if key in values}
    spec |= {"backbone": {"name": "resnet18"}}  # which has no part in it
    if (seed := draft.value("train.seed")) != draft.fields["train.seed"].default and isinstance(seed, int):
        spec["train"] = {"seed": seed}
    return spec

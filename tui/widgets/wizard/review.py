"""The last step: problems, the spec, and actions."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, OptionList
from textual.widgets.option_list import Option

from deeptune.fetching import Fetch
from deeptune.formatting import safe
from deeptune.spec import dump_spec
from tui.draft import Problem
from tui.widgets.changing_text import Line
from tui.widgets.wizard.facts import Facts


class Problems(OptionList):
    """Lists the problems, each with a jump to its field."""

    DEFAULT_CSS = "Problems { height: auto; max-height: 10; border: none; padding: 0; background: $background; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Go there", id="problems.go", tooltip="Go to the field of this problem"),
    ]


class Actions(Horizontal):
    """The buttons. The first has the focus if there is no problem."""

    DEFAULT_CSS = "Actions { height: 1; margin: 1 0; } Actions Button { margin-right: 2; min-width: 10; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "app.focus_previous", show=False, id="actions.previous", tooltip="The button before"),
        Binding("right", "app.focus_next", show=False, id="actions.next", tooltip="The next button"),
    ]

    def compose(self) -> ComposeResult:
        yield Button("Launch", id="launch", variant="primary", compact=True)
        yield Button("Save as preset", id="save", compact=True)
        yield Button("Copy command", id="copy", compact=True)


class ReviewActions(Vertical):
    """Shows problems and buttons."""

    DEFAULT_CSS = "ReviewActions { height: auto; } ReviewActions Line { height: auto; margin-top: 1; }"

    class Go(Message):
        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self) -> None:
        super().__init__()
        self._problems: list[Problem] = []

    def compose(self) -> ComposeResult:
        yield Line(id="verdict")
        yield Problems(id="problems", markup=False, compact=True)
        yield Actions()

    def show(self, facts: Facts, reading: str, fetches: list[Fetch]) -> None:
        """Show the review. `fetches` are what the run has to download before it starts."""
        count = len(facts.problems)
        if count:
            verdict = Content.styled(
                f"! {count} problem{'s' if count > 1 else ''}: Enter goes to the field", "bold $error"
            )
        elif fetches:
            verdict = Content("\n").join(_fetch_content(fetch) for fetch in fetches)
        elif reading:
            verdict = Content.styled(f"{reading} It can be launched all the same.", "dim")
        else:
            verdict = Content.styled("✓ ready", "bold $success")
        self.query_one("#verdict", Line).say(verdict)
        listed = self.query_one(Problems)
        listed.display = bool(count)
        if facts.problems != self._problems:
            self._problems = list(facts.problems)
            listed.set_options([Option(_problem_content(problem)) for problem in facts.problems])
            if count:
                listed.highlighted = 0
        self.query_one("#launch", Button).disabled = bool(count) or facts.spec is None

    def focus_first(self) -> None:
        (self.query_one(Problems) if self._problems else self.query_one("#launch", Button)).focus()

    @on(OptionList.OptionSelected)
    def _go(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(self.Go(self._problems[event.option_index].key))


class SpecView(VerticalScroll, can_focus=True):
    """Shows the spec as the file that the run starts with."""

    DEFAULT_CSS = "SpecView { height: auto; } SpecView Line { height: auto; } SpecView:focus { background: $surface; }"

    def compose(self) -> ComposeResult:
        yield Line()

    def show(self, facts: Facts) -> None:
        self.query_one(Line).say(toml_content(dump_spec(facts.resolved)) if facts.resolved is not None else "")


def toml_content(text: str) -> Content:
    """Style TOML with its section names in bold and its keys muted."""
    parts: list[tuple[str, str]] = []
    for line in text.splitlines():
        key, equals, value = line.partition(" = ")
        if line.startswith("["):
            parts.append((f"{safe(line)}\n", "bold $primary"))
        elif equals:
            parts += [(f"{safe(key)} = ", "dim"), (f"{safe(value)}\n", "")]
        else:
            parts.append((f"{safe(line)}\n", ""))
    return Content.assemble(*parts)


def _fetch_content(fetch: Fetch) -> Content:
    sign, style = ("!", "bold $error") if fetch.obstacle else ("↓", "bold $warning")
    return Content.assemble((f"{sign} {safe(fetch.text)}\n", style), (safe(fetch.way), "dim"))


def _problem_content(problem: Problem) -> Content:
    hint = f"  {safe(problem.hint)}" if problem.hint else ""
    return Content.assemble(
        (f"{problem.key}  ", "bold"),
        safe(problem.message).replace("\n", " "),
        (hint.replace("\n", " "), "dim"),
    )

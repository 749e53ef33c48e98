"""The wizard: a run spec in six steps, with its consequences shown while it is typed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from textual import events, on, work
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.css.query import NoMatches
from textual.message import Message
from textual.widget import Widget

from deeptune.catalog import CATALOG, BackboneInfo
from deeptune.fetching import Fetch, fetch_of
from deeptune.formatting import ago, safe
from deeptune.show.devices import Device, devices
from tui.draft import Draft
from tui.probe_results import probed_scores
from tui.screens.ask import Choice as Answer
from tui.screens.drafting import DraftScreen
from tui.widgets.changing_text import Line
from tui.widgets.wizard import backbone_choice
from tui.widgets.wizard.backbones import BackboneTable, Known
from tui.widgets.wizard.data import DataView
from tui.widgets.wizard.facts import work_out
from tui.widgets.wizard.field import FieldRow
from tui.widgets.wizard.form import Fold, Form, step_of
from tui.widgets.wizard.preview import ROWS, Preview
from tui.widgets.wizard.probing import Probing
from tui.widgets.wizard.rail import STEPS, Rail
from tui.widgets.wizard.reader import Reader
from tui.widgets.wizard.review import ReviewActions, SpecView
from tui.widgets.wizard.summary import counts_content, facts_text, training_content


class Pane(VerticalScroll, can_focus=False, inherit_bindings=False):
    """A step: its fields, and the facts beside or below them.

    Arrow keys move from field to field and scroll to it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pagedown", "page_down", show=False, id="pane.down", tooltip="Scroll on"),
        Binding("pageup", "page_up", show=False, id="pane.up", tooltip="Scroll back"),
    ]

    def __init__(self, step: str, draft: Draft) -> None:
        self.form = Form(draft, step)
        details: dict[str, list[Widget]] = {
            "Data": [DataView(), Preview()],
            "Backbone": [BackboneTable()],
            "Review": [SpecView()],
        }
        below = [ReviewActions()] if step == "Review" else []
        super().__init__(
            Container(self.form, *below, classes="left"),
            Container(*details.get(step, [Line(classes="costs")]), classes="details"),
            id=f"step-{step.lower()}",
            classes="pane",
        )


class WizardScreen(DraftScreen):
    """Edits a new spec, the saved draft, or `start`."""

    where = "New run"
    CSS_PATH = "wizard.tcss"
    AUTO_FOCUS = ""  # a step says itself which of its fields begins
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "launch", "Launch", id="wizard.launch", tooltip="Review the run; there, launch it"),
        Binding("ctrl+f", "find", "Find file", id="wizard.find", tooltip="Look for a Parquet file"),
        Binding("ctrl+n,f3", "turn(1)", "Next step", id="wizard.next", tooltip="The next step"),
        Binding("f4", "audit", "Audit", show=False, id="wizard.audit", tooltip="Audit the samples, in the step Data"),
        Binding("f2", "turn(-1)", "Step before", id="wizard.previous", tooltip="The step before"),
        Binding("down", "app.focus_next", show=False, id="wizard.down", tooltip="The next field"),
        Binding("up", "app.focus_previous", show=False, id="wizard.up", tooltip="The field before"),
        *(
            Binding(
                f"{number},alt+{number}",
                f"go('{step}')",
                step,
                show=False,
                id=f"wizard.{step.lower()}",
                tooltip=f"To the step {step}",
            )
            for number, step in enumerate(STEPS, start=1)
        ),
    ]

    class Machine(Message):
        """Posted with the devices of this machine and, by backbone, what has to be fetched (None for nothing)."""

        def __init__(self, found: list[Device], fetches: dict[str, Fetch | None]) -> None:
            super().__init__()
            self.found, self.fetches = found, fetches

    class Looked(Message):
        """Posted with the download size of a backbone's weights."""

        def __init__(self, name: str, fetch: Fetch | None) -> None:
            super().__init__()
            self.name, self.fetch = name, fetch

    def __init__(self, start: Draft | None = None) -> None:
        super().__init__(start or Draft())
        self._fresh = start is None
        self.ready = False  # keys wait until a field has the focus
        self.step = STEPS[0]
        self._devices: list[Device] = []
        self._fetches: dict[str, Fetch | None] = {}
        self._visited: set[str] = set()
        self._backbone_key = "backbone.name"  # the field that the table of backbones is for

    def body(self) -> Iterable[Widget]:
        return [Rail(), Container(id="panes"), Probing(), Line(id="facts"), Line(id="help"), self.reader]

    def on_mount(self) -> None:
        super().on_mount()
        self._learn_machine()
        saved = Draft.load(self._file) if self._fresh else None
        if saved is not None:
            self._offer(saved)
        else:
            self.call_after_refresh(self._begin)

    @work(group="offer")
    async def _offer(self, saved: Draft) -> None:
        age = ""
        with suppress(OSError):
            age = f"\nlast changed {ago(self.deeptune.clock() - self._file.stat().st_mtime)} ago"
        choices = [Answer("on", "Continue it"), Answer("new", "Begin a new one")]
        answer = await self.deeptune.ask("There is a draft", f"{saved.words}{age}", choices)
        if answer is None:  # no answer begins nothing, and leaves the draft where it is
            self.dismiss()
            return
        if answer == "on":
            self.draft, self._kept = saved, True
        await self._begin()

    async def _begin(self) -> None:
        await self.action_go(self.draft.step if self.draft.step in STEPS else STEPS[0])
        if self.step == "Review" and not self.facts.problems:  # no key that was meant for the question may launch
            self.query_one(SpecView).focus()
        self.reader.read(self.draft)
        self.ready = True

    # Steps.

    async def action_go(self, step: str) -> None:
        """Show a step. Its parts are made when it is first shown."""
        if self.step in self._visited and self.step != step:
            self.query_one(f"#step-{self.step.lower()}").display = False
        self.step = self.draft.step = step
        if step not in self._visited:
            await self.query_one("#panes").mount(Pane(step, self.draft))
            self._visited.add(step)  # only now: what is found out meanwhile has nowhere to be shown
        pane = self.query_one(f"#step-{step.lower()}", Pane)
        pane.display = True
        self.refresh_facts()
        self._focus_first(pane)
        if step == "Review" and self.facts.info is not None:
            self._look_for_weights(self.facts.info)

    async def action_turn(self, by: int) -> None:
        at = STEPS.index(self.step) + by
        if 0 <= at < len(STEPS):
            await self.action_go(STEPS[at])

    def _focus_first(self, pane: Pane) -> None:
        if self.step == "Review":
            pane.query_one(ReviewActions).focus_first()
            return
        row = next((row for row in pane.form.rows.values() if row.display), None)
        if row is not None:
            self.set_focus(row.input)
            self.call_after_refresh(row.update_node_styles)  # the label of a step that was only just made, too

    async def go_to_field(self, key: str) -> None:
        step = step_of(key)
        await self.action_go(step)
        form = self.query_one(f"#step-{step.lower()}", Pane).form
        if form.field_row(key) is None:
            form.unfold()
            form.show(self.draft, self.facts)
        row = form.rows.get(key)
        if row is not None:
            self.ready = False
            self.call_after_refresh(self._take_up, row)

    def _take_up(self, row: FieldRow) -> None:
        self.set_focus(row.input)
        self.ready = True

    @on(Rail.Chosen)
    async def _rail(self, event: Rail.Chosen) -> None:
        await self.action_go(event.step)

    @on(ReviewActions.Go)
    async def _problem(self, event: ReviewActions.Go) -> None:
        await self.go_to_field(event.key)

    async def action_launch(self) -> None:
        """Go to the review, or start the run from there."""
        if self.step == "Review":
            self.launch()
        else:
            await self.action_go("Review")

    @work(group="find")
    async def action_find(self) -> None:
        from tui.screens.pick import PickScreen

        typed = Path(self.draft.text("data.path") or ".").expanduser()
        start = next(folder for folder in (typed, *typed.absolute().parents) if folder.is_dir())
        picked = await self.app.push_screen_wait(PickScreen(start.absolute()))
        if picked is not None:
            await self.action_go("Data")
            self.draft.set("data.path", self.draft.fields["data.path"].show(str(picked)))
            self.reader.read(self.draft, again=True)
            self.save_now()
            self.refresh_facts()

    async def action_audit(self) -> None:
        if self.step != "Data":
            await self.action_go("Data")
        self.reader.audit(self.draft)

    # What follows from the draft.

    def refresh_facts(self) -> None:
        """Compute the facts about the draft, and show them."""
        if self.step not in self._visited:
            return
        data = self.reader.data
        self.facts = facts = work_out(self.draft, data, self._devices)
        pane = self.query_one(f"#step-{self.step.lower()}", Pane)
        pane.form.show(self.draft, facts)
        if self.step == "Data":
            pane.query_one(DataView).show(data, self.draft.value("data.label"))
            preview = pane.query_one(Preview)
            preview.display = bool(self.reader.samples)
            preview.show(self.reader.samples, data)
        elif self.step == "Backbone":
            self._show_backbones(pane)
        elif self.step == "Review":
            actions = pane.query_one(ReviewActions)
            actions.show(facts, data.reading, backbone_choice.wanted_fetches(facts, self._fetches))
            pane.query_one(SpecView).show(facts)
            if self.focused is None or not self.focused.focusable:
                actions.focus_first()
        else:
            wide = self.size.width // 2
            costs = training_content(facts) if self.step == "Training" else counts_content(facts, wide)
            pane.query_one(".costs", Line).say(costs)
        self.query_one(Rail).show(self.step, {step: self._mark(step) for step in STEPS})
        self.query_one("#facts", Line).say(data.reading or facts_text(facts, self.size.width - 4))
        self._help()

    def _mark(self, step: str) -> str:
        if self.draft.given and any(step_of(problem.key) == step for problem in self.facts.problems):
            return "!"
        furthest = max(map(STEPS.index, self._visited))
        return "●" if step == self.step else "✓" if STEPS.index(step) <= furthest else "○"

    def _show_backbones(self, pane: Pane) -> None:
        typed = self.draft.given.get(self._backbone_key, "")
        modality, chosen = backbone_choice.listed(self._backbone_key, self.reader.data.modality, self.facts.info)
        found = typed in CATALOG or ":" in typed or bool(chosen)
        pane.query_one(BackboneTable).show(
            words="" if found else typed,
            chosen=chosen,
            known=Known(modality, self._fetches, probed_scores(self.draft, self.reader.input_columns(self.draft))),
            width=self.size.width // 2 if self.has_class("-wide") else self.size.width,
        )

    def _help(self) -> None:
        """Describe the focused field: its default (first, as the end may be cut), its meaning, its values."""
        row = (
            next((part for part in self.focused.ancestors_with_self if isinstance(part, FieldRow)), None)
            if (self.focused is not None)
            else None
        )
        if row is None:
            table = isinstance(self.focused, BackboneTable)
            self.query_one("#help", Line).say(
                "Enter takes a backbone. Words in `name` search the table. F5 ranks those here on your rows."
                if table
                else ""
            )
            return
        field = row.field
        default = "needed" if field.required else f"default {field.show(field.default) or 'unset'}"
        here = f", here {self.facts.hints[field.key]}" if field.key in self.facts.hints else ""
        accepts = "" if field.kind == "choice" else f" Takes {safe(field.accepts)}."
        self.query_one("#help", Line).say(
            Content.assemble(
                (field.key, "bold $primary"),
                (f"  {safe(default + here)}  ", "dim"),
                safe(field.help),
                (accepts, "dim"),
            )
        )

    @on(events.DescendantFocus)
    def _focus_moved(self) -> None:
        self._help()
        focused = self.focused.ancestors_with_self if self.focused is not None else ()
        key = next((part.field.key for part in focused if isinstance(part, FieldRow)), "")
        if key in backbone_choice.KEYS and key != self._backbone_key:
            self._backbone_key = key
            self.refresh_facts()

    # Changes.

    @on(FieldRow.Changed)
    def _changed(self, event: FieldRow.Changed) -> None:
        key = event.key
        if key in backbone_choice.KEYS and event.done:
            self._take_best(key)
        else:
            self.draft.set(key, event.text)
        if key.startswith("data.") or key in ("task", "train.seed"):
            if not event.done:
                self._later("read", lambda: self.reader.read(self.draft))
            elif key in ("data.path", "data.train"):
                self._no_longer("read")
                self.reader.read(self.draft, again=True)
        self._later("save", self.save_now)
        self.refresh_facts()

    def _take_best(self, key: str) -> None:
        """Take the first row that the words find, on Enter in a backbone's field."""
        table = self.query_one(BackboneTable)
        if self.facts.info is None and table.current is not None:
            self.draft.set(key, table.current.name)

    @on(BackboneTable.Taken)
    def _taken(self, event: BackboneTable.Taken) -> None:
        self.draft.set(self._backbone_key, event.name)
        self._later("save", self.save_now)
        self.refresh_facts()

    @on(Probing.Ended)
    @on(Fold.Toggled)
    def _folded(self) -> None:
        self.refresh_facts()

    # Data and machine.

    @on(Reader.Opened)
    def _opened(self) -> None:
        overview = self.reader.data.overview
        assert overview is not None
        self.draft.guessed = dict(overview["guesses"])
        self._guess_backbone()
        self.reader.survey(self.draft)
        self.reader.preview(self.draft, 0, ROWS)

    @on(Reader.Changed)
    def _known(self) -> None:
        self._guess_backbone()
        with suppress(NoMatches):  # the screen is on its way out
            self.refresh_facts()

    @on(Preview.Wanted)
    def _turned(self, event: Preview.Wanted) -> None:
        self.reader.preview(self.draft, event.start, ROWS)

    def _guess_backbone(self) -> None:
        columns = self.reader.input_columns(self.draft)
        if self.reader.data.overview is not None and columns and self._fetches:
            backbone_choice.guess(self.draft, self.reader.data.overview, columns, self._fetches)

    @work(thread=True, group="machine")
    def _learn_machine(self) -> None:
        fetches = {row.name: fetch_of(row) for row in CATALOG.values()}
        self.post_message(self.Machine(devices(), fetches))

    @on(Machine)
    def _learned(self, event: Machine) -> None:
        self._devices, self._fetches = event.found, {**self._fetches, **event.fetches}
        self._known()

    @work(thread=True, exclusive=True, group="weights")
    def _look_for_weights(self, info: BackboneInfo) -> None:
        """Look for weights again: some may be new, and those of names outside the catalog were not looked for."""
        for member in info.members:
            self.post_message(self.Looked(member.name, fetch_of(member)))

    @on(Looked)
    def _found(self, event: Looked) -> None:
        self._fetches[event.name] = event.fetch
        self._known()

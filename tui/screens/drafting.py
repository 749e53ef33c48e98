"""The actions of a draft: save it, copy its command, launch it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Button

from deeptune.errors import DeepTuneError
from deeptune.formatting import counted
from deeptune.runs import RunDirectory
from deeptune.spec import RunSpec, dump_spec
from deeptune.spec.defaults import run_name
from tui.draft import Draft, draft_file
from tui.screens.ask import Choice as Answer
from tui.screens.base import DeepTuneScreen
from tui.widgets.wizard.facts import Facts
from tui.widgets.wizard.probing import Probing
from tui.widgets.wizard.reader import Reader

PAUSE = 0.4  # seconds without a key before the draft is saved, and its data looked at


class DraftScreen(DeepTuneScreen):
    """Holds a draft, the facts about it, and the reader of its data."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "ctrl+s", "save", "Save", show=False, id="wizard.save", tooltip="Save the spec as a preset of your own"
        ),
        Binding("ctrl+y", "copy", "Copy", show=False, id="wizard.copy", tooltip="Copy the equivalent `deeptune run`"),
        Binding("f5", "probe", "Probe", show=False, id="wizard.probe", tooltip="Rank the backbones on these rows"),
    ]

    class Launched(Message):
        def __init__(self, run: RunDirectory | None, error: DeepTuneError | None = None) -> None:
            super().__init__()
            self.run, self.error = run, error

    def __init__(self, draft: Draft) -> None:
        super().__init__()
        self.draft = draft
        self._begun = draft.overrides()  # of a preset or another run: no work of the person's that could be lost
        self._file = draft_file()  # now, as the folder may be gone later
        self._kept = False
        self.facts = Facts()
        self.reader = Reader()
        self._pauses: dict[str, Timer] = {}
        self._launching = False

    def on_unmount(self) -> None:
        self.save_now()

    def _later(self, what: str, do: Callable[[], None]) -> None:
        """Call back once no key was pressed for a moment."""
        self._no_longer(what)
        self._pauses[what] = self.set_timer(PAUSE, do)

    def _no_longer(self, what: str) -> None:
        if (former := self._pauses.pop(what, None)) is not None:
            former.stop()

    def save_now(self) -> None:
        """Save the draft if it is not empty. Also called when the terminal hangs up."""
        if self._launching:
            return
        with suppress(DeepTuneError, OSError):  # a full disk is not a reason to lose what is on the screen
            if self.draft.overrides() != self._begun:
                self.draft.save(self._file)
                self._kept = True
            elif self._kept:
                self._file.unlink(missing_ok=True)
                self._kept = False

    @work(group="save")
    async def action_save(self) -> None:
        from deeptune.runs import write_text
        from tui.screens.save import SaveScreen

        if self.facts.spec is None:
            self._name_problems()
            return
        path = await self.app.push_screen_wait(SaveScreen(f"{run_name(self.facts.spec)}.toml"))
        if path is None:
            return
        choices = [Answer("no", "Keep that file"), Answer("yes", "Replace it", dangerous=True)]
        if path.exists() and await self.deeptune.ask(f"Replace {path}?", "This file exists already.", choices) != "yes":
            return
        try:
            write_text(path, dump_spec(self.facts.spec))
        except DeepTuneError as error:
            self.deeptune.tell_error(error)
        else:
            self.deeptune.tell(f"saved: deeptune run {path}")

    def _name_problems(self) -> None:
        """Say that the draft can't be used yet, and where its problems are listed."""
        problems = counted(max(1, len(self.facts.problems)), "problem")
        self.deeptune.tell(f"fix {problems} of this spec first: the step Review lists them", "warning")

    def action_copy(self) -> None:
        if self.facts.spec is None:
            self._name_problems()
        else:
            self.deeptune.copy(self.draft.shell_command(self.deeptune.options.root))

    def action_probe(self) -> None:
        """Rank the backbones on the rows of the draft, or ask whether to cancel that."""
        if self.reader.data.survey is None:
            self.deeptune.tell("choose the data first: backbones are ranked on its rows", "warning")
        else:
            self.query_one(Probing).start(self.draft)

    def launch(self) -> None:
        """Start the run, unless the draft has a problem."""
        if self.facts.spec is None or self.facts.problems:
            self._name_problems()
        elif not self._launching and not self.deeptune.refused("start a run"):
            self._launching = True
            self._launch(self.facts.spec)

    @work(thread=True, group="launch")
    def _launch(self, spec: RunSpec) -> None:
        from deeptune.runs.launch import make_run, start_runner

        root = self.deeptune.options.root
        try:
            run = make_run(spec, root)
            start_runner(run, asked=self.draft.command(root))
        except DeepTuneError as error:
            self.post_message(self.Launched(None, error))
        else:
            self.post_message(self.Launched(run))

    @on(Launched)
    def _launched(self, event: Launched) -> None:
        if event.run is None:
            self._launching = False
            assert event.error is not None
            self.deeptune.tell_error(event.error)
            return
        if self._kept:
            self._file.unlink(missing_ok=True)
        self.deeptune.pop_screen()
        self.deeptune.open_monitor(event.run)

    @on(Button.Pressed)
    async def _pressed(self, event: Button.Pressed) -> None:
        await self.run_action({"launch": "launch", "save": "save", "copy": "copy"}[str(event.button.id)])

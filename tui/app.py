"""The app: what all screens share, and how one opens another."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from textual import work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.events import Event, Key, Paste
from textual.filter import LineFilter
from textual.screen import Screen
from textual.widgets import Input, TextArea

from deeptune.errors import DeepTuneError
from deeptune.runs import RunDirectory
from deeptune.runs.notes import read_notes
from tui.options import Options
from tui.screens.ask import AskScreen, Choice
from tui.screens.runs import RunsScreen
from tui.themes import THEMES, inks
from tui.typeahead import Followed, TypeAhead

if TYPE_CHECKING:
    from tui.widgets.monitor.results import Verb

Severity = Literal["information", "warning", "error"]


class DeepTuneApp(App[None]):
    """The terminal interface. `opens` is the first screen over the list of runs: ("run", folder) or ("spec", file).

    `clock` gives the present in seconds since 1970; tests freeze it.
    """

    TITLE = "DeepTune"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-normal"), (120, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (24, "-medium"), (34, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Help", id="app.help", tooltip="What every key does here"),
        Binding("ctrl+o", "jump", "Jump", id="app.jump", tooltip="Jump to anything on the screen by a letter"),
        Binding("ctrl+t", "change_theme", "Theme", show=False, id="app.theme", tooltip="Choose the colours"),
        # With priority, as a window above a screen hides the keys of the app.
        Binding(
            "ctrl+q", "quit", "Quit", show=False, priority=True, id="app.quit", tooltip="Leave; every run continues"
        ),
        Binding(
            "ctrl+c", "quit_hint", show=False, priority=True, id="app.interrupt", tooltip="Copy, or say how to leave"
        ),
        Binding(
            "ctrl+z",
            "suspend_process",
            show=False,
            priority=True,
            id="app.suspend",
            tooltip="Back to the shell for a while; `fg` returns here",
        ),
    ]

    def __init__(
        self,
        options: Options,
        *,
        opens: tuple[str, Path] | None = None,
        keymap: dict[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.options = options
        self.clock = clock
        super().__init__()
        self._opens = opens
        self.pinned: RunDirectory | None = None  # its curves are drawn behind those of other runs
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = options.theme
        self._key_notices: list[str] = []  # of what is said once the first screen is there
        if keymap:
            from tui.keymap import without_clashes

            keymap, self._key_notices = without_clashes(keymap)
        self.set_keymap(keymap or {})
        self.animation_level = "none"
        self.no_color = not options.color
        self._characters: list[LineFilter] = []
        if options.ascii or options.console:
            from tui.ascii import Characters, to_ascii, to_console

            self._characters = [Characters(to_ascii if options.ascii else to_console)]
        self._typed = TypeAhead(self, self._hand_on)

    def get_driver_class(self) -> type[Driver]:
        from tui.driver import PatientDriver

        return PatientDriver

    def get_line_filters(self) -> list[LineFilter]:
        if self.options.color:
            return [*super().get_line_filters(), *self._characters]
        from tui.colourless import colourless

        return [colourless(self.current_theme.background or "black"), *self._characters]

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return inks(self.current_theme)

    async def on_event(self, event: Event) -> None:
        """Handle an event. Keys and pasted text keep their order, however many arrive together."""
        if not isinstance(event, Key | Paste) or event.is_forwarded:
            await super().on_event(event)
        elif not self._typed.holds(event):
            await self._hand_on(event)

    async def _hand_on(self, event: Event) -> None:
        target = self.focused or self.screen
        await super().on_event(event)
        self._typed.sent(event, target)

    async def on_followed(self, message: Followed) -> None:
        await self._typed.back(message)

    def watch_theme(self, theme: str) -> None:
        """Remember the theme that was chosen."""
        if self.is_running and theme != self.options.theme:
            from tui.settings import save_setting

            save_setting("theme", theme)

    def on_mount(self) -> None:
        self.push_screen(RunsScreen())
        for text in self._key_notices:
            self.notify(text, severity="warning", markup=False, timeout=20)
        if self._opens is not None:
            kind, path = self._opens
            self.call_later(self.open_monitor if kind == "run" else self.open_wizard, _run(path, kind))

    # From one screen to another. Modules of screens are imported when they are first needed.

    def open_monitor(self, run: RunDirectory) -> None:
        from tui.screens.monitor import MonitorScreen

        self.push_screen(MonitorScreen(run))

    def open_wizard(self, start: Path | None = None) -> None:
        """Open the wizard with a spec file (of a run or a preset), or with the draft if there is one."""
        if self.refused("start a run"):
            return
        from tui.draft import Draft
        from tui.screens.wizard import WizardScreen

        try:
            draft = Draft.from_file(start) if start is not None else None
        except DeepTuneError as error:  # of a run that is gone, or a file that was edited wrongly
            self.tell_error(error)
        else:
            self.push_screen(WizardScreen(draft))

    @work(group="act")
    async def edit_notes(self, run: RunDirectory) -> None:
        """Ask for a name, tags and a note, and keep them in the run's folder."""
        if self.refused("change a run's name, tags or note"):
            return
        from deeptune.runs.notes import write_notes
        from tui.screens.notes import NotesScreen

        notes = await self.push_screen_wait(NotesScreen(run))
        if notes is not None:
            await self._do(lambda run: write_notes(run, notes), run, done="saved")

    def pin(self, run: RunDirectory) -> None:
        """Toggle whether a run's curves are drawn behind those of others."""
        self.pinned = None if self.pinned == run else run
        name = read_notes(run).name or run.id
        self.tell(f"{name} is drawn behind other runs" if self.pinned else f"{name} is no longer drawn behind others")

    def open_embeddings(self, run: RunDirectory) -> None:
        from tui.screens.embeddings import EmbeddingsScreen

        self.push_screen(EmbeddingsScreen(run))

    def open_use(self, run: RunDirectory, verb: Verb) -> None:
        """Predict, evaluate or embed a file with a finished run's model."""
        if self.refused(f"{verb} with a run"):
            return
        from tui.screens.use import UseScreen

        self.push_screen(UseScreen(run, verb, Path.cwd()))

    def open_compare(self, runs: list[RunDirectory]) -> None:
        from tui.screens.compare import CompareScreen

        self.push_screen(CompareScreen(runs))

    def colour(self, plain: str) -> str:
        """Return the theme's colour for a plain colour of `show.run_text.STYLES`, for Rich texts."""
        name = {"blue": "primary", "green": "success", "yellow": "warning", "red": "error"}.get(plain)
        return plain if name is None or self.current_theme.ansi else self.theme_variables[name]

    # Talking to the person.

    def tell(self, text: str, severity: Severity = "information") -> None:
        """Show a notification. The text is never markup."""
        self.notify(text, severity=severity, markup=False)

    def tell_error(self, error: BaseException) -> None:
        """Show an error and its hint until the person closes it."""
        if isinstance(error, DeepTuneError):
            text = error.message + (f"\n\n{error.hint}" if error.hint else "")
            self.push_screen(AskScreen(error.title, text, [Choice("close", "Close")]))
        else:
            self.push_screen(AskScreen("error", f"{type(error).__name__}: {error}", [Choice("close", "Close")]))

    async def ask(self, title: str, text: str, choices: list[Choice]) -> str | None:
        """Ask a question. Returns the id of the choice, or None. It waits, so only workers call it."""
        return await self.push_screen_wait(AskScreen(title, text, choices))

    def copy(self, text: str) -> None:
        """Copy to the terminal's clipboard (OSC 52), and show the text, as not every terminal has one."""
        from tui.screens.copied import CopiedScreen

        self.copy_to_clipboard(text)
        self.push_screen(CopiedScreen(text))

    def refused(self, what: str) -> bool:
        """Return whether the session is read-only, and say so."""
        if self.options.read_only:
            self.tell(f"--read-only: this session can't {what}", "warning")
        return self.options.read_only

    def announce(self, text: str) -> None:
        """Announce an event with a bell, a notification and the terminal's title."""
        announce = getattr(self._driver, "announce", None)
        if self.options.bell and announce is not None:
            announce(text)

    # Doing something about a run.

    @work(group="act")
    async def stop_run(self, run: RunDirectory) -> None:
        """Ask for confirmation, then request that the run stops at its next step."""
        if self.refused("stop a run"):
            return
        from deeptune.runs.control import request_stop

        question = "It stops at its next step and stores a checkpoint: it can be resumed exactly there."
        if (
            await self.ask(f"Stop {run.id}?", question, [Choice("stop", "Stop"), Choice("no", "Keep running")])
            != "stop"
        ):
            return
        await self._do(
            lambda one: request_stop(one, "in the terminal interface"),
            run,
            done="asked the run to stop at its next step",
        )

    @work(group="act")
    async def resume_run(self, run: RunDirectory) -> None:
        if not self.refused("resume a run"):
            await self._do(_resume, run, done=f"{run.id} resumed")

    @work(group="act")
    async def delete_run(self, run: RunDirectory) -> None:
        """Ask for confirmation, then delete the folder of a run that is over."""
        if self.refused("delete a run"):
            return
        text = f"All of {run.path} is removed: model, metrics, embeddings and report. This can't be undone."
        choices = [Choice("no", "Keep it"), Choice("delete", "Delete", dangerous=True)]
        if await self.ask(f"Delete {run.id}?", text, choices) == "delete":
            await self._do(_delete, run, done=f"deleted {run.id}")

    async def _do(self, work: Callable[[RunDirectory], object], run: RunDirectory, *, done: str) -> None:
        try:
            await asyncio.to_thread(work, run)
        except (DeepTuneError, OSError) as error:
            self.tell_error(error)
        else:
            self.tell(done)
        for screen in self.screen_stack:
            if isinstance(screen, RunsScreen):
                screen.look()

    # Keys and commands.

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_jump(self) -> None:
        from tui.screens.jump import JumpScreen, targets

        if found := targets(self.screen):
            self.push_screen(JumpScreen(found))

    def action_quit_hint(self) -> None:
        """Copy the selection, as people expect of Ctrl+C, or say how to quit."""
        entry = self.focused.selected_text if isinstance(self.focused, Input | TextArea) else ""
        if selected := entry or self.screen.get_selected_text():
            self.copy(selected)
        else:
            self.tell("ctrl+q leaves; every run continues")

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """List every action with a key, the presets and the themes."""
        from tui.commands import commands

        yield from commands(self, screen)

    def save_now(self) -> None:
        """Save the draft. Signal handlers call this too, so it only writes a file and never waits."""
        for screen in self.screen_stack:
            save = getattr(screen, "save_now", None)
            if save is not None:
                save()

    def end_processes(self) -> None:
        """Kill what predicts, explains or probes for this session. It never waits, as signal handlers call it."""
        if (applying := sys.modules.get("tui.command_process")) is not None:
            for application in list(applying.Application.running):
                application.kill()

    async def action_quit(self) -> None:
        self.save_now()
        from tui.hangup import end_at_latest

        if not self.is_headless:
            end_at_latest(0)  # a terminal that nobody reads can't hold it up
        self.exit()

    def on_descendant_focus(self, event: Any) -> None:
        widget = event.widget
        if isinstance(widget, (Input, TextArea)):
            widget.cursor_blink = False  # each blink is bytes over the line


def _run(path: Path, kind: str) -> Any:
    return RunDirectory(path) if kind == "run" else path


def _resume(run: RunDirectory) -> None:
    from deeptune.errors import CheckpointError
    from deeptune.runs import run_state
    from deeptune.runs.launch import start_runner
    from deeptune.runs.lock import in_progress
    from deeptune.spec import load_spec

    state = run_state(run)
    if state.alive or state.word == "starting":
        raise in_progress(run)
    if not state.resumable:
        raise CheckpointError(f"the run {run.id} is {state.word}: there is nothing to resume")
    load_spec(run.spec)  # one that was edited wrongly is known before a process is started
    start_runner(run)


def _delete(run: RunDirectory) -> None:
    import shutil

    from deeptune.runs import run_state
    from deeptune.runs.directory import is_run
    from deeptune.runs.lock import in_progress

    if not run_state(run).over:
        raise in_progress(run)
    if not is_run(run.path) or run.path.is_symlink():
        raise OSError(f"{run.path} is not a run directory")
    hidden = run.path.with_name(f".deleted-{run.id}")  # at once no run any more, even if the removal is cut short
    run.path.rename(hidden)
    shutil.rmtree(hidden)

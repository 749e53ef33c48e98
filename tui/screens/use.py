"""Use a finished run's model on a file: predict, evaluate or embed, with progress, the result, and whole errors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from deeptune.formatting import duration, safe
from deeptune.runs import RunDirectory
from deeptune.show.chart import ChartGlyphs
from deeptune.show.pace import Pace
from tui.command_process import Application, Progress, command_of
from tui.screens.ask import Choice
from tui.screens.base import DeepTuneScreen
from tui.screens.pick import PickScreen
from tui.widgets.changing_text import Line
from tui.widgets.monitor.heading import bar
from tui.widgets.monitor.results import USES, Verb
from tui.widgets.scores import Scores
from tui.widgets.styled_lines import Lines

ENDINGS: dict[Verb, str] = {
    "predict": "predictions.parquet", "evaluate": "metrics.json", "embed": "embeddings.parquet",
}  # fmt: skip
OPTIONS = (  # of `deeptune predict`: id and option, label, text of an empty entry, smallest and largest value
    ("abstain-below", "abstain below a confidence of", "0 to 1; empty: never", 0.0, 1.0),
    ("coverage", "share that sets and intervals cover", "0.5 to 0.999; empty: as in the run", 0.5, 0.999),
)
MAX_OUTPUT_LINES = 200  # lines of a process that are shown


class Outcome(VerticalScroll):
    """What came of it; up from its first line goes back to the fields."""

    def action_scroll_up(self) -> None:
        if self.scroll_offset.y:
            super().action_scroll_up()
        else:
            self.screen.focus_previous()


class UseScreen(DeepTuneScreen):
    """Takes a file and a place for the result, and shows the progress. The file is picked when the screen opens."""

    CSS_PATH = "use.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "start", "Start", id="use.start", tooltip="Do it; Enter in the last field does, too"),
        Binding(
            "ctrl+f",
            "pick",
            "Find file",
            id="use.pick",
            priority=True,
            tooltip="Pick the file by walking through folders",
        ),
        Binding("ctrl+x", "cancel", "Cancel it", id="use.cancel", priority=True, tooltip="End it; nothing is written"),
        Binding("ctrl+y", "copy", "Copy path", id="use.copy", priority=True, tooltip="Copy the path of the result"),
        Binding("escape", "back", "Back", id="use.back", tooltip="To the run; asks while it works"),
        Binding("down", "app.focus_next", show=False, id="use.next", tooltip="The next field"),
        Binding("up", "app.focus_previous", show=False, id="use.previous", tooltip="The field before"),
    ]

    def __init__(self, run: RunDirectory, verb: Verb, start: Path) -> None:
        super().__init__()
        self.run, self.verb = run, verb
        self.where = f"{run.id} · {verb}"
        self._start = start  # the folder that picking begins in
        self._application: Application | None = None
        self._pace = Pace()
        self._output_lines: list[str] = []
        self._result: Path | None = None
        self._chosen = ""  # the output that was proposed, as long as it was not edited

    def body(self) -> Iterable[Widget]:
        yield Static(f"{USES[self.verb].capitalize()} with the model of this run", classes="what")
        yield Static("Parquet file, glob or folder", classes="name")
        yield Input(id="data", compact=True)
        yield Static("result", classes="name")
        yield Input(id="output", compact=True)
        for id, label, text, *_ in OPTIONS if self.verb == "predict" else ():
            yield Static(label, classes="name")
            yield Input(id=id, placeholder=text, compact=True, classes="option")
        yield Lines(id="progress")
        with Outcome(id="outcome"):
            yield Scores(id="scores")
            yield Line(id="messages")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#data").focus()
        self.action_pick()

    def on_unmount(self) -> None:
        if self._application is not None:
            self._application.kill()

    @property
    def working(self) -> bool:
        return self._application is not None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("start", "pick"):
            return not self.working
        if action == "cancel":
            return self.working
        return self._result is not None if action == "copy" else super().check_action(action, parameters)

    # What to use it on.

    def action_pick(self) -> None:
        def picked(path: Path | None) -> None:
            if path is not None:
                self.query_one("#data", Input).value = str(path)
                self.query_one("#output").focus()

        self.app.push_screen(PickScreen(self._start), picked)

    @on(Input.Changed, "#data")
    def _propose(self) -> None:
        """Propose a place for the result in the current folder, unless the person has named one."""
        output = self.query_one("#output", Input)
        if output.value == self._chosen:
            self._chosen = str(proposed(self.query_one("#data", Input).value.strip(), self.verb))
            output.value = self._chosen

    @on(Input.Submitted, "#data")
    def _next(self) -> None:
        self.query_one("#output").focus()

    # Doing it.

    @on(Input.Submitted, "#output")
    @on(Input.Submitted, ".option")
    @work(exclusive=True, group="use")
    async def action_start(self) -> None:
        if self.working:
            return
        data, named = (self.query_one(id, Input).value.strip() for id in ("#data", "#output"))
        if not data or not named:
            self.deeptune.tell("name a file and a place for the result first", "warning")
            return
        try:
            options = self._options()
        except ValueError as error:
            self.deeptune.tell(str(error), "warning")
            return
        output = Path(named).expanduser().absolute()
        if output.exists() and not output.is_dir():
            choices = [Choice("no", "Keep it"), Choice("replace", "Replace it", dangerous=True)]
            if await self.deeptune.ask("Replace the file?", f"{output} exists.", choices) != "replace":
                return
        await self._use(data, output, options)

    def _options(self) -> list[str]:
        """Read the optional entries as words of the command. Raises ValueError, and goes to the entry that is wrong."""
        words = []
        for id, label, _, low, high in OPTIONS if self.verb == "predict" else ():
            entry = self.query_one(f"#{id}", Input)
            if not (text := entry.value.strip()):
                continue
            try:
                right = low <= float(text) <= high
            except ValueError:
                right = False
            if not right:
                entry.focus()
                raise ValueError(f"{label}: {safe(text)!r} is not a number from {low:g} to {high:g}")
            words += [f"--{id}", text]
        return words

    async def _use(self, data: str, output: Path, options: list[str]) -> None:
        application = self._application = Application(self._go_on, self._say)
        self._output_lines, self._result, self._pace = [], None, Pace()
        self.query_one(Scores).display = False
        self.query_one("#messages", Line).say("")
        self.query_one("#progress", Lines).show([[("loading PyTorch and the model ...", "label")]])
        self.refresh_bindings()
        path = str(Path(data).expanduser()) if data.startswith("~") else data
        try:
            code, printed = await application.run(command_of(self.run, self.verb, path, output, options))
        except OSError as error:
            code, printed = 1, ""
            self._say(f"it could not be started: {error}")
        finally:
            self._application = None
        if self.is_mounted:
            self._end(code, printed, output, cancelled=application.cancelled)

    def _end(self, code: int, printed: str, output: Path, *, cancelled: bool) -> None:
        progress = self.query_one("#progress", Lines)
        if code == 0:
            self._result = output
            progress.show([[("✓ ", "good"), (safe(output), "value")]])
            if self.verb == "evaluate":
                scores = self.query_one(Scores)
                scores.display = True
                scores.tell({"file": metrics_in(printed)}, "")
            else:
                self._say(printed.strip())
        elif cancelled:
            progress.show([[("■ cancelled: nothing was written", "warn")]])
        else:
            progress.show([[(f"✗ it failed (exit code {code})", "bad")]])
        self.refresh_bindings()
        self.query_one("#outcome").focus()

    def _go_on(self, progress: Progress) -> None:
        now = self.deeptune.clock()
        self._pace.see(progress.what, now, progress.done, progress.total)
        left = self._pace.to_go(now)
        glyphs = ChartGlyphs(ascii=not self.deeptune.options.dots)
        row = bar(f"{progress.what} ", progress.done, progress.total, self.size.width - 50, glyphs)
        self.query_one("#progress", Lines).show(
            [[*row, (f"  about {duration(left)} to go" if left is not None else "", "label")]]
        )

    def _say(self, line: str) -> None:
        self._output_lines = [*self._output_lines, safe(line)][-MAX_OUTPUT_LINES:]
        self.query_one("#messages", Line).say(Content("\n".join(self._output_lines)))

    @work(group="cancel")
    async def action_cancel(self) -> None:
        if self._application is not None:
            self.query_one("#progress", Lines).show([[("cancelling ...", "warn")]])
            await self._application.cancel()

    def action_copy(self) -> None:
        if self._result is not None:
            self.deeptune.copy(str(self._result))

    def action_back(self) -> None:
        self._leave()

    @work(group="leave")
    async def _leave(self) -> None:
        if self._application is not None:
            choices = [Choice("stay", "Keep it going"), Choice("cancel", "Cancel it", dangerous=True)]
            text = "It ends with this page, and nothing is written."
            if await self.deeptune.ask(f"Cancel {self.verb}?", text, choices) != "cancel":
                return
            if self._application is not None:
                await self._application.cancel()
        self.dismiss()


def proposed(data: str, verb: Verb) -> Path:
    """Return an unused name for the result, in the current folder."""
    name = Path(data).name.removeprefix("sample:").removesuffix(".parquet").replace("*", "") or "data"
    stem, _, ending = ENDINGS[verb].partition(".")
    names = (Path.cwd() / f"{name}-{stem}{number}.{ending}" for number in ("", *(f"-{n}" for n in range(2, 1000))))
    return next((path for path in names if not path.exists()), Path.cwd() / f"{name}-{stem}.{ending}")


def metrics_in(printed: str) -> dict[str, Any]:
    """Read the metrics that `deeptune evaluate --json` printed; empty if they are not JSON."""
    try:
        found = json.loads(printed)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

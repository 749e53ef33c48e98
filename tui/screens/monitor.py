"""One run, live or past: its progress, curves, machine, log and results.

A thread reads the run's files and posts what is new. The view is built from that here, in the app's loop.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import ClassVar, cast

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import ContentSwitcher
from textual.worker import get_current_worker

from deeptune.errors import DeepTuneError
from deeptune.runs import RunDirectory
from deeptune.runs.notes import read_notes
from deeptune.show.announce import end_text
from deeptune.show.chart import ChartGlyphs
from deeptune.show.view import View
from tui.compositor import FrugalCompositor
from tui.screens.ask import Choice
from tui.screens.charting import ChartingScreen
from tui.widgets.chart import Chart
from tui.widgets.monitor import plots
from tui.widgets.monitor.examples import Example, Examples
from tui.widgets.monitor.failure import Failure
from tui.widgets.monitor.follow import Follower, News
from tui.widgets.monitor.heading import Heading
from tui.widgets.monitor.log import LogView, RunLines, crash_lines
from tui.widgets.monitor.logpage import LogPage
from tui.widgets.monitor.machine import Machine
from tui.widgets.monitor.printed import Printed
from tui.widgets.monitor.results import USES, Outcome, Results, Verb
from tui.widgets.monitor.tabs import Tabs

PAGES = {"curves": "Curves", "optimizer": "Optimizer", "machine": "Machine", "log": "Log", "results": "Results",
         "examples": "Examples"}  # fmt: skip
WANTS = {"results": "outcome", "examples": "examples"}  # what a page needs read
LOOK, LOOK_OVER_SSH = 0.5, 2.0  # seconds
LINES_BESIDE = 200  # lines of the log on the dashboard


class MonitorScreen(ChartingScreen):
    """Shows the pages of a run below a heading that is always visible."""

    CSS_PATH = "monitor.tcss"
    SHORT: ClassVar[dict[str, str]] = {
        "use": "Use", "find": "Find", "log_y": "Log", "embeddings": "Embed", "again": "New", "copy": "Path",
    }  # fmt: skip
    DISPENSABLE: ClassVar[tuple[str, ...]] = ("jump", "find", "smooth", "log_y", "warnings", "console", "unit", "use")
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"page('{page}')", title, show=False, id=f"monitor.{page}", tooltip=f"Page {title}")
            for number, (page, title) in enumerate(PAGES.items(), start=1)
        ),
        Binding("s", "stop", "Stop", id="monitor.stop", tooltip="Stop at the next step, with a checkpoint; asks"),
        Binding("r", "resume", "Resume", id="monitor.resume", tooltip="Resume from the last checkpoint"),
        Binding("p", "use", "Use it", id="monitor.use", tooltip="Predict, evaluate or embed a file with its model"),
        Binding("m", "metric", "Metric", id="monitor.metric", tooltip="The next metric of val"),
        Binding("f", "find", "Find metric", id="monitor.find", tooltip="Choose the metric by a part of its name"),
        Binding("x", "unit", "Axis", id="monitor.axis", tooltip="Over steps, epochs or time"),
        Binding("l", "log_y", "Log y", id="monitor.log_y", tooltip="Logarithmic y axis, and back"),
        Binding("a", "smooth", "Smooth", id="monitor.smooth", tooltip="How much the curves are smoothed"),
        Binding("slash", "filter", "Filter", key_display="/", id="monitor.filter", tooltip="Log lines with a word"),
        Binding("w", "warnings", "Warnings", id="monitor.warnings", tooltip="Only warnings in the log, and back"),
        Binding("c", "console", "Console", id="monitor.console", tooltip="The output of libraries, and back"),
        Binding("e", "embeddings", "Embeddings", id="monitor.embeddings", tooltip="Scatter of embeddings"),
        Binding("n", "again", "New run from this spec", id="monitor.again", tooltip="A new run from this run's spec"),
        Binding("y", "copy", "Copy path", id="monitor.copy", tooltip="Copy the path of the run"),
        Binding("escape,q", "back", "Back", id="monitor.back", tooltip="Leave the run, which continues"),
    ]

    class Read(Message):
        def __init__(self, news: News) -> None:
            super().__init__()
            self.news = news

    class Behind(Message):
        """Posted with the news of the run that is drawn behind this one."""

        def __init__(self, news: News) -> None:
            super().__init__()
            self.news = news

    def __init__(self, run: RunDirectory) -> None:
        super().__init__(View(run))
        self._compositor = FrugalCompositor()
        self.run = run
        notes = read_notes(run)
        self.where = " ".join([notes.name or run.id, *(f"#{tag}" for tag in notes.tags)])
        self.page = "curves"
        self._follower = Follower(run)
        self._pinned: tuple[View, Follower] | None = None
        self._said = RunLines()
        self._reading = self._caught_up = False
        self._problem = ""
        self._glyphs = ChartGlyphs()
        self._printed: Printed | None = None  # console.log, while that is shown
        self._failure: DeepTuneError | None = None
        self._warnings_only = False
        self._outcome: Outcome | None = None  # before it is read
        self._worst: list[Example] | None = None  # before they are read

    def body(self) -> Iterable[Widget]:
        yield Heading(id="heading")
        yield Tabs(PAGES, id="tabs")
        with ContentSwitcher(id="pages", initial="curves"):
            with Vertical(id="curves"):
                yield Failure(id="failure")
                with Horizontal(classes="top row"):
                    yield Chart(id="first")
                    yield Chart(id="second")
                with Horizontal(classes="middle row"):
                    yield Chart(id="rate-now")
                    yield Chart(id="norm-now", classes="other")
                    yield Chart(id="speed-now", classes="other")
                with Horizontal(classes="bottom row"):
                    yield Machine(id="machine-now")
                    yield LogView(id="log-now")
            with Vertical(id="optimizer"):
                yield Chart(id="learning-rate")
                yield Chart(id="gradient-norm")
                yield Chart(id="waiting")
            with VerticalScroll(id="machine"):
                yield Machine(id="devices")
                yield Chart(id="memory")
                yield Chart(id="use")
            yield LogPage(self.run.reference, id="log")
            yield Results(self.run, id="results")
            yield Examples(self.run, id="examples")

    def on_mount(self) -> None:
        super().on_mount()
        options, pinned = self.deeptune.options, self.deeptune.pinned
        if pinned is not None and pinned != self.run:
            self._pinned = View(pinned), Follower(pinned)
        self._glyphs = ChartGlyphs(ascii=not options.dots, mono=not options.color)
        for widget in self.query(Chart):
            widget.glyphs = self._glyphs
        self.query_one("#first").focus()
        gc.disable()  # until the log is read: it becomes many objects, and looking for garbage among them costs as much
        self.every(LOOK_OVER_SSH if options.ssh else LOOK, self.look)

    def on_unmount(self) -> None:
        gc.enable()

    # Reading.

    def look(self) -> None:
        """Start reading what is new, unless a read is in progress, and update the ages."""
        if self.is_mounted:
            if self._caught_up:
                self._draw_heading()
            if not self._reading:
                self._reading = True
                self._read()

    @work(thread=True, group="follow")
    def _read(self) -> None:
        try:
            for news in self._follower.news():
                if get_current_worker().is_cancelled:
                    return
                self.post_message(self.Read(news))
            for news in self._pinned[1].news() if self._pinned is not None else ():
                self.post_message(self.Behind(news))
        finally:
            self._reading = False

    @on(Read)
    def _take(self, message: Read) -> None:
        news, view, before = message.news, self.view, self.view.state
        watched = self._caught_up
        for event in news.events:
            view.take(event)
            self._said.take(view, event)
        if news.state is None:
            return  # there is more to come
        gc.enable()
        view.see(news.state)
        self._problem, self._caught_up = news.problem, True
        self._fail(news.failure)
        if self._printed is not None and news.console is not None:
            self._printed = news.console
        self._outcome = self._outcome if news.outcome is None else news.outcome
        self._worst = self._worst if news.examples is None else news.examples
        if watched and view.state.over and not before.over:
            self.deeptune.announce(end_text(self.run, view.state))
        if view.state.word != before.word or not watched:
            self.refresh_bindings()
        self._draw()

    def _fail(self, error: DeepTuneError | None) -> None:
        """Show the error at the top of the first page. Without curves it takes the whole page."""
        before, self._failure = self._failure, error
        panel = self.query_one(Failure)
        panel.tell(error)
        if error is not None and before is None and self.page == "curves":
            panel.focus()
        elif error is None and panel.has_focus:
            self.query_one("#first").focus()
        self.set_class(error is not None and not len(self.view.history.steps), "-no-curves")

    @on(Behind)
    def _take_behind(self, message: Behind) -> None:
        assert self._pinned is not None
        for event in message.news.events:
            self._pinned[0].take(event)
        if message.news.state is not None:
            self._draw()

    # Drawing.

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        """Update the heading and the open page."""
        if self._caught_up:
            self._draw_heading()
            self.query_one(Tabs).tell(self.page, *self._notes())
            getattr(self, f"_draw_{self.page}")()

    def _draw_heading(self) -> None:
        heading = self.query_one(Heading)
        resumable = self.view.state.resumable and not self.deeptune.options.read_only
        heading.tell(self.view, self.deeptune.clock(), self._glyphs, self._problem, resumable)

    def _notes(self) -> tuple[str, ...]:
        """Describe the settings of the open page, at length and in short."""
        if self.page in ("curves", "optimizer"):
            return plots.setting_notes(self.setting, pinned=self._pinned is not None)
        if self.page == "log":
            return ("console.log",) if self._printed is not None else ("only warnings",) * self._warnings_only
        return ()

    def _plot(self, charts: plots.Plots) -> None:
        empty = plots.without_values(self.view)
        for id, make in charts.items():
            chart = self.query_one(f"#{id}", Chart)
            chart.set_class(id in empty, "-empty")
            chart.plot(make, self._at)

    def _draw_curves(self) -> None:
        behind = self._pinned[0] if self._pinned is not None else None
        self._plot(plots.curve_plots(self.view, self.setting, behind, both=self.has_class("-wide")))
        if self.has_class("-tall"):  # else there is no room for them
            self.query_one("#machine-now", Machine).tell(self.view, self._glyphs)
            self.query_one("#log-now", LogView).show(list(self._said.lines)[-LINES_BESIDE:])

    def _draw_optimizer(self) -> None:
        self._plot(plots.optimizer_plots(self.view, self.setting))

    def _draw_machine(self) -> None:
        self.query_one("#devices", Machine).tell(self.view, self._glyphs)
        self._plot(plots.machine_plots(self.view))

    def _draw_log(self) -> None:
        lines = list(self._said.lines)
        if self._failure is not None and self.view.state.word != "failed":  # whose log tells it
            lines += crash_lines(self._failure)
        total = self._said.total + len(lines) - len(self._said.lines)
        self.query_one(LogPage).tell(lines, total, self._printed, warnings_only=self._warnings_only)

    def _draw_results(self) -> None:
        if self._outcome is not None:
            usable = not self.deeptune.options.read_only
            self.query_one(Results).tell(self._outcome, self.view.state, usable=usable)

    def _draw_examples(self) -> None:
        nothing = "predictions come when the run has ended"
        if self.view.state.word == "done":
            nothing = "reading the predictions …" if self._worst is None else "no test row was predicted wrongly"
        elif self.view.state.over:
            nothing = "no predictions: it ended before it was scored"
        self.query_one(Examples).tell(self._worst or [], nothing)

    # Pages and settings.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Enable the actions that make sense now."""
        state = self.view.state
        if super().check_action(action, parameters) is False:
            return False
        if action in ("metric", "find", "unit", "log_y", "smooth"):
            return self.page in ("curves", "optimizer") and not self.has_class("-no-curves")
        if action in ("filter", "warnings", "console"):
            return self.page == "log"
        if action == "use":
            return state.word == "done"
        if action in ("embeddings", "again", "copy"):
            return state.word != "deleted"
        if action == "stop":
            return self._caught_up and not state.over
        return state.resumable if action == "resume" else True

    def action_page(self, page: str) -> None:
        self.page, self._at = page, None
        self.query_one(ContentSwitcher).current = page
        self._want()
        opened = self.query_one(f"#{page}")
        usual = (widget for widget in opened.query("*") if widget.focusable and widget.display)
        first = self.query_one("#next") if page == "results" else next(usual, None)
        self.set_focus(first)
        self.refresh_bindings()
        self.call_after_refresh(self._draw)
        self.look()

    def _want(self) -> None:
        wanted = {WANTS.get(self.page, ""), "console" if self._printed is not None else ""}
        self._follower.wanted = wanted - {""}

    @on(Tabs.Opened)
    def _open(self, message: Tabs.Opened) -> None:
        self.action_page(message.page)

    def action_filter(self) -> None:
        self.query_one(LogPage).open_filter()

    @on(LogView.Earlier)
    def _read_earlier(self) -> None:
        if self._printed is not None and self._printed.partial:
            self._follower.read_earlier()
            self.look()

    def action_warnings(self) -> None:
        self._warnings_only = not self._warnings_only
        self._draw()

    def action_console(self) -> None:
        self._printed = Printed([], 0, read=False) if self._printed is None else None
        self._follower.forget_console()
        self._want()
        self._draw()
        self.look()

    # Acting.

    def action_stop(self) -> None:
        self.deeptune.stop_run(self.run)

    def action_resume(self) -> None:
        self.deeptune.resume_run(self.run)

    @work(group="use")
    async def action_use(self) -> None:
        choices = [Choice(verb, verb.capitalize()) for verb in USES]
        text = "\n".join(f"{verb.capitalize()}: {words}." for verb, words in USES.items())
        if (verb := await self.deeptune.ask("Use the model of this run", text, choices)) in USES:
            self.deeptune.open_use(self.run, cast("Verb", verb))

    @on(Results.Use)
    def _use(self, message: Results.Use) -> None:
        self.deeptune.open_use(self.run, message.verb)

    def action_embeddings(self) -> None:
        self.deeptune.open_embeddings(self.run)

    def action_again(self) -> None:
        self.deeptune.open_wizard(self.run.spec)

    def action_copy(self) -> None:
        self.deeptune.copy(str(self.run.path))

    @on(Results.Chosen)
    def _copy(self, message: Results.Chosen) -> None:
        self.deeptune.copy(message.text)

    def action_back(self) -> None:
        """Clear the cursor or the filter first, then close the screen. The run continues."""
        if self._at is not None or self.setting.window is not None:
            self._at = None
            self._set(window=None)
        elif self.page != "log" or not self.query_one(LogPage).close_filter():
            if not self.view.state.over and self._caught_up:
                self.deeptune.tell(f"the run continues; in a shell: deeptune attach {self.run.reference}")
            super().action_back()

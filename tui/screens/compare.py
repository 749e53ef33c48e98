"""Runs side by side, as many as fit: curves, test metrics, and the differences of their specs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.worker import get_current_worker

from deeptune.errors import DeepTuneError
from deeptune.formatting import visible
from deeptune.report.tables import latex_table, markdown_table, sentence_title
from deeptune.runs import RunDirectory
from deeptune.show import chart
from deeptune.show.chart import Row
from deeptune.show.comparison import Facts, caution, differences, read_facts, scores
from deeptune.show.curves import UNITS, after
from deeptune.show.series import Series
from deeptune.show.view import View, chosen_metric
from tui.compositor import FrugalCompositor
from tui.screens.ask import Choice
from tui.screens.base import DeepTuneScreen
from tui.side_by_side import LABELS
from tui.widgets.chart import Chart
from tui.widgets.comparison_on_file import OnFile
from tui.widgets.monitor.follow import Follower, News
from tui.widgets.paired_differences import NAMES, Differences
from tui.widgets.styled_lines import Lines, wrapped

STYLES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
SIGNS = "oxv#+%@="
MARGIN = 4  # cells beside the tables: padding and a scroll bar
LOOK, LOOK_OVER_SSH = 2.0, 5.0  # seconds


class CompareScreen(DeepTuneScreen):
    """Shows charts above and tables below, and follows runs in progress."""

    CSS_PATH = "compare.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "metric", "Metric", id="compare.metric", tooltip="The next loss or metric"),
        Binding("f", "find", "Find metric", id="compare.find", tooltip="Choose the metric by a part of its name"),
        Binding("x", "unit", "Axis", id="compare.axis", tooltip="Over epochs, steps or time"),
        Binding("r", "reference", "Against", id="compare.reference", tooltip="Compare with the next of the runs"),
        Binding("d", "data", "On a file", id="compare.data", tooltip="Score and compare the runs on a labelled file"),
        Binding("l", "log_y", "Log y", id="compare.log_y", tooltip="Logarithmic y axis, and back"),
        Binding("y", "copy('markdown')", "Markdown", id="compare.markdown", tooltip="Copy the metrics as Markdown"),
        Binding("t", "copy('latex')", "LaTeX", id="compare.latex", tooltip="Copy the metrics as LaTeX (booktabs)"),
        Binding("pageup", "page(-1)", show=False, id="compare.page_up", tooltip="Scroll the tables back"),
        Binding("pagedown", "page(1)", show=False, id="compare.page_down", tooltip="Scroll the tables on"),
    ]

    SHORT: ClassVar[dict[str, str]] = {"find": "Find", "reference": "Ref", "data": "File"}

    class Read(Message):
        """Posted with the news of the run at this place in the list."""

        def __init__(self, place: int, news: News, facts: Facts | None) -> None:
            super().__init__()
            self.place, self.news, self.facts = place, news, facts

    class Compared(Message):
        """Posted with the differences of the runs on their common test rows, why there are none, or how far it is."""

        def __init__(self, found: Differences) -> None:
            super().__init__()
            self.found = found

    def __init__(self, runs: list[RunDirectory]) -> None:
        super().__init__()
        self._compositor = FrugalCompositor()
        self.runs = runs
        self.where = f"Compare · {len(runs)} runs"
        self.views = [View(run) for run in runs]
        self.facts = [Facts() for _ in runs]
        self.unit, self.log_y, self.metric = "epoch", False, 0
        self._followers = [Follower(run) for run in runs]
        self._reading = False
        self._asked = False  # for the differences, once all runs are over
        self._compared = Differences()
        self._reference = 0  # the place of the run that others are compared with
        self._on_file = OnFile(self, self._draw)
        self._at: float | None = None
        self._window: tuple[float, float] | None = None  # of the x axis

    def body(self) -> Iterable[Widget]:
        with Horizontal(id="charts"):
            yield Chart(id="first")
            yield Chart(id="second")
        with VerticalScroll(id="tables"):
            yield Lines(id="table")

    def on_mount(self) -> None:
        super().on_mount()
        options = self.deeptune.options
        for widget in self.query(Chart):
            widget.glyphs = chart.ChartGlyphs(ascii=not options.dots, mono=not options.color)
        self.query_one("#first").focus()
        self.every(LOOK_OVER_SSH if options.ssh else LOOK, self.look)

    # Reading.

    def look(self) -> None:
        if self.is_mounted and not self._reading:
            self._reading = True
            self._read()

    @work(thread=True, group="follow")
    def _read(self) -> None:
        try:
            for place, follower in enumerate(self._followers):
                for news in follower.news():
                    if get_current_worker().is_cancelled:
                        return
                    facts = read_facts(self.runs[place]) if news.state is not None else None
                    self.post_message(self.Read(place, news, facts))
        finally:
            self._reading = False

    @on(Read)
    def _take(self, message: Read) -> None:
        view = self.views[message.place]
        for event in message.news.events:
            view.take(event)
        if message.news.state is not None and message.facts is not None:
            view.state, self.facts[message.place] = message.news.state, message.facts
            self._draw()
        if not self._asked and all(each.state.over for each in self.views) and all(each.test for each in self.facts):
            self._asked = True
            self._compare()

    @work(thread=True, group="compare")
    def _compare(self) -> None:
        from deeptune.report.comparing import compare_runs
        from tui.run_comparison import ShownComparison

        def progress(done: int, total: int) -> None:
            self.post_message(self.Compared(Differences(progress=(done, total))))

        ids = [run.id for run in self.runs]
        progress(0, len(ids) * (len(ids) - 1) // 2)
        try:
            found = Differences(ShownComparison.of(compare_runs([run.path for run in self.runs], progress)))
        except DeepTuneError as error:
            short = error.message.replace(f"{self.runs[0].path.parent}/", "")
            found = Differences(reason=short, ids=ids)
        except Exception as error:  # files of a run may be damaged in any way
            found = Differences(reason=f"the runs can't be compared: {error}", ids=ids)
        self.post_message(self.Compared(found))

    @on(Compared)
    def _take_differences(self, message: Compared) -> None:
        self._compared = message.found
        self._draw()

    # Drawing.

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        names = self._curves()
        chosen = names[self.metric % len(names)]
        other = chosen if chosen != names[0] else names[1 % len(names)]
        both = self.has_class("-wide")
        self.query_one("#first", Chart).plot(partial(self._chart, names[0] if both else chosen), self._at)
        self.query_one("#second", Chart).plot(partial(self._chart, other), self._at)
        self.query_one("#table", Lines).show(self._tables())

    def _curves(self) -> list[str]:
        """List the names of the curves: val loss, the metrics that chose epochs, train loss, the others."""
        found = dict.fromkeys(name for view in self.views for name in view.history.epochs.values)
        first = ["val/loss", *(f"val/{chosen_metric(view)}" for view in self.views), "train/loss"]
        return [name for name in dict.fromkeys([*first, *found]) if name in found] or ["val/loss"]

    def _chart(self, name: str) -> chart.Chart:
        split, _, metric = name.partition("/")
        series = []
        for place, view in enumerate(self.views):
            epochs = view.history.epochs
            if name in epochs.values:
                x, y = epochs.x(self.unit), epochs.values[name]
                series.append(Series(NAMES[place], x, y, STYLES[place], SIGNS[place]))
        growing = any(not view.state.over for view in self.views)
        title = f"{split} {sentence_title(metric)}"
        return chart.Chart(series, self.unit, self.log_y, title, growing, window=self._window)

    def _tables(self) -> list[Row]:
        """Make the tables: the runs by letter, their metrics with the best of each marked, and their differing keys."""
        star = "*" if self.deeptune.options.ascii else "★"
        other = "the others" if len(self.runs) > 2 else NAMES[1 - self._reference]
        rows: list[Row] = [
            [
                (f"{NAMES[place]} ", STYLES[place]),
                (visible(self.facts[place].name or view.directory.id), "value"),
                (f"  {view.state.word}", "label"),
                (f"  {other} less this" if place == self._reference else "", "label"),
            ]
            for place, view in enumerate(self.views)
        ]
        note = caution(self.facts)
        if note:
            rows += [[], *([(line, "warn")] for line in wrapped(f"! {note}", self.size.width - MARGIN, 2))]
        if table := scores([each.test for each in self.facts]):
            cells = [
                (title, [(f"{value} {star if best else ' '}", "good" if best else "value") for value, best in pairs])
                for title, values, bests in table
                for pairs in [zip(values, [each and not note for each in bests], strict=True)]
            ]
            counts = [(f"{each.test['n']:,}  " if "n" in each.test else "-  ", "label") for each in self.facts]
            rows += [[], *self._aligned("test", [*cells, ("rows", counts)])]
        else:
            rows += [[], [("test metrics come when a run has scored its test split", "label")]]
        minus = "-" if self.deeptune.options.ascii else "−"
        width = self.size.width - MARGIN
        rows += self._on_file.rows(width, minus, self._reference)
        rows += self._compared.rows(width, minus, self._reference)
        found = differences([each.spec for each in self.facts])
        spec_rows = [(key, [(f"{visible(value)}  ", "value") for value in values]) for key, values in found]
        rows += [
            [],
            *(self._aligned("spec", spec_rows) if spec_rows else [[("the specs are the same but for names", "label")]]),
        ]
        return rows

    def _aligned(self, head: str, rows: list[tuple[str, list[tuple[str, str]]]]) -> list[Row]:
        """Make a table with a column for each run, as wide as its longest text; long ones are cut."""
        widest = max(10, (self.size.width - LABELS) // len(self.runs))
        left = max(len(name) for name, _ in [(head, []), *rows]) + 2
        widths = [min(max(len(cells[place][0]) for _, cells in rows), widest) for place in range(len(self.runs))]
        table: list[Row] = [
            [(f"{head:<{left}}", "title")]
            + [(f"{NAMES[place] + '  ':>{width + 2}}", STYLES[place]) for place, width in enumerate(widths)]
        ]
        for name, cells in rows:
            line: Row = [(f"{name:<{left}}", "label")]
            for (text, style), width in zip(cells, widths, strict=True):
                text = text if len(text) <= width else f"..{text.rstrip()[4 - width :]}  "
                line.append((f"{text:>{width + 2}}", style))
            table.append(line)
        return table

    # Keys.

    def action_metric(self) -> None:
        self.metric = (self.metric + 1) % len(self._curves())
        self._draw()

    def action_reference(self) -> None:
        self._reference = (self._reference + 1) % len(self.runs)
        self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable scoring in a read-only session: it is recorded as a look at test rows."""
        if action == "data" and self.deeptune.options.read_only:
            return False
        return super().check_action(action, parameters)

    @work(group="data")
    async def action_data(self) -> None:
        """Pick a labelled file and compare the runs on it, or ask whether to cancel what is in progress."""
        from tui.screens.pick import PickScreen

        if self._on_file.working:
            choices = [Choice("on", "Keep it going"), Choice("cancel", "Cancel it", dangerous=True)]
            if await self.deeptune.ask("Cancel the comparison?", "Nothing of it is kept.", choices) == "cancel":
                await self._on_file.cancel()
            return
        named = self.facts[0].spec.get("data.path") or self.facts[0].spec.get("data.train")
        folder = Path(str(named)).parent
        picked = await self.app.push_screen_wait(PickScreen(folder if folder.is_dir() else Path.cwd()))
        if picked is not None:
            await self._on_file.start(self.runs, picked)

    def on_unmount(self) -> None:
        self._on_file.kill()

    def action_page(self, way: int) -> None:
        """Scroll the tables by a page while a chart has the focus."""
        tables = self.query_one("#tables", VerticalScroll)
        (tables.scroll_page_down if way > 0 else tables.scroll_page_up)(animate=False)

    def action_unit(self) -> None:
        self.unit, self._at, self._window = after(self.unit, UNITS), None, None
        self._draw()

    def action_log_y(self) -> None:
        self.log_y = not self.log_y
        self._draw()

    @on(Chart.Moved)
    def _move_cursor(self, message: Chart.Moved) -> None:
        self._at = message.x
        self._draw()

    @on(Chart.Zoomed)
    def _zoom(self, message: Chart.Zoomed) -> None:
        self._window = message.window
        self._draw()

    @work
    async def action_find(self) -> None:
        from tui.screens.choose import ChooseScreen

        names = self._curves()
        if chosen := await self.app.push_screen_wait(ChooseScreen("Metric", names)):
            self.metric = names.index(chosen)
            self._draw()

    def action_copy(self, form: str) -> None:
        table = scores([each.test for each in self.facts])
        if not table:
            self.deeptune.tell("there are no test metrics to copy yet")
            return
        write = markdown_table if form == "markdown" else latex_table
        self.deeptune.copy(
            write(("Test metric", *(run.id for run in self.runs)), [(title, *values) for title, values, _ in table])
        )

    def action_back(self) -> None:
        """Clear the cursor and the zoom first, then close the screen."""
        if self._at is not None or self._window is not None:
            self._at = self._window = None
            self._draw()
        else:
            super().action_back()
